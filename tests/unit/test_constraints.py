"""Constraints: every kind on texts that keep it and that do not, IFEval's as they are published, and any text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from rayalign.constraints.base import Constraint
from rayalign.constraints.following import loose, loose_variants, strict
from rayalign.constraints.ifeval import INSTRUCTIONS
from rayalign.constraints.kinds import KINDS, make_constraint
from rayalign.constraints.languages import LANGUAGES, is_in
from rayalign.constraints.reading import read_constraints
from rayalign.constraints.scripts import SCRIPTS, share
from rayalign.constraints.texts import sentences
from rayalign.errors import DataError
from tests.unit.constraint_cases import CASES, REFERENCE
from tests.unit.language_cases import SENTENCES

PAIRS = [(kind, *case) for kind, cases in CASES.items() for case in cases]
PROMPT = "Name a fish."


def made(kind: str, asked: dict[str, Any]) -> Constraint:
    return make_constraint({"kind": kind, **asked}, "constraints.0")


EVERY = [made(kind, asked) for kind, asked, *_ in PAIRS]


def refused(metadata: dict[str, Any]) -> DataError:
    with pytest.raises(DataError) as caught:
        read_constraints(metadata, PROMPT)
    return caught.value


def test_every_kind_and_instruction_has_cases_right_and_wrong() -> None:
    assert CASES.keys() == KINDS.keys() and len(KINDS) >= 28
    assert all(any(case[side] for case in cases) for cases in CASES.values() for side in (1, 2))
    assert {name for name, *_ in REFERENCE} == INSTRUCTIONS.keys() and len(INSTRUCTIONS) == 25
    for name in INSTRUCTIONS:
        assert {kept for one, _, _, kept, _ in REFERENCE if one == name} == {True, False}, name


def test_every_kind_and_instruction_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text()
    section = page.partition("\n## constraints\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip(" `") for line in section.splitlines() if line.startswith("| `")]
    assert set(rows) - {"field", "all", "loose"} == KINDS.keys()
    assert [name for name in INSTRUCTIONS if f"`{name}`" not in section] == []
    assert f": {', '.join(LANGUAGES)}. Any" in " ".join(section.split())
    assert f"Scripts: {', '.join(SCRIPTS)}." in " ".join(section.split())


@pytest.mark.parametrize(("kind", "asked", "kept", "broken"), PAIRS, ids=[f"{p[0]} {p[1]}"[:60] for p in PAIRS])
def test_kinds(kind: str, asked: dict[str, Any], kept: list[str], broken: list[str]) -> None:
    constraint = made(kind, asked)
    assert constraint.kind == kind
    assert [text for text in kept if not constraint.keeps(text)] == []
    assert [text for text in broken if constraint.keeps(text)] == []


@pytest.mark.parametrize(("name", "kwargs", "answer", "tight", "wide"), REFERENCE)
def test_instructions_strictly_and_loosely(
    name: str, kwargs: dict[str, Any], answer: str, tight: bool, wide: bool
) -> None:
    """As a dataset of IFEval's form has it: settings that an instruction has not are null."""
    table = {key: None for _, others, *_ in REFERENCE for key in others}
    wanted = read_constraints({"instruction_id_list": [name], "kwargs": [{**table, **kwargs}]}, PROMPT)
    assert (strict(wanted, answer), loose(wanted, answer)) == ([tight], [wide])


def test_the_eight_variants() -> None:
    assert loose_variants("*a*\n*b*\n*c*") == [
        "*a*\n*b*\n*c*", "a\nb\nc", "*b*\n*c*", "b\nc", "*a*\n*b*", "a\nb", "*b*", "b",
    ]  # fmt: skip
    assert loose_variants("one") == ["one"]
    assert loose_variants(" \n*\n ") == [" \n*\n ", "*"]


def test_a_blank_answer_keeps_nothing() -> None:
    wanted = [made("no_commas", {}), made("words", {"at_most": 5})]
    assert strict(wanted, " \n") == loose(wanted, " \n") == [False, False]


def test_both_forms_in_one_prompt_and_lists_held_as_text() -> None:
    metadata = {
        "constraints": '[{"kind": "words", "at_most": 9.0, "exactly": null}]',
        "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
    }
    assert [one.kind for one in read_constraints(metadata, PROMPT)] == ["words", "no_commas", "quoted"]
    assert read_constraints({"answer": "7"}, PROMPT) == read_constraints({"constraints": []}, PROMPT) == []


