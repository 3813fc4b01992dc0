"""A round's groups on disk, part by part."""

from __future__ import annotations

import itertools
from pathlib import Path

from rayalign.records import Groups, TrainingGroup
from rayalign.store.group_parts import SHARDS_PER_PART, groups_of, parts_of, read_drop_reasons, write_part
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import read_parquet


def group(number: int, reason: str | None = None) -> TrainingGroup:
    answers, logprobs = [[5], [6]], [[-1.0], [-1.0]]
    return TrainingGroup(f"{number:016x}", [1, number], [0, 1], answers, logprobs, [0.0, 1.0], drop_reason=reason)


def test_every_shard_is_in_one_part() -> None:
    shards = list(range(2 * SHARDS_PER_PART + 3))
    parts = parts_of(shards)
    assert list(itertools.chain(*parts)) == shards
    assert [len(part) for part in parts] == [SHARDS_PER_PART, SHARDS_PER_PART, 3]


def test_kept_groups_are_sorted_and_dropped_ones_are_named(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    round_dir = run_dir.round(2)
    late = write_part(round_dir, 1, [group(9), group(7)])
    early = write_part(round_dir, 0, [group(3), group(2, "no_reward"), group(1), group(4, "one_response")])
    groups = groups_of([late, early], {"negatives": 2.0})
    assert groups == Groups(
        files=["rounds/0002/groups/00000.parquet", "rounds/0002/groups/00001.parquet"],
        kept=4,
        dropped={"no_reward": 1, "one_response": 1},
        stats={"responses": 8.0, "negatives": 2.0},
        drop_files=["rounds/0002/dropped/00000.parquet"],
    )
    rows = [row for name in groups.files for row in read_parquet(run_dir.root / name)]
    assert [TrainingGroup.from_row(row) for row in rows] == [group(1), group(3), group(7), group(9)]
    reasons = {group(2).prompt_id: "no_reward", group(4).prompt_id: "one_response"}
    assert read_drop_reasons(run_dir, groups.drop_files) == reasons


def test_a_part_of_which_nothing_is_kept_is_an_empty_file(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    groups = groups_of([write_part(run_dir.round(1), 0, [group(1, "no_reward")])], {})
    assert (groups.kept, len(groups.files)) == (0, 1)
    assert read_parquet(run_dir.root / groups.files[0]) == []


def test_the_commit_of_an_older_version_is_read() -> None:
    saved = {"files": ["f"], "kept": 1, "dropped": {"no_reward": 1}, "stats": {}, "drop_reasons": {"a": "no_reward"}}
    assert Groups.from_commit(saved) == Groups(["f"], 1, {"no_reward": 1})
