"""The inputs that went wrong in tools of this field, as files: `rayalign convert` on each, and what is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rayalign.cli import exit_code
from tests.unit.format_cases import assistant, user

CASES = Path(__file__).parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the inputs are not on this machine")
FRENCH = {"role": "system", "content": "Answer in French."}
BRIEF = {"role": "system", "content": "Be brief."}
POET, TERSE = ({"role": "system", "content": f"You are {what}."} for what in ("a poet", "terse"))
FISH = user("Name a fish.")


def convert(name: str, to: str, tmp_path: Path) -> list[dict[str, Any]]:
    out = tmp_path / "out.jsonl"
    assert exit_code(["convert", str(CASES / name), "--to", to, "--out", str(out)]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "conversations"),
    [
        ("lf16.jsonl", [[user(f"What is {n}+{n}?"), assistant(f"The answer is {2 * n}.")] for n in range(16)]),
        (
            "lf_dpo.jsonl",
            [
                [user("What is 2+2?"), assistant("The answer is 4.")],
                [user("Translate to French:\ncat"), assistant("Le chat.")],
            ],
        ),
        (
            "orca.jsonl",
            [
                [BRIEF, user("What is 2+2?"), assistant("The answer is 4.")],
                [BRIEF, FISH, assistant("Cod.")],
                [user("Capital of France?"), assistant("The capital is Paris.")],
            ],
        ),
        (
            "lf_sft.jsonl",
            [
                [POET, user("Describe rain."), assistant("Wet."), user("And in winter?"), assistant("Snow.")],
                [TERSE, FISH, assistant("Cod.")],
            ],
        ),
        ("system_lost.jsonl", [[FRENCH, FISH, assistant("Morue.")]] * 2),
        ("columns.json", [[FISH], [user("Name a bird.")], [user("Name a tree.")]]),
        ("pandas_messages.csv", [[FISH, assistant("Cod.")], [user("It's late. Name a bird."), assistant("Owl.")]]),
        ("json_string.jsonl", [[FISH, assistant("Cod.")], [user("It's late. Name a bird."), assistant("Owl.")]]),
        ("pandas_pref.csv", [[FISH, assistant("Cod.")], [user("Name a bird."), assistant("Owl.")]]),
        ("pandas_pref_prompt.csv", [[FISH, assistant("Cod.")], [user("Name a bird."), assistant("Owl.")]]),
        ("json_string_pref.jsonl", [[FISH, assistant("Cod.")], [FISH, assistant("Eel.")]]),
        ("surrogate.jsonl", [[user("Name a bird."), assistant("Owl.")]]),
        ("uuid.parquet", [[FISH, assistant("Cod.")], [user("Name a bird."), assistant("Owl.")]]),
        ("huge.jsonl", [[FISH, assistant("Car.")]]),
        ("huge_nectar.jsonl", [[user("Hi"), assistant("b")]]),
    ],
)
def test_whole_conversations_are_read(name: str, conversations: list[Any], tmp_path: Path) -> None:
    assert [row["messages"] for row in convert(name, "messages", tmp_path)] == conversations


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("surrogate.jsonl", ["1 left out, source is not valid Unicode (half of a surrogate pair): {}, line 1"]),
        ("huge.jsonl", ["1 left out, overall_score is not a finite number: {}, line 1, answer 1"]),
        ("huge_nectar.jsonl", ["1 left out, rank is not a finite number: {}, line 1, answer 1"]),
    ],
)
def test_what_is_left_out_is_named(
    name: str, reasons: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(name, "messages", tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "left out" in line] == [reason.format(CASES / name) for reason in reasons]


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("huge_judg.jsonl", "score is not a finite number: 1"),
        (
            "tools.jsonl",
            "the row has tools, and only texts can be kept: 1, "
            "a message has tool_calls, and only its text can be kept: 1",
        ),
    ],
)
def test_files_without_a_row_that_can_be_used(
    name: str, reasons: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    assert exit_code(["convert", str(CASES / name), "--to", "messages", "--out", str(out)]) == 2
    assert reasons in capsys.readouterr().err
    assert not out.exists()


def test_identifiers_become_text(tmp_path: Path) -> None:
    identity = "27688d41-d70f-476e-adad-d1ccc147b056"
    assert [row["metadata"] for row in convert("uuid.parquet", "preference", tmp_path)] == [{"id": identity}] * 2
