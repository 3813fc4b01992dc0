"""Whether a round's committed files, each as it was written, fit each other.

prompts.parquet ◄─ samples ◄─ scores     the same (prompt, index), each once, in one order
      ▲               └─► `sampler`      every answer is of the adapter that was to give it
      └── groups                         of the round's prompts, and of answers that there are
adapter ─► its parent, the run's base    `sha256` is that of its weights
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from rayalign.records import FROM_DATASET, JsonObject, weights_file
from rayalign.store.damage import Problem
from rayalign.store.round_dir import RoundDir, read_commit
from rayalign.store.run_dir import RunDir

if TYPE_CHECKING:
    import pyarrow as pa

Key = tuple[str, int]


def contents_of(run_dir: RunDir, round_dir: RoundDir, damaged: Collection[str | None]) -> Iterator[Problem]:
    """What does not fit, in words.

    Args:
        damaged: commits whose files are not looked at.
    """
    names = (name for name in round_dir.commits() if name not in damaged)
    commits = {name: found for name in names if (found := read_commit(round_dir.commit_bytes(name) or b""))}
    answers: set[Key] = set()
    prompts = set(round_dir.prompt_ids()) if "prompts" in commits else None
    for name, commit in commits.items():
        if not (tables := _tables(commit)):
            continue
        keys, words = _keys_of_shard(round_dir, tables, commit)
        if name.startswith("train-"):
            answers |= set(keys)
            words += _of_training(round_dir, tables, keys, prompts, commits.get("prompts", {}))
        yield from (Problem(name, one) for one in words)
    whole = not any(name and name.startswith(("train-", "prompts")) for name in damaged)
    if (groups := commits.get("groups")) is not None and whole and prompts is not None:
        yield from (Problem("groups", one) for one in _of_groups(round_dir, groups, prompts, answers))
    if (adapter := commits.get("adapter")) is not None:
        yield from (Problem("adapter", one) for one in _of_adapter(run_dir, round_dir, adapter))


def _tables(commit: JsonObject) -> tuple[str, str] | None:
    """The files of samples and of scores that a shard's commit names; null where it is none of a shard's."""
    samples = [name for name in commit["files"] if posixpath.basename(posixpath.dirname(name)) == "samples"]
    scores = [name for name in commit["files"] if posixpath.basename(posixpath.dirname(name)) == "scores"]
    return (samples[0], scores[0]) if len(samples) == len(scores) == 1 else None


def _columns(round_dir: RoundDir, relative: str, *names: str) -> pa.Table:
    import pyarrow.parquet as pq

    with (round_dir.root / relative).reading() as file:
        return pq.ParquetFile(file).read(list(names), use_threads=False)


def _keys(table: pa.Table) -> list[Key]:
    return list(zip(table["prompt_id"].to_pylist(), table["index"].to_pylist(), strict=True))


def _keys_of_shard(round_dir: RoundDir, tables: tuple[str, str], commit: JsonObject) -> tuple[list[Key], list[str]]:
    samples, scores = (_keys(_columns(round_dir, one, "prompt_id", "index")) for one in tables)
    words = []
    if samples != scores:
        words.append(f"{tables[1]} scores other answers than those in {tables[0]}")
    if len(set(samples)) != len(samples):
        words.append(f"{tables[0]} has an answer twice")
    if commit.get("rows", len(samples)) != len(samples):
        words.append(f"{tables[0]} has {len(samples)} rows, its commit says {commit['rows']}")
    return samples, words


def _of_training(
    round_dir: RoundDir, tables: tuple[str, str], keys: list[Key], prompts: set[str] | None, asked: JsonObject
) -> list[str]:
    words = []
    if prompts is not None and (others := {prompt for prompt, _ in keys} - prompts):
        words.append(f"{tables[0]} answers {len(others)} prompts that are not the round's")
    versions = set(_columns(round_dir, tables[0], "adapter_version")["adapter_version"].to_pylist())
    sampler = asked.get("sampler")
    if sampler is not None and versions - {sampler, FROM_DATASET}:
        words.append(f"{tables[0]} has answers of adapter {sorted(versions)}, its prompts were for {sampler}")
    return words


def _of_groups(round_dir: RoundDir, commit: JsonObject, prompts: set[str], answers: set[Key]) -> Iterator[str]:
    for relative in (name for name in commit["files"] if name.startswith("groups/")):
        table = _columns(round_dir, relative, "prompt_id", "response_indices").to_pylist()
        if others := {row["prompt_id"] for row in table} - prompts:
            yield f"{relative} has groups of {len(others)} prompts that are not the round's"
        lacking = [row for row in table if any((row["prompt_id"], i) not in answers for i in row["response_indices"])]
        if lacking:
            yield f"{relative} has {len(lacking)} groups of answers that are not there"


def _of_adapter(run_dir: RunDir, round_dir: RoundDir, commit: JsonObject) -> Iterator[str]:
    record = commit["adapter"]
    names = {posixpath.basename(name): name for name in commit["files"]}
    weights = names.get(weights_file(names))
    if weights is None or (round_dir.root / weights).sha256() != record["sha256"]:
        yield "the adapter's weights are not what its record says"
    parent = record["parent"]
    if parent and "adapter" not in {*(above := run_dir.round(parent)).commits(), *above.known_commits()}:
        yield f"the adapter's parent, round {parent}, has no adapter"
    base = run_dir.info.get("inputs", {}).get("model_sha256", record["base_model_sha256"])
    if record["base_model_sha256"] != base:
        yield "the adapter is of another base model than the run's"
