"""The held-out answers that a run stored, as numbers: rewards and lengths per prompt. Texts are not read.

A file counts only if a commit names it and has its hash; what cannot be read is named, and the rest is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rayalign.dashboard.answer_files import KEYS, Damage, Shard, read_answers, read_each, shards_of
from rayalign.store.round_dir import RoundDir

if TYPE_CHECKING:
    import pyarrow as pa

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """The held-out answers of one round."""

    round: int
    prompts: tuple[str, ...]
    """Their ids, sorted."""
    rewards_PK: FloatArray
    """Combined rewards, P prompts by K answers; NaN where a scorer gave none, or where a prompt has fewer answers."""
    tokens_PK: FloatArray
    """Lengths of the same answers; NaN where there is none."""


def read_held_out(round_dir: RoundDir) -> tuple[HeldOut | None, list[str]]:
    """What is stored of a round's evaluation, and what of it is damaged, in words."""
    problems: list[str] = []
    ids, rewards, tokens = [], [], []
    for _, read in read_each(lambda shard: _answers(round_dir, shard), shards_of(round_dir, "evaluation")):
        if isinstance(read, Damage):
            problems.append(str(read))
            continue
        samples, scores = read
        ids += scores["prompt_id"].to_pylist()
        rewards.append(_numbers(scores["reward"]))
        tokens.append(_lengths(samples["token_ids"]))
    if not ids:
        return None, problems
    return _by_prompt(round_dir.index, ids, np.concatenate(rewards), np.concatenate(tokens)), problems


def _answers(round_dir: RoundDir, shard: Shard) -> tuple[pa.Table, pa.Table] | Damage:
    try:
        return read_answers(round_dir, shard, [*KEYS, "token_ids"], [*KEYS, "reward"])
    except Damage as damage:
        return damage


def _numbers(column: pa.ChunkedArray) -> FloatArray:
    """Null as NaN. Not `to_numpy`, which imports pandas: a second for nothing."""
    return np.array(column.to_pylist(), dtype=np.float64)


def _lengths(column: pa.ChunkedArray) -> FloatArray:
    import pyarrow.compute as pc

    return _numbers(pc.call_function("list_value_length", [column]))


def _by_prompt(index: int, ids: Sequence[str], rewards_N: FloatArray, tokens_N: FloatArray) -> HeldOut:
    """Rows of answers as a row per prompt; the answers of a prompt keep their order."""
    prompts = sorted(set(ids))
    place = {prompt: row for row, prompt in enumerate(prompts)}
    rows_N = np.array([place[one] for one in ids])
    order = np.argsort(rows_N, kind="stable")
    counts_P = np.bincount(rows_N, minlength=len(prompts))
    columns = np.arange(len(ids)) - np.repeat(np.cumsum(counts_P) - counts_P, counts_P)
    rewards_PK = np.full((len(prompts), counts_P.max()), np.nan)
    tokens_PK = rewards_PK.copy()
    rewards_PK[rows_N[order], columns] = np.where(np.isfinite(rewards_N), rewards_N, np.nan)[order]
    tokens_PK[rows_N[order], columns] = tokens_N[order]
    return HeldOut(index, tuple(prompts), rewards_PK, tokens_PK)
