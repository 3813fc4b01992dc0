"""Self-Contrast's candidate pools: which of a prompt's own answers may serve as negatives (arXiv 2404.00604).

Rank 0 is the answer least similar to the target; equal similarities share the lowest rank. Ratios are real numbers.
Nothing here depends on the order of files or on hash seeds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Literal

from rayalign.config.objective import SelfContrastObjective
from rayalign.errors import DataError
from rayalign.records import Prompt, ScoredSample

PoolMode = Literal["all", "alldedup", "last", "lastdedup"]


def candidate_pool(
    outputs: Sequence[str],
    similarities: Sequence[float],
    *,
    mode: PoolMode,
    k: int,
    ratio: float = 1.0,
    target: str | None = None,
    strip_first: bool = True,
) -> list[int]:
    """Positions of the answers that may be negatives, in their order; fewer than `k` means: skip the prompt.

    Args:
        outputs: the model's answers to one prompt.
        similarities: of each answer to the target.
        mode: `all` and `alldedup` take every answer (each text once); `last` the `ratio` least similar ones, at least
            those of the k lowest ranks; `lastdedup` the same of distinct texts, and never the most similar one.
        k: negatives that are wanted.
        ratio: share of all answers that is kept by the last two; 0 keeps none.
        target: an answer equal to it is never a negative.
        strip_first: " a" and "a" are one text; False compares texts as they are, as the release does.

    Raises:
        DataError: a similarity that is not a number; lengths that differ; a ratio outside 0..1.
    """
    _check(outputs, similarities, ratio)
    ranks = [sum(other < own for other in similarities) for own in similarities]
    texts = [text.strip() if strip_first else text for text in outputs]
    distinct = [i for i, text in enumerate(texts) if text not in texts[:i]] if mode.endswith("dedup") else None
    kept = list(range(len(outputs))) if distinct is None else distinct
    if mode in ("last", "lastdedup"):
        limit = _limit(ranks, kept, int(len(outputs) * ratio), k, strict=mode == "lastdedup") if ratio else 0
        kept = [i for i in kept if ranks[i] < limit]
    return [i for i in kept if outputs[i].strip() and (target is None or outputs[i].strip() != target.strip())]


def _limit(ranks: Sequence[int], kept: Sequence[int], keep: int, k: int, *, strict: bool) -> float:
    """Ranks below this stay. `strict` always leaves the largest out; else at least the k lowest ranks stay."""
    ordered = sorted(ranks[i] for i in kept)
    if strict:
        return ordered[min(keep, len(ordered) - 1)]
    return max(ordered[keep], k) if keep < len(ordered) else math.inf


def pick_negatives(pool: Sequence[int], k: int, *, seed: int, prompt_id: str) -> list[int]:
    """`k` positions of the pool, uniformly, in their order; empty where the pool has fewer."""
    if len(pool) < k:
        return []

    def key(position: int) -> bytes:
        return hashlib.sha256(f"negative:{seed}:{prompt_id}:{position}".encode()).digest()

    return sorted(sorted(pool, key=key)[:k])


def choose_negatives(
    prompt: Prompt, rows: Sequence[ScoredSample], objective: SelfContrastObjective, scorer: str | None, seed: int
) -> list[ScoredSample]:
    """The responses that the prompt's target is contrasted with; none where its pool has too few.

    Args:
        scorer: whose rewards are the similarities; a response without one is no candidate where they are needed.
    """
    similar = {row.sample.index: _similarity(row, scorer) if objective.ranks else 0.0 for row in rows}
    ranked = [row for row in rows if row.sample.token_ids and similar[row.sample.index] is not None]
    k = 1 if objective.negatives == "all" else objective.negatives
    pool = candidate_pool(
        [row.sample.text for row in ranked],
        [value for row in ranked if (value := similar[row.sample.index]) is not None],
        mode=objective.pool,
        k=k,
        ratio=objective.ratio,
        target=prompt.target,
    )
    if objective.negatives != "all":
        pool = pick_negatives(pool, k, seed=seed, prompt_id=prompt.id)
    return [ranked[position] for position in pool]


def _similarity(row: ScoredSample, scorer: str | None) -> float | None:
    return next((score.reward for score in row.scores if score.scorer == scorer and score.status == "ok"), None)


def _check(outputs: Sequence[str], similarities: Sequence[float], ratio: float) -> None:
    if len(outputs) != len(similarities):
        raise DataError(f"{len(outputs)} answers and {len(similarities)} similarities", "each answer needs one")
    bad = next((i for i, value in enumerate(similarities) if not math.isfinite(value)), None)
    if bad is not None:
        raise DataError(
            f"similarity of answer {bad} is {similarities[bad]}",
            "it cannot be ranked",
            "look at the encoder: an empty text or an overflow gives NaN",
        )
    if not 0 <= ratio <= 1:
        raise DataError(f"ratio {ratio}", "it is a share of the answers", "give a number from 0 to 1, such as 0.75")
