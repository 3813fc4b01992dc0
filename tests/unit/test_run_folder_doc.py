"""docs/run_folder.md names every column of every table, with its type."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from rayalign.records import SCHEMA_VERSION, Prompt, Sample, Score, ScoredSample, TrainingGroup

TEXT = (Path(__file__).parents[2] / "docs" / "run_folder.md").read_text()


def words(kind: pa.DataType) -> str:
    if kind == Score.struct():
        return "score"
    if pa.types.is_list(kind):
        return f"list of {words(kind.value_type)}"
    if pa.types.is_struct(kind):
        return f"struct({', '.join(f'{field.name}: {words(field.type)}' for field in kind)})"
    return str(kind)


def documented(start: str) -> list[tuple[str, str]]:
    table = TEXT[TEXT.index(start) :].split("|---|---|---|\n", 1)[1].split("\n\n")[0]
    return re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE)


@pytest.mark.parametrize(
    ("start", "fields"),
    [
        ("### prompts.parquet", Prompt.schema()),
        ("### samples/*.parquet", Sample.schema()),
        ("### scores/*.parquet", ScoredSample.schema()),
        ("A score is a struct", Score.struct()),
        ("### groups/*.parquet", TrainingGroup.schema()),
    ],
)
def test_tables_are_the_schemas(start: str, fields: pa.Schema | pa.StructType) -> None:
    assert documented(start) == [(field.name, words(field.type)) for field in fields]


def test_schema_version_is_named() -> None:
    assert f"`schema_version`, at present {SCHEMA_VERSION}." in TEXT
