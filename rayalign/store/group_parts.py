"""A round's training groups on disk: a file per part, a fixed slice of the round's prompts, written where it is built.

groups/00000.parquet     the part's kept groups, sorted by prompt id
dropped/00000.parquet    its other prompts, each with the reason
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rayalign.records import SHARD_PROMPTS, Groups, TrainingGroup
from rayalign.store.round_dir import PROMPTS_PER_ROW_GROUP, RoundDir
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import parquet_bytes, read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

SHARDS_PER_PART = PROMPTS_PER_ROW_GROUP // SHARD_PROMPTS
"""A part has as many shards as share a row group of `prompts.parquet`."""


@dataclass(frozen=True, slots=True)
class GroupPart:
    """What was written of one part."""

    file: str
    """Relative to the run folder."""
    kept: int
    responses: int
    """Responses of the kept groups."""
    dropped: dict[str, int]
    """Groups per drop reason."""
    drop_file: str | None
    """The file of the dropped groups; null where none was dropped."""


def parts_of(shards: Sequence[int]) -> list[list[int]]:
    """The shards of each part."""
    return [list(shards[start : start + SHARDS_PER_PART]) for start in range(0, len(shards), SHARDS_PER_PART)]


def write_part(round_dir: RoundDir, part: int, groups: Iterable[TrainingGroup]) -> GroupPart:
    """Write the groups of one part, all of them, kept or dropped, in any order."""
    ordered = sorted(groups, key=lambda group: group.prompt_id)
    kept = [group for group in ordered if group.keep]
    dropped = [{"prompt_id": group.prompt_id, "reason": group.drop_reason} for group in ordered if not group.keep]
    name = f"{part:05d}.parquet"
    round_dir.write(f"groups/{name}", parquet_bytes([group.to_row() for group in kept], TrainingGroup.schema()))
    if dropped:
        round_dir.write(f"dropped/{name}", parquet_bytes(dropped, _dropped_schema()))
    return GroupPart(
        file=f"{round_dir.relative}/groups/{name}",
        kept=len(kept),
        responses=sum(len(group.rewards) for group in kept),
        dropped=dict(Counter(row["reason"] for row in dropped)),
        drop_file=f"{round_dir.relative}/dropped/{name}" if dropped else None,
    )


def groups_of(parts: Iterable[GroupPart], facts: dict[str, float]) -> Groups:
    """All parts of a round, which may come in any order, as the loop knows them."""
    ordered = sorted(parts, key=lambda part: part.file)
    dropped: Counter[str] = Counter()
    for part in ordered:
        dropped.update(part.dropped)
    return Groups(
        files=[part.file for part in ordered],
        kept=sum(part.kept for part in ordered),
        dropped=dict(sorted(dropped.items())),
        stats={"responses": float(sum(part.responses for part in ordered)), **facts},
        drop_files=[part.drop_file for part in ordered if part.drop_file is not None],
    )


def read_drop_reasons(run_dir: RunDir, drop_files: Iterable[str]) -> dict[str, str]:
    """Why prompts were dropped, by prompt id."""
    rows = (row for name in drop_files for row in read_parquet(run_dir.root / name))
    return {row["prompt_id"]: row["reason"] for row in rows}


def _dropped_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([("prompt_id", pa.string()), ("reason", pa.string())])
