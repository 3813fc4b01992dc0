"""Training groups by Ray Data: committed shards in, one sorted Parquet dataset of groups out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray.data.context import ShuffleStrategy

from rayalign.config import GroupsSection
from rayalign.data.selection import build_group
from rayalign.records import Prompt, TrainingGroup
from rayalign.run_dir import RunDir, parquet_bytes, read_parquet, read_scored, shard_path
from rayalign.stages import Groups, Shard

ROWS_PER_FILE = 4096
SHARDS_PER_TASK = 32


class RayGroupBuilder:
    """`GroupBuilder`: one Ray Data task for several shards; groups sorted by prompt id, dropped ones counted."""

    def __init__(self, run_dir: RunDir, section: GroupsSection) -> None:
        self._run_dir = run_dir
        self._section = section

    def build(self, round_index: int, shards: Sequence[Shard], seed: int) -> Groups:
        round_dir = self._run_dir.round(round_index)
        section = self._section
        root = str(round_dir.root)

        def groups_of(row: dict[str, Any]) -> list[dict[str, Any]]:
            return _shard_groups(Path(root), int(row["shard"]), section)

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # The default shuffle starts worker processes for every sort: 5 s for a few hundred rows.
        context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PUSH_BASED
        blocks = math.ceil(len(shards) / SHARDS_PER_TASK)
        dataset = ray.data.from_items([{"shard": shard.index} for shard in shards], override_num_blocks=blocks)
        dataset = dataset.flat_map(groups_of, num_cpus=0.25).sort("prompt_id")
        files, dropped, kept, responses = [], {}, 0, 0
        for rows in _chunks(dataset):
            for row in rows:
                if row["drop_reason"] is not None:
                    dropped[row["drop_reason"]] = dropped.get(row["drop_reason"], 0) + 1
            keep = [row for row in rows if row["drop_reason"] is None]
            name = f"groups/{len(files):05d}.parquet"
            round_dir.write(name, parquet_bytes(keep, TrainingGroup.schema()))
            files.append(str((round_dir.root / name).relative_to(self._run_dir.root)))
            kept += len(keep)
            responses += sum(len(row["rewards"]) for row in keep)
        return Groups(files, kept, dropped, {"responses": float(responses)})


def _shard_groups(root: Path, shard: int, section: GroupsSection) -> list[dict[str, Any]]:
    scored = read_scored(root / shard_path("train", "samples", shard), root / shard_path("train", "scores", shard))
    by_prompt: dict[str, list[Any]] = {}
    for row in scored:
        by_prompt.setdefault(row.sample.prompt_id, []).append(row)
    prompts = [Prompt.from_row(row) for row in read_parquet(root / "prompts.parquet") if row["id"] in by_prompt]
    return [build_group(prompt, by_prompt[prompt.id], section).to_row() for prompt in prompts]


def _chunks(dataset: Any) -> Iterator[list[dict[str, Any]]]:
    """Rows in order, at most ROWS_PER_FILE at a time."""
    for batch in dataset.iter_batches(batch_size=ROWS_PER_FILE, batch_format="pyarrow"):
        yield batch.to_pylist()
