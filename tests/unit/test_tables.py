"""Parquet in pieces."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

from rayalign.store.folder import Folder
from rayalign.store.tables import read_slice, write_table

SCHEMA = pa.schema([("n", pa.int64())])


@pytest.mark.parametrize("row_group", [1, 7, 20, 100])
def test_a_slice_is_what_was_written(tmp_path: Path, row_group: int) -> None:
    path = Folder(tmp_path / "below" / "numbers.parquet")
    facts = write_table(path, ({"n": i} for i in range(50)), SCHEMA, row_group)
    content = path.read_bytes()
    assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "rows": 50}
    assert path.sha256() == facts["sha256"]
    for start in range(0, 60, 3):
        for count in (1, 8, 50):
            assert [row["n"] for row in read_slice(path, start, count)] == list(range(50))[start : start + count]


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    path = Folder(tmp_path / "numbers.parquet")

    def rows():
        yield {"n": 1}
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_table(path, rows(), SCHEMA, 1)
    assert not path.exists() and path.sha256() is None
