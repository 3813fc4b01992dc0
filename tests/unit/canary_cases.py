"""All canaries through one scorer, beside real answers, in one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rayalign.evaluation.canaries import CANARIES, CanaryResult, canary_result, median, score_value
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.backend import Backend


def score_canaries(
    backend: Backend, prompts: Sequence[Prompt], samples: Sequence[Sample]
) -> tuple[list[CanaryResult], list[Score]]:
    """Score every canary beside the real answers, in one call, so that judges that compare can compare them.

    A canary's value is its reward; from a scorer without rewards, 1 for a verdict of `perfect` and 0 for `flawed`.

    Args:
        prompts: of each sample, as in `Backend.score`.
        samples: the real answers.

    Returns:
        One result per canary, and the real answers' scores of this call (a comparing judge's are among the canaries,
        so not those to train on).
    """
    groups: dict[str, tuple[Prompt, list[int]]] = {}
    for position, (prompt, _) in enumerate(zip(prompts, samples, strict=True)):
        groups.setdefault(prompt.id, (prompt, []))[1].append(position)
    owners, answers = list(prompts), list(samples)
    places: dict[tuple[str, str], int] = {}
    for prompt_id, (prompt, positions) in groups.items():
        free = max(samples[position].index for position in positions) + 1
        for offset, (name, write) in enumerate(CANARIES.items()):
            places[prompt_id, name] = len(answers)
            owners.append(prompt)
            answers.append(dataclasses.replace(samples[positions[0]], index=free + offset, text=write(prompt)))
    scores = backend.score(owners, answers)
    values = [score_value(score) for score in scores]
    medians = {prompt_id: median([values[i] for i in positions]) for prompt_id, (_, positions) in groups.items()}
    results = [
        canary_result(name, [(values[places[prompt_id, name]], medians[prompt_id]) for prompt_id in groups])
        for name in CANARIES
    ]
    return results, scores[: len(samples)]
