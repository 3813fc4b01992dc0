"""How a backend is asked, so that whatever it raises or gives costs the answers at fault and nothing else.

answers ─► backend ─┬─ a score each ──────────────────────────────► checked, in order
                    └─ raises, or gives another number of scores ─► each answer asked alone ─► checked, in order
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.backend import Backend
from rayalign.scoring.failures import STOPS, Alone, reason_of, storable, without_surrogates
from rayalign.scoring.service_scorers import Service

Ask = Callable[[Sequence[Prompt], Sequence[Sample]], list[Score]]


def ask_backend(
    backend: Backend | Service, prompts: Sequence[Prompt], samples: Sequence[Sample], left_s: float | None = None
) -> list[Score]:
    """One score per sample, in their order; never raises what the backend raises.

    A service is not asked again about an answer alone: it may compare, and it repeats its calls itself.

    Args:
        prompts: the prompt of each sample.
        left_s: time that a service has.
    """
    if not samples:
        return []
    if isinstance(backend, Service):
        return _ask(backend, lambda p, s: backend.score(p, s, left_s), prompts, samples, again=False)
    return _ask(backend, backend.score, prompts, samples, again=True)


def _ask(
    backend: Backend | Service, ask: Ask, prompts: Sequence[Prompt], samples: Sequence[Sample], *, again: bool
) -> list[Score]:
    started = time.perf_counter()
    try:
        scores = ask(prompts, samples)
        if len(scores) != len(samples):
            raise RuntimeError(f"{len(scores)} scores for {len(samples)} answers")
        return [_checked(score) for score in scores]
    except STOPS:
        raise
    except BaseException as error:
        seconds = (time.perf_counter() - started) / len(samples)
        failed = Score(backend.name, backend.version, "error", reason=reason_of(error), latency_s=seconds)
    scores, alone = [failed] * len(samples), Alone(len(samples) if again else 0)
    for place in alone.places():
        (score,) = _ask(backend, ask, [prompts[place]], [samples[place]], again=False)
        scores[place] = dataclasses.replace(score, aspects={**score.aspects, "asked_alone": 1.0})
        alone.note(score.status in ("error", "timeout"))
    return scores


def _checked(score: Score) -> Score:
    """The score as a run can store it: its reward is finite, or it is an `error`, and UTF-8 can hold its texts."""
    if score.reward is not None and not math.isfinite(score.reward):
        reason = f"its reward is {score.reward}, which is not a finite number"
        return dataclasses.replace(score, status="error", reward=None, verdict=None, judgment=None, reason=reason)
    texts = {"reason": score.reason and storable(score.reason)}
    texts["judgment"] = score.judgment and without_surrogates(score.judgment)
    if (score.reason, score.judgment) == (texts["reason"], texts["judgment"]):
        return score
    return dataclasses.replace(score, **texts)