def test_the_prompt_is_what_is_repeated_where_nothing_else_is_said() -> None:
    (own,) = read_constraints({"constraints": [{"kind": "repeat_prompt"}]}, PROMPT)
    (other,) = read_constraints({"constraints": [{"kind": "repeat_prompt", "text": "Why?"}]}, PROMPT)
    assert own.keeps(f"{PROMPT} Cod.") and not own.keeps("Why?")
    assert other.keeps("Why? So.") and not other.keeps(PROMPT)


@pytest.mark.parametrize(
    ("constraint", "found", "says"),
    [
        ({"kind": "word", "at_most": 3}, "constraints.0.kind is 'word'", "did you mean words?"),
        ({"kind": "zzz"}, "constraints.0.kind is 'zzz'", "use one of words, sentences"),
        ({"at_most": 3}, "constraints.0: no kind", "use one of"),
        ({"kind": "words"}, "constraints.0: ", "give at_least, at_most, both, or exactly"),
        ({"kind": "words", "atmost": 3}, "constraints.0.atmost", "did you mean at_most?"),
        ({"kind": "words", "at_most": -1}, "constraints.0.at_most: -1", "words takes at_least, at_most, exactly"),
        ({"kind": "words", "at_most": "3"}, "constraints.0.at_most: '3'", "valid integer"),
        ({"kind": "words", "at_most": True}, "constraints.0.at_most: True", "valid integer"),
        ({"kind": "words", "at_most": 2.5}, "constraints.0.at_most: 2.5", "valid integer"),
        ({"kind": "words", "at_least": 5, "at_most": 3}, "constraints.0", "no text keeps both"),
        ({"kind": "words", "exactly": 5, "at_most": 5}, "constraints.0", "leave at_least and at_most out"),
        ({"kind": "keywords", "words": []}, "constraints.0.words: []", "keywords takes words"),
        ({"kind": "keywords", "words": [" "]}, "constraints.0.words.0: ' '", "keywords takes words"),
        ({"kind": "keywords"}, "constraints.0.words: missing", "keywords takes words"),
        ({"kind": "letter_count", "letter": "ab", "exactly": 1}, "constraints.0.letter: 'ab'", "at most 1"),
        ({"kind": "title", "text": "x"}, "constraints.0.text", "title takes no settings"),
        ({"kind": "language", "language": "da"}, "constraints.0.language: 'da'", "those that can: ar, bg"),
        ({"kind": "script", "script": "runes"}, "constraints.0.script: 'runes'", "those that are: latin"),
        ({"kind": "paragraph_first_word", "paragraph": 0, "word": "a"}, "constraints.0.paragraph: 0", "equal to 1"),
        ({"kind": "regex", "pattern": "(a"}, "constraints.0", "unclosed group"),
        ({"kind": "regex", "pattern": "(?=a)b"}, "constraints.0", "look-ahead and look-behind, is not supported"),
        ({"kind": "regex", "pattern": "((a{9}){9}){9}"}, "constraints.0", "it could take very long"),
        ({"kind": "regex", "pattern": "a" * 201}, "constraints.0.pattern", "at most 200"),
        ("words", "constraints.0 is 'words'", "as a list of objects"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(constraint: object, found: str, says: str) -> None:
    error = refused({"constraints": [constraint]})
    assert error.found.startswith(found) and says in str(error) and error.why and error.remedy


@pytest.mark.parametrize(
    ("names", "kwargs", "says"),
    [
        (["punctuation:no_coma"], [{}], "did you mean punctuation:no_comma?"),
        ([7], [{}], "the instruction 7"),
        (["keywords:frequency"], [{"keyword": "a", "relation": "at least"}], "no frequency for keywords:frequency"),
        (["keywords:existence"], [{"keywords": []}], "no keywords for keywords:existence"),
        (["keywords:existence"], [{"keyword": "a"}], "keyword for keywords:existence"),
        (["punctuation:no_comma"], [{"num_words": 3}], "num_words for punctuation:no_comma"),
        (["length_constraints:number_words"], [{"num_words": 3, "relation": "about"}], "'less than' or 'at least'"),
        (["length_constraints:number_words"], [{"num_words": 0, "relation": "less than"}], "less than 0 cannot be"),
        (["length_constraints:number_words"], [{"num_words": "x", "relation": "less than"}], "less than 'x'"),
        (["length_constraints:number_words"], [{"num_words": -2, "relation": "at least"}], "at_least: -2"),
        (["language:response_language"], [{"language": "xx"}], "this language cannot be told"),
        (["punctuation:no_comma", "startend:quotation"], [{}], "instruction_id_list of 2, kwargs of 1"),
        (["punctuation:no_comma"], [7], "kwargs.0 is 7"),
        ("punctuation:no_comma", [{}], "instruction_id_list is 'punctuation:no_comma'"),
    ],
)  # fmt: skip
def test_instructions_that_are_not_understood_are_refused(names: object, kwargs: object, says: str) -> None:
    assert says in str(refused({"instruction_id_list": names, "kwargs": kwargs}))


def test_a_list_that_is_none_is_refused() -> None:
    for value in ({"count": 3}, "none", 7, True, "{", "[" * 100_000):
        assert "it must be a list" in str(refused({"constraints": value}))


def test_languages_are_told_apart() -> None:
    """Of one sentence several may be true; of two only the right one."""
    assert SENTENCES.keys() == set(LANGUAGES)
    for code, both in SENTENCES.items():
        for text in (*both, *map(str.lower, both)):
            assert is_in(text, code), text
        assert [other for other in LANGUAGES if is_in(" ".join(both), other)] == [code]


def test_the_rest_of_a_text_may_be_names() -> None:
    assert is_in("Die Firma OpenStreetMap Foundation ist nicht in der Stadt.", "de")
    assert is_in("我住在 Berlin,我的朋友住在上海和北京附近的一个小城市。", "zh")
    assert not is_in("我 like to read books all day long", "zh")


def test_scripts_cover_the_languages_sentences() -> None:
    for text in map(" ".join, SENTENCES.values()):
        assert share(text, SCRIPTS) == 1.0


MARKS = '* ** *** << >> [ ] ``` " . ! a - P.S. { } , \x00 \ud800 İ ß ﷺ 1. Section'
TEXTS = st.text(max_size=300) | st.lists(st.sampled_from([*MARKS.split(), " ", "\n"]), max_size=40).map("".join)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_any_text_gets_a_verdict(text: str) -> None:
    tight, wide = strict(EVERY, text), loose(EVERY, text)
    assert {*tight, *wide} <= {True, False}
    assert all(wide[i] for i, kept in enumerate(tight) if kept)
    assert all(one == one.strip() and one in text and re.search(r"\w", one) for one in sentences(text))


NAMES = st.sampled_from(["kind", "words", "at_most", "text", "pattern"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([*KINDS])
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner), max_leaves=12)


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({}, optional={"constraints": JSON, "instruction_id_list": JSON, "kwargs": JSON}))
def test_any_metadata_is_read_or_refused(metadata: dict[str, Any]) -> None:
    try:
        found = read_constraints(metadata, PROMPT)
    except DataError as error:
        assert error.found and error.why and error.remedy
    else:
        assert all(one.kind in KINDS for one in found)


LONG = 1_000_000
ONE_OF_EACH = [(kind, cases[0][0]) for kind, cases in CASES.items()]
RUNS = ("*", "[", "<", ".", '"', "-", "\n", " ", "{", "1", "`", "#", "p.", "a.", "Section ", "\u200d", "字")


@pytest.mark.parametrize(("piece", "size"), [("a", LONG), *((piece, LONG // 8) for piece in RUNS)])
def test_a_long_run_of_anything_ends(piece: str, size: int) -> None:
    """What took the square of its length would not come to its end here."""
    text = piece * (size // len(piece))
    assert {made(kind, asked).keeps(f"{text}x") for kind, asked in ONE_OF_EACH} == {True, False}


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(a|aa)+c", "(.*)(.*)(.*)(.*)x", "[ab]*a[ab]{99}c"])
def test_expressions_that_would_never_end_do(pattern: str) -> None:
    constraint = made("regex", {"pattern": pattern})
    assert not constraint.keeps(f"{'a' * 99_000}!")
    assert not constraint.keeps("a" * LONG)
