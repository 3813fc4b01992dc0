"""The held-out answers that a run stored, as numbers: rewards and lengths per prompt. Texts are not read.

A file counts only if a commit names it and has its hash; what cannot be read is named, and the rest is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rayalign.dashboard.readings import section
from rayalign.records import JsonObject
from rayalign.store.folder import Folder
from rayalign.store.round_dir import RoundDir

if TYPE_CHECKING:
    import pyarrow as pa

FloatArray = npt.NDArray[np.float64]
SHARD = "evaluation-"


class DamagedFileError(ValueError):
    """A file of the run is not what its commit says, or cannot be read."""


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
    for name, commit in _commits(round_dir, problems):
        try:
            scores, samples = _tables(round_dir.root, commit)
        except DamagedFileError as error:
            problems.append(f"round {round_dir.index}, {name}: {error}")
            continue
        ids += scores["prompt_id"].to_pylist()
        rewards.append(_numbers(scores["reward"]))
        tokens.append(_lengths(samples["token_ids"]))
    if not ids:
        return None, problems
    return _by_prompt(round_dir.index, ids, np.concatenate(rewards), np.concatenate(tokens)), problems


def _commits(round_dir: RoundDir, problems: list[str]) -> Iterator[tuple[str, JsonObject]]:
    """The files that the commits of held-out shards name, by the commits' names."""
    saved = section(section(round_dir.commit_facts() or {}).get("commits"))
    for name in sorted(saved or round_dir.commits()):
        if not name.startswith(SHARD):
            continue
        try:
            commit = saved.get(name) or json.loads((round_dir.root / "commits" / f"{name}.json").read_text())
        except (OSError, ValueError):
            problems.append(f"round {round_dir.index}: its commit {name} cannot be read")
            continue
        yield name, section(section(commit).get("files"))


def _tables(root: Folder, files: JsonObject) -> tuple[pa.Table, pa.Table]:
    """Scores and samples of a shard, row by row the same answers."""
    found = {}
    for kind, column in (("scores", "reward"), ("samples", "token_ids")):
        relative = next((one for one in files if f"/{kind}/" in one), None)
        if relative is None:
            raise DamagedFileError(f"its commit names no {kind}")
        found[kind] = _read(root / relative, section(files[relative]), ["prompt_id", "index", column])
    scores, samples = found["scores"], found["samples"]
    if not scores.select(["prompt_id", "index"]).equals(samples.select(["prompt_id", "index"])):
        raise DamagedFileError("its scores are not those of its samples")
    return scores, samples


def _read(path: Folder, facts: JsonObject, columns: Sequence[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != facts.get("sha256"):
            raise DamagedFileError(f"{path.name} is not what was committed")
        return pq.ParquetFile(pa.BufferReader(content)).read(columns, use_threads=False)
    except FileNotFoundError:
        raise DamagedFileError(f"{path.name} is missing") from None
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DamagedFileError(f"{path.name} cannot be read ({type(error).__name__})") from error


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
