"""From one format to another: there and back, what is lost, and the command."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rayalign.cli import exit_code
from rayalign.data import fields
from rayalign.data.dataset import Completion, DatasetRow
from rayalign.data.formats import FORMATS, detect, read_record
from rayalign.data.writers import WRITERS
from rayalign.records.judgment import verdict_of
from tests.unit.format_cases import CAR, CASES, COD, FISH, Case, assistant, user

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text.strip() and not fields.is_dialogue(text)
)
metadata = st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.none() | st.lists(st.integers()))
instructions = texts.map(lambda text: [user(text)])
conversations = st.lists(texts, min_size=1, max_size=5).map(
    lambda said: [assistant(text) if len(said) % 2 == place % 2 else user(text) for place, text in enumerate(said)]
)
prompts = instructions | conversations
scores = st.floats(-1e9, 1e9)


@st.composite
def judged(draw: Any) -> Completion:
    judgment = draw(st.none() | texts)
    score = draw(st.none() | st.floats(7 if judgment is None else 0, 10))
    return Completion(draw(texts), score, judgment, verdict_of(judgment, score), draw(st.none() | texts))


@st.composite
def critiqued(draw: Any) -> Completion:
    judgment, score = draw(st.none() | texts), draw(scores)
    return Completion(draw(texts), score, judgment, None if judgment is None else verdict_of(judgment, score))


pairs = st.lists(texts, min_size=2, max_size=2, unique=True).map(
    lambda p: [Completion(p[0], 1.0), Completion(p[1], 0.0)]
)
EXACT: dict[str, st.SearchStrategy[DatasetRow]] = {
    "prompts": st.builds(DatasetRow, prompts, st.just([]), st.none() | texts, metadata),
    "messages": st.builds(DatasetRow, prompts, st.just([]), st.none() | texts, metadata),
    "alpaca": st.builds(DatasetRow, instructions, st.just([]), texts, metadata),
    "preference": st.builds(DatasetRow, prompts, pairs, st.none(), metadata),
    "unpaired": st.builds(
        DatasetRow, prompts, st.builds(Completion, texts, st.sampled_from([0.0, 1.0])).map(lambda one: [one]),
        st.none(), metadata,
    ),
    "ultrafeedback": st.builds(DatasetRow, prompts, st.lists(critiqued(), min_size=1, max_size=4), st.none(), metadata),
    "judgments": st.builds(DatasetRow, instructions, judged().map(lambda one: [one]), st.none(), metadata),
}  # fmt: skip
"""Rows of which each format can hold everything."""


def reread(records: list[dict[str, Any]], format: str) -> list[Any]:
    """Through JSON, as a file would."""
    return [row for one in records for _, row in read_record(json.loads(json.dumps(one)), "row 1", FORMATS[format])]


def test_every_writer_has_a_round_trip_and_a_reader() -> None:
    assert EXACT.keys() == WRITERS.keys() and WRITERS.keys() < FORMATS.keys()


@pytest.mark.parametrize("format", WRITERS)
@given(data=st.data())
def test_there_and_back(format: str, data: st.DataObject) -> None:
    row, lost = data.draw(EXACT[format]), Counter[str]()
    written = WRITERS[format](row, lost)
    assert reread(written, format) == [row]
    assert lost.total() == 0
    assert detect(written, "here").format == format


def held(rows: list[DatasetRow]) -> set[tuple[str, Any]]:
    """What rows hold beside their prompts."""
    answers = [one for row in rows for one in row.completions]
    kept = {("text", one.text) for one in answers} | {("text", row.target) for row in rows}
    kept |= {("score", one.score) for one in answers} | {("judgment", one.judgment) for one in answers}
    kept |= {("text", one.revision) for one in answers}
    return {(kind, value) for kind, value in kept if value is not None}


@pytest.mark.parametrize("to", WRITERS)
@pytest.mark.parametrize("case", CASES, ids=[f"{case.format}-{place}" for place, case in enumerate(CASES)])
def test_every_format_to_every_other_loses_nothing_in_silence(case: Case, to: str) -> None:
    ((_, row),) = read_record(case.row, "row 1", FORMATS[case.format])
    assert isinstance(row, DatasetRow)
    lost = Counter[str]()
    back = reread(WRITERS[to](row, lost), to)
    assert all(isinstance(one, DatasetRow) and one.messages == row.messages for one in back)
    assert all(one.metadata == row.metadata for one in back)
    assert back or lost.total() > 0
    assert held([row]) <= held(back) or lost.total() > 0


@pytest.mark.parametrize(
    ("row", "to", "records", "lost"),
    [
        (
            DatasetRow([user(FISH)], [Completion("a", 3.0), Completion("b", 9.0), Completion("c", 1.0)]),
            "preference",
            [{"prompt": FISH, "chosen": "b", "rejected": "c"}],
            {"answers": 1, "scores": 2},
        ),
        (
            DatasetRow([user(FISH)], [Completion(CAR, None, "No fish.", "flawed", COD)]),
            "preference",
            [{"prompt": FISH, "chosen": COD, "rejected": CAR}],
            {"judgments": 1},
        ),
        (
            DatasetRow([user(FISH)], [Completion("a", 5.0), Completion("b", 5.0)]),
            "preference",
            [],
            {"rows left out: no two answers of which one is known to be better": 1},
        ),
        (
            DatasetRow([user(FISH)], [Completion("a", 3.0), Completion("b", 9.0), Completion("c", 1.0)]),
            "unpaired",
            [
                {"prompt": FISH, "completion": "b", "label": True},
                {"prompt": FISH, "completion": "c", "label": False},
            ],
            {"answers": 1, "scores": 2},
        ),
        (
            DatasetRow([user(FISH)], [Completion(COD, 1.0), Completion(CAR, 0.0)]),
            "alpaca",
            [{"instruction": FISH, "input": "", "output": COD}],
            {"answers": 1, "scores": 1},
        ),
        (
            DatasetRow([user("Hi"), assistant("Hello"), user(FISH)], [], COD),
            "alpaca",
            [],
            {"rows left out: a conversation, and the format has one instruction": 1},
        ),
        (
            DatasetRow([user(FISH)], [Completion(COD, 1.0, None, "perfect")]),
            "judgments",
            [{"instruction": FISH, "input": "", "output": COD, "judgment": None}],
            {"scores": 1},
        ),
        (
            DatasetRow([user(FISH)], [Completion(COD)], COD),
            "ultrafeedback",
            [],
            {"answers": 1, "reference answers": 1, "rows left out: no answer of the kind that the format holds": 1},
        ),
    ],
)
def test_what_is_written_and_what_is_lost(
    row: DatasetRow, to: str, records: list[dict[str, Any]], lost: dict[str, int]
) -> None:
    counted = Counter[str]()
    assert WRITERS[to](row, counted) == records
    assert {what: count for what, count in counted.items() if count} == lost


PREFS = [
    {"prompt": FISH, "chosen": COD, "rejected": CAR},
    {"prompt": FISH, "chosen": COD, "rejected": COD},
    {"prompt": FISH, "chosen": None, "rejected": COD},
]


def prefs(tmp_path: Path) -> Path:
    path = tmp_path / "prefs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PREFS))
    return path


def test_the_command_says_what_it_found_and_what_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = prefs(tmp_path), tmp_path / "out.jsonl"
    assert exit_code(["convert", str(source), "--to", "unpaired", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{source}: format preference (3 of the first 3 rows have the fields chosen and rejected)",
        f"1 left out, chosen equals rejected: {source}, line 2",
        f"1 left out, chosen is null: {source}, line 3",
        f"{out}: 2 rows",
    ]
    assert [json.loads(line)["label"] for line in out.read_text().splitlines()] == [True, False]


def test_the_output_is_named_after_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code(["convert", str(prefs(tmp_path)), "--to", "messages"]) == 0
    assert json.loads((tmp_path / "prefs.messages.jsonl").read_text()) == {"messages": [user(FISH), assistant(COD)]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "unpaired", "--on-bad-rows", "fail"], "prefs.jsonl, line 2: chosen equals rejected"),
        (["--to", "judgments"], "none of 1 rows can be written as judgments"),
        (["--to", "shepherd"], "use one of prompts, messages, alpaca"),
        (["--to", "alpaca", "--from", "nectar"], "none of 3 rows can be read as nectar"),
        (["--to", "alpaca", "--from", "dpo"], "there is no such format"),
        (["--to", "alpaca", "--on-bad-rows", "maybe"], "maybe"),
        ([], "--to"),
    ],
)
def test_bad_input_ends_with_2_and_leaves_the_old_file(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    assert exit_code(["convert", str(prefs(tmp_path)), *arguments, "--out", str(out)]) == 2
    assert words in capsys.readouterr().err
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "prefs.jsonl"]


def test_outputs_that_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = prefs(tmp_path)
    assert exit_code(["convert", str(source), "--to", "alpaca", "--out", str(source)]) == 2
    assert exit_code(["convert", str(source), "--to", "alpaca", "--out", str(tmp_path / "x.parquet")]) == 2
    error = capsys.readouterr().err
    assert "it is the source" in error and "rows are written as JSONL" in error
