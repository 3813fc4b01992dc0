"""`rayalign.load_metrics` and `rayalign.load_samples`: what a run measured and answered, as tables of pandas."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, get_args

from rayalign.errors import DataError
from rayalign.records import SHARD_PROMPTS, JsonObject, Metric, ScoredPurpose, ScoredSample
from rayalign.store.held_out import read_held_out
from rayalign.store.round_dir import RoundDir
from rayalign.store.saved_run import SavedRun

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Rounds = int | Iterable[int] | None


def load_metrics(run: str | os.PathLike[str], *, rounds: Rounds = None) -> pd.DataFrame:
    """The metrics of finished rounds, one row per round, purpose and metric.

    Columns: `round`, `purpose` (`evaluation`: on held-out prompts; `train`: of the update), `metric`, `value`, and of
    an evaluation's metrics `n` (answers or pairs), `ci_low`, `ci_high` (95 % interval); units are the report's.

    Args:
        run: the run's folder or URI.
        rounds: a round or several; None takes all that are finished.

    Raises:
        RunFolderError: no such run or round, or damaged files.
    """
    import pyarrow as pa

    schema = pa.schema(
        [
            ("round", pa.int64()),
            ("purpose", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("n", pa.int64()),
            ("ci_low", pa.float64()),
            ("ci_high", pa.float64()),
        ]
    )
    rows = [row for one in _chosen(SavedRun.at(os.fspath(run)), rounds) for row in _metric_rows(one)]
    return _frame(pa.Table.from_pylist(rows, schema=schema))


def load_samples(
    run: str | os.PathLike[str],
    *,
    rounds: Rounds = None,
    purposes: ScoredPurpose | Iterable[ScoredPurpose] = ("train", "evaluation"),
) -> pd.DataFrame:
    """The answers of finished rounds, one row each, with their scores.

    Columns: `round`, `purpose`, `prompt_id`, `index`, `prompt` (the last message; null for held-out prompts of a run
    whose folder does not hold them), `text`, `tokens` (how many), `finish_reason`, `adapter_version`, `reward`
    (combined; null where one is missing), and of every scorer `reward/NAME` (null unless its status is ok) and
    `status/NAME`.

    Args:
        run: the run's folder or URI.
        rounds: a round or several; None takes all that are finished.
        purposes: `train`, `evaluation` (on held-out prompts), `greedy` (the same without chance), or several of them.

    Raises:
        DataError: another purpose.
        RunFolderError: no such run or round, or damaged files.
    """
    import pyarrow as pa

    wanted = [purposes] if isinstance(purposes, str) else list(purposes)
    if unknown := [one for one in wanted if one not in get_args(ScoredPurpose)]:
        raise DataError(
            f"purposes: {unknown[0]!r}", "a run has no such answers", f"use {', '.join(get_args(ScoredPurpose))}"
        )
    opened = SavedRun.at(os.fspath(run))
    parts = [_sample_schema(()).empty_table()]
    held_out = {prompt.id: prompt.text for prompt in read_held_out(opened.run_dir.root)}
    for round_dir in _chosen(opened, rounds):
        for purpose in wanted:
            parts += _sample_tables(round_dir, purpose, held_out)
    return _frame(pa.concat_tables(parts, promote_options="default"))


def _chosen(run: SavedRun, rounds: Rounds) -> list[RoundDir]:
    """The finished rounds that were asked for, in order."""
    if rounds is None:
        return run.run_dir.rounds()
    return [run.finished(index) for index in sorted({rounds} if isinstance(rounds, int) else set(rounds))]


def _metric_rows(round_dir: RoundDir) -> Iterator[JsonObject]:
    if round_dir.committed("report") is None:
        return
    report = round_dir.report() or {}
    for name, found in report.get("metrics", {}).items():
        metric = Metric.from_dict(found)
        low, high = metric.ci95
        row = {"round": round_dir.index, "purpose": "evaluation", "metric": name, "value": metric.value}
        yield {**row, "n": metric.n, "ci_low": low, "ci_high": high}
    for name, value in report.get("training", {}).items():
        if isinstance(value, int | float):
            yield {"round": round_dir.index, "purpose": "train", "metric": name, "value": float(value)}


def _sample_schema(scorers: Iterable[str]) -> pa.Schema:
    import pyarrow as pa

    fields = [
        ("round", pa.int64()),
        ("purpose", pa.string()),
        ("prompt_id", pa.string()),
        ("index", pa.int64()),
        ("prompt", pa.string()),
        ("text", pa.string()),
        ("tokens", pa.int64()),
        ("finish_reason", pa.string()),
        ("adapter_version", pa.int64()),
        ("reward", pa.float64()),
    ]
    for name in scorers:
        fields += [(f"reward/{name}", pa.float64()), (f"status/{name}", pa.string())]
    return pa.schema(fields)


def _sample_tables(round_dir: RoundDir, purpose: str, held_out: Mapping[str, str]) -> Iterator[pa.Table]:
    """One table per committed shard.

    Args:
        held_out: texts of held-out prompts by id.
    """
    import pyarrow as pa

    for shard in round_dir.shards(purpose):
        read = round_dir.read_shard(purpose, shard) or []
        asked = round_dir.read_prompts(shard * SHARD_PROMPTS, SHARD_PROMPTS) if purpose == "train" else []
        texts = {prompt.id: prompt.text for prompt in asked} if purpose == "train" else held_out
        rows = [_sample_row(round_dir.index, purpose, row, texts.get(row.sample.prompt_id)) for row in read]
        names = dict.fromkeys(score.scorer for row in read for score in row.scores)
        yield pa.Table.from_pylist(rows, schema=_sample_schema(names))


def _sample_row(round_index: int, purpose: str, row: ScoredSample, prompt: str | None) -> JsonObject:
    sample = row.sample
    return {
        "round": round_index,
        "purpose": purpose,
        "prompt_id": sample.prompt_id,
        "index": sample.index,
        "prompt": prompt,
        "text": sample.text,
        "tokens": len(sample.token_ids),
        "finish_reason": sample.finish_reason,
        "adapter_version": sample.adapter_version,
        "reward": row.reward,
        **{f"reward/{score.scorer}": score.reward for score in row.scores},
        **{f"status/{score.scorer}": score.status for score in row.scores},
    }


def _frame(table: pa.Table) -> pd.DataFrame:
    """With `n` as whole numbers that may be missing, which numpy's cannot."""
    frame = table.to_pandas()
    return frame.astype({"n": "Int64"}) if "n" in frame else frame
