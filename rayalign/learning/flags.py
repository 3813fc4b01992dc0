"""CUT's token detection, for people to look at: which tokens of a flawed response its judgment makes likelier."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from rayalign.config.objective import CUTObjective
from rayalign.learning.step import ScoreRows, rows_of
from rayalign.learning.streams import Stream, streams_of
from rayalign.losses.cut import flagged_tokens
from rayalign.records import TrainingGroup


def flagged_examples(
    score: ScoreRows, groups: Sequence[TrainingGroup], objective: CUTObjective, tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, object]]:
    """The first flawed response of each group: prompt id and index of the response, judgment, (token text, flagged)
    pairs, and each token's ratio log p(token | judgment) - log p(token) in nats, null where it is not finite."""
    chosen: list[tuple[TrainingGroup, Stream]] = []
    for group in groups:
        # Beside Hindsight, responses without fault have a judged prompt too.
        flawed = (s for s in streams_of(group, {"judged"}) if group.verdicts[s.index] == "flawed")
        chosen += [(group, stream) for stream in itertools.islice(flawed, 1)]
    plain = [(group.prompt_token_ids, stream.response_token_ids) for group, stream in chosen]
    logps = score([*plain, *rows_of([stream for _, stream in chosen])])
    examples: list[dict[str, object]] = []
    for (group, stream), plain_T, judged_T in zip(chosen, logps[: len(chosen)], logps[len(chosen) :], strict=True):
        ids = stream.response_token_ids
        flags = flagged_tokens(
            torch.tensor([plain_T]),
            torch.tensor([judged_T]),
            torch.ones(1, len(ids), dtype=torch.bool),
            torch.tensor([True]),
            threshold=objective.threshold,
        )[0].tolist()
        tokens = [[tokenizer.decode([token]), flag] for token, flag in zip(ids, flags, strict=True)]
        judgment = group.judgments[stream.index]
        index = group.response_indices[stream.index]
        ratios = [_ratio(judged, plain) for judged, plain in zip(judged_T, plain_T, strict=True)]
        example = {"prompt_id": group.prompt_id, "index": index, "judgment": judgment, "tokens": tokens}
        examples.append({**example, "ratios": ratios})
    return examples


def _ratio(judged: float, plain: float) -> float | None:
    """To three decimals: it is looked at only."""
    ratio = judged - plain
    return round(ratio, 3) if math.isfinite(ratio) else None
