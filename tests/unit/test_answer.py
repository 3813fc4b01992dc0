"""Final answers: where they are found, which ones are the same, and what is missing rather than wrong."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rayalign.config.rewards import AnswerScoring
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.answer import (
    AnswerScorer,
    extract,
    gold_answer,
    last_boxed,
    last_number,
    normalise,
    same_answer,
    to_number,
)
from tests.unit.answer_cases import ALONE, BESIDE, CHOSEN, OTHER, PARTS, RESPONSES, SAME, UNDECIDED


def score(response: str, metadata: dict[str, Any], **settings: Any) -> Score:
    prompt = Prompt("p", [{"role": "user", "content": "How many?"}], [1], metadata=metadata)
    sample = Sample("p", 0, response, [5], [-1.0], "stop", 0, 0)
    (found,) = AnswerScorer(AnswerScoring(type="answer", **settings)).score([prompt], [sample])
    return found


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} and then \boxed{\text{a {b} c}}", r"\text{a {b} c}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{7} but \boxed{8", "7"),
        (r"\fbox{3}", "3"),
        (r"\boxed {3}", "3"),
        ("no box", None),
        (r"\boxed{never closed", None),
    ],
)
def test_last_boxed(text: str, content: str | None) -> None:
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3 cats and 1,200 dogs.", "1,200"),
        ("It is 42.", "42"),
        ("10-5", None),
        ("It is -5", "-5"),
        ("costs $3.50 in all", "$3.50"),
        ("half is 1/2", "1/2"),
        (r"that is \frac{3}{4} of it", r"\frac{3}{4}"),
        ("that is 50% of them", "50%"),
        (".5", ".5"),
        ("none", None),
    ],
)
def test_last_number(text: str, number: str | None) -> None:
    assert last_number(text) == number


def test_auto_takes_boxed_then_hashes_then_the_last_number() -> None:
    assert extract("#### 1\n\\boxed{2} 3") == "2"
    assert extract("#### 1\nthat is 3") == "1"
    assert extract("#### \n7 apples") == "7"
    assert extract("1 2 3") == "3"
    assert extract("#### 1\n\\boxed{2} 3", "hashes") == "1"
    assert extract("1 2 3", "boxed") is None


@pytest.mark.parametrize(
    ("found", "gold"),
    [
        ("42", "42"), ("42.", "42"), ("42.00", "42"), ("1,200", "1200"), ("$1,234.50", "1234.5"), ("50\\%", "50"),
        ("0.5", "1/2"), (r"\frac{1}{2}", "0.5"), (r"\dfrac12", "1/2"), (r"-\frac{1}{2}", "-0.5"),
        (r"\frac{-1}{2}", "-1/2"), (r"1\frac{1}{2}", "1.5"), ("+3", "3"), ("-0", "0"), ("007", "7"), ("2e3", "2000"),
        ("x = 5", "5"), (r"5\text{ cm}", "5"), (r"90^\circ", "90"), (r"\text{Evelyn}", "Evelyn"),
        (r"\left( 1, 2 \right)", "(1,2)"), (r"10\,000", "10000"), ("2/4", "1/2"), (r"\$18", "18"),
    ],
)  # fmt: skip
def test_the_same_answer(found: str, gold: str) -> None:
    assert same_answer(found, gold)
    assert same_answer(gold, found)


@pytest.mark.parametrize(
    ("found", "gold"),
    [
        ("42", "43"), ("4", "42"), ("-5", "5"), ("0.333", "1/3"), ("1,2", "12"), ("1/0", "1/0.0"), ("", "0"),
        (r"\frac{1}{2}", r"\frac{2}{1}"), ("(1,2)", "(2,1)"), (r"1\frac{1}{2}", "5.5"), ("Evelyn", "Evelyne"),
    ],
)  # fmt: skip
def test_another_answer(found: str, gold: str) -> None:
    assert not same_answer(found, gold)
    assert not same_answer(gold, found)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_in_another_writing(one: str, other: str) -> None:
    assert same_answer(one, other) and same_answer(other, one)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_never_accepted(one: str, other: str) -> None:
    assert not same_answer(one, other) and not same_answer(other, one)


@pytest.mark.parametrize(("response", "gold", "right"), [*RESPONSES, *BESIDE])
def test_responses(response: str, gold: str, right: bool) -> None:
    assert score(response, {"answer": gold}).reward == float(right)


def test_a_number_of_its_own_is_the_answer() -> None:
    assert [one for one in ALONE if score(one[0], {"answer": one[1]}).reward != 1.0] == []


def test_a_part_of_something_is_no_answer() -> None:
    """Neither alone nor in a sentence, where an exclamation mark may be one."""
    assert {text: found for text in PARTS if (found := last_number(text)) is not None} == {}
    sentences = [f"That is {text}" for text in PARTS if text != "5!"]
    assert {text: found for text in sentences if (found := last_number(text)) is not None} == {}


def test_the_choice_of_a_response() -> None:
    for response, letter in CHOSEN:
        rewards = {gold: score(response, {"answer": gold}).reward for gold in "ABCDE"}
        assert rewards == {gold: float(gold == letter) for gold in "ABCDE"}, response


def test_no_choice_is_guessed() -> None:
    assert [(one, gold) for one in UNDECIDED for gold in "ABCDEI" if score(one, {"answer": gold}).reward] == []


def test_how_the_right_answer_is_written_tells_whether_a_letter_is_looked_for() -> None:
    response = "The answer is A. It weighs 5 kg."
    assert score(response, {"answer": "5"}).reward == score(response, {"answer": "(A)"}).reward == 1.0
    assert score(response, {"answer": "A) 5 kg"}).reward == 1.0
    assert score(response, {"answer": "A"}, extract="last_number").reward == 0.0
    assert score("It weighs 5 kg.", {"answer": "A"}).aspects == {"no_answer": 1.0}


def test_exact_compares_the_normalised_text_alone() -> None:
    assert same_answer("$1,200.0", "1200", "exact")
    assert not same_answer("0.5", "1/2", "exact")


def test_a_response_cannot_ask_for_a_huge_integer() -> None:
    """10 ** 999999999 would take all memory; such a text is no number."""
    assert to_number("1e999999999") is None
    assert to_number("9" * 5000) is None
    assert not same_answer("1e999999999", "1")


@given(st.fractions(min_value=-1000, max_value=1000, max_denominator=1000))
def test_a_fraction_is_itself_in_every_writing(value: Fraction) -> None:
    above, below = value.numerator, value.denominator
    for text in (f"{above}/{below}", rf"\frac{{{above}}}{{{below}}}", rf"$\dfrac{{{above}}}{{{below}}}$"):
        assert to_number(normalise(text)) == value


@given(st.text(max_size=60), st.text(max_size=60))
def test_sameness_is_symmetric_on_any_text(found: str, gold: str) -> None:
    assert same_answer(found, gold) == same_answer(gold, found)


@pytest.mark.parametrize(
    ("value", "gold"),
    [
        ("She pays 3 * 6.\n#### 18", "18"),
        (r"Thus $x = \boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (18, "18"),
        (0, "0"),
        (0.5, "0.5"),
        ("Evelyn", "Evelyn"),
        (None, None),
        ("", None),
        (True, None),
        ([1], None),
    ],
)
def test_gold_answers(value: Any, gold: str | None) -> None:
    assert gold_answer(value) == gold


def test_scores() -> None:
    assert score("... #### 18", {"answer": "3 * 6\n#### 18"}).reward == 1.0
    assert score("... #### 17", {"answer": "18"}).reward == 0.0
    assert score("18 it is", {"gold": 18}, field="gold").reward == 1.0
    assert score("18 it is", {"answer": 18}, extract="boxed").reward == 0.0


def test_no_answer_is_wrong_and_said_to_be() -> None:
    found = score("I do not know.", {"answer": "18"})
    assert (found.status, found.reward, found.aspects) == ("ok", 0.0, {"no_answer": 1.0})


@pytest.mark.parametrize("metadata", [{}, {"answer": None}, {"answer": ""}, {"other": 3}])
def test_no_gold_abstains(metadata: dict[str, Any]) -> None:
    found = score("18", metadata)
    assert (found.status, found.reward) == ("abstain", None)
    assert found.reason == "the prompt's metadata has no answer in 'answer'"


def test_the_version_tells_settings_apart() -> None:
    sections = [AnswerScoring(type="answer"), AnswerScoring(type="answer", match="exact")]
    assert len({AnswerScorer(section).version for section in sections}) == 2
