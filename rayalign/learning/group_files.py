"""The round's groups as a learner rank reads them: lengths of all, rows of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.dataset as pads

from rayalign.learning.step import group_tokens
from rayalign.learning.streams import streams_of
from rayalign.records import TrainingGroup
from rayalign.store.folder import Folder


class GroupRows:
    """Some groups by position. They stay packed in an Arrow table, four to eight bytes a number, until one is asked
    for; as Python objects a round's tokens would take ten times as much."""

    def __init__(self, table: pa.Table, positions: Sequence[int]) -> None:
        self.positions = list(positions)
        self._table = table.combine_chunks()
        self._row = {position: row for row, position in enumerate(positions)}

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: int) -> TrainingGroup:
        (row,) = self._table.slice(self._row[position], 1).to_pylist()
        return TrainingGroup.from_row(row)


class GroupFiles:
    """The round's Parquet files.

    Args:
        files: paths below `folder`.
        kinds: the streams that are counted in `tokens`.
        packed: whether rows share their prompt.
    """

    def __init__(self, folder: Folder, files: list[str], kinds: Collection[str], *, packed: bool) -> None:
        self._folder = folder
        filesystem, root = folder.filesystem_and_path()
        paths, schema = [f"{root}/{file}" for file in files], TrainingGroup.schema()
        with folder.explained():
            self._dataset = pads.dataset(paths, format="parquet", schema=schema, filesystem=filesystem)
            self.tokens = [
                group_tokens(streams_of(TrainingGroup.from_row(row), kinds), packed=packed)
                for batch in self._dataset.to_batches(batch_size=READ_TOGETHER, batch_readahead=1, fragment_readahead=1)
                for row in batch.to_pylist()
            ]
        """Tokens of each group in a forward pass, by position."""

    def read(self, positions: Sequence[int]) -> GroupRows:
        with self._folder.explained():
            return GroupRows(self._dataset.take(positions), positions)


READ_TOGETHER = 256
"""Groups that are Python objects at a time while lengths are counted."""
