"""Datasets whose fields have names of their own, and errors that say how to name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rayalign.cli import exit_code
from rayalign.config.base import FieldName
from rayalign.data.dataset import BadRow, DatasetRow
from rayalign.data.loading import load_dataset_rows
from rayalign.data.own_names import OwnNames
from rayalign.data.prompts import load_prompt_rows
from rayalign.errors import DataError
from tests.unit.format_cases import CAR, COD, FISH, PAIR, user

OWN: dict[FieldName, str] = {"prompt": "q", "chosen": "good", "rejected": "bad"}
ROW = {"q": FISH, "good": COD, "bad": CAR}


def written(tmp_path: Path, *rows: Any, name: str = "d.jsonl") -> str:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_pairs_under_their_own_names(tmp_path: Path) -> None:
    source = written(tmp_path, {**ROW, "prompt": "other", "question": "more", "n": 1})
    (row,) = load_dataset_rows(source, own=OwnNames(OWN)).rows
    assert row == DatasetRow([user(FISH)], PAIR, metadata={"prompt": "other", "question": "more", "n": 1})


def test_a_table_by_columns_under_its_own_names(tmp_path: Path) -> None:
    source = written(tmp_path, {name: [value, f"{value}!"] for name, value in ROW.items()}, name="d.json")
    assert len(load_dataset_rows(source, own=OwnNames(OWN)).rows) == 2


def test_a_prompt_that_is_named_may_stand_beside_another(tmp_path: Path) -> None:
    source = written(tmp_path, {"prompt": FISH, "question": "Other?", "chosen": COD, "rejected": CAR})
    with pytest.raises(DataError, match="question says something else than the prompt: 1") as caught:
        load_dataset_rows(source)
    assert "fields: {prompt: prompt}" in caught.value.remedy and "--field prompt=prompt" in caught.value.remedy
    (row,) = load_dataset_rows(source, own=OwnNames({"prompt": "prompt"})).rows
    assert row == DatasetRow([user(FISH)], PAIR, metadata={"question": "Other?"})


def test_the_way_out_of_a_prompt_source(tmp_path: Path) -> None:
    source = written(tmp_path, {"prompt": FISH, "question": "Other?"})
    with pytest.raises(DataError, match="question says something else") as caught:
        list(load_prompt_rows(source).rows)
    assert "prompts.field: prompt" in caught.value.remedy
    assert [row.messages for row in load_prompt_rows(source, "prompt").rows] == [[user(FISH)]]


def test_the_way_out_names_a_field_that_the_row_has(tmp_path: Path) -> None:
    source = written(tmp_path, {"question": FISH, "input": "Other?"})
    with pytest.raises(DataError, match="input says something else") as caught:
        list(load_prompt_rows(source).rows)
    assert "prompts.field: question;" in caught.value.remedy
    assert [row.messages for row in load_prompt_rows(source, "question").rows] == [[user(FISH)]]


def test_a_named_field_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"d\.jsonl, line 1: fields: \{chosen: good\}: no field good; .* are: q, best"):
        load_dataset_rows(written(tmp_path, {"q": FISH, "best": COD}), own=OwnNames(OWN))
    found = load_dataset_rows(written(tmp_path, ROW, {"q": FISH}), own=OwnNames(OWN))
    assert len(found.rows) == 1 and list(found.skipped) == ["no field good"]
    bad = OwnNames({"prompt": "q"}).row(BadRow("x"))
    assert isinstance(bad, BadRow) and bad.reason == "x"


def test_unknown_fields_are_named_in_the_remedy(tmp_path: Path) -> None:
    for rows, field in (
        ([{"text": FISH}], "text"),
        ([{"id": "7", "body": FISH}], "body"),
        ([{"id": 7, "q": FISH}], "q"),
    ):
        with pytest.raises(DataError) as caught:
            load_prompt_rows(written(tmp_path, *rows))
        assert caught.value.remedy.endswith(f"prompts.field: {field}")
        assert [row.messages for row in load_prompt_rows(written(tmp_path, *rows), field).rows] == [[user(FISH)]]
    with pytest.raises(DataError) as caught:
        load_dataset_rows(written(tmp_path, ROW), own=OwnNames(key="samples.fields"))
    assert "samples.fields: {prompt: NAME, chosen: NAME, rejected: NAME}" in caught.value.remedy
    assert "its rows are: q, good, bad" in caught.value.found
    with pytest.raises(DataError, match="no field chosen: 1") as caught:
        load_dataset_rows(written(tmp_path, ROW), "preference", own=OwnNames(key="samples.fields"))
    assert "samples.fields: {prompt: NAME, chosen: NAME, rejected: NAME}" in caught.value.remedy


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = written(tmp_path, ROW), tmp_path / "out.jsonl"
    command = ["convert", source, "--to", "preference", "--out", str(out)]
    assert exit_code(command) == 2
    assert "--field prompt=NAME --field chosen=NAME --field rejected=NAME" in capsys.readouterr().err
    own = [part for name, field in OWN.items() for part in ("--field", f"{name}={field}")]
    assert exit_code([*command, *own]) == 0
    assert json.loads(out.read_text()) == {"prompt": FISH, "chosen": COD, "rejected": CAR}
    for wrong in ("choosen=good", "chosen", "chosen="):
        assert exit_code([*command, "--field", wrong]) == 2
        assert f"--field {wrong}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "row",
    [
        {"custom_id": "r 1", "method": "POST", "body": {"model": "m", "messages": [user(FISH)]}},
        {"question_id": "81", "model_a": "GPT 4", "winner": "model_a", "conversation_a": [user(FISH)]},
        {"row_id": "a b", "createdAt": 3, "source": "the web", "n": 1},
    ],
)
def test_ids_are_never_suggested(row: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_prompt_rows(written(tmp_path, row))
    assert "prompts.field: NAME, NAME one of the row's fields" in caught.value.remedy
    assert ("body.messages" in caught.value.remedy) == ("body" in row)
    with pytest.raises(DataError) as caught:
        load_dataset_rows(written(tmp_path, row))
    assert "fields: {prompt: NAME}" in caught.value.remedy
    with pytest.raises(DataError) as caught:
        load_prompt_rows(written(tmp_path, {**row, "body_text": FISH}))
    assert caught.value.remedy.startswith("name the field that holds the prompt, for example prompts.field: body_text")
