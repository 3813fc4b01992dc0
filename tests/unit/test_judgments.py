"""Edge 15: what a judgment and the score beside it mean, and which pairs of them are refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from rayalign.errors import DataError
from rayalign.records import Prompt, Sample
from rayalign.records.judgment import verdict_of
from rayalign.scoring.judges.function_judge import FunctionJudge

CRITICISM = "The list is too long."


def test_edge_15_no_judgment_and_no_score_is_without_fault() -> None:
    assert verdict_of(None) == "perfect"
    assert verdict_of(None, None) == "perfect"


@pytest.mark.parametrize("score", [7, 7.0, 7.01, 10, 1e9])
def test_edge_15_a_score_from_7_on_is_without_fault(score: float) -> None:
    assert verdict_of(CRITICISM, score) == "perfect"
    assert verdict_of(None, score) == "perfect"


@pytest.mark.parametrize("score", [6.99, math.nextafter(7, 0), 0, -3.0])
def test_edge_15_a_lower_score_is_criticism(score: float) -> None:
    assert verdict_of(CRITICISM, score) == "flawed"


@pytest.mark.parametrize("score", [6.99, 0.0, -1.0])
def test_edge_15_no_judgment_beside_a_low_score_is_refused(score: float) -> None:
    """The release trains such a response as a good one."""
    with pytest.raises(DataError) as caught:
        verdict_of(None, score)
    assert caught.value.found == f"no judgment beside a score of {score:g}"


@pytest.mark.parametrize("blank", ["", " ", "\n\t ", "\u00a0"])
@pytest.mark.parametrize("score", [None, 3.0, 9.0])
def test_edge_15_a_blank_judgment_is_refused(blank: str, score: float | None) -> None:
    """The release takes it for criticism without words; a good score beside it does not help."""
    with pytest.raises(DataError, match="a blank judgment"):
        verdict_of(blank, score)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("judgment", [None, "Perfect.", CRITICISM])
def test_edge_15_a_score_that_is_no_number_is_refused(score: float, judgment: str | None) -> None:
    with pytest.raises(DataError, match=f"score {score}"):
        verdict_of(judgment, score)


@pytest.mark.parametrize(
    "judgment",
    [
        "Perfect.", "perfect", "PERFECT", "Perfect!", " Perfect.", "\nPerfect.\n", "'perfect'", '"Perfect."',
        "**Perfect**", "*perfect*.", "Perfect. The list is in order.", "Perfect\nNothing to add.",
    ],
)  # fmt: skip
def test_edge_15_perfect_in_its_spellings(judgment: str) -> None:
    assert verdict_of(judgment) == "perfect"


@pytest.mark.parametrize(
    "judgment",
    [
        "Perfectly wrong.", "Perfectionism.", "perfect_ly", "Imperfect.", "Not perfect.", "Almost perfect",
        "Perfect would be three items.", "Perfect grammar. Wrong count.", "The response is perfect.", CRITICISM,
    ],
)  # fmt: skip
def test_edge_15_perfect_as_part_of_a_sentence_is_criticism(judgment: str) -> None:
    assert verdict_of(judgment) == "flawed"


def test_edge_15_a_low_score_does_not_turn_praise_into_criticism() -> None:
    """The words are what CUT would learn from, and they criticise nothing."""
    assert verdict_of("Perfect.", 2.0) == "perfect"


judgments = st.none() | st.text() | st.sampled_from(["Perfect.", "perfect", "Perfectly wrong"])
scores = st.none() | st.floats()


@given(judgments, scores)
def test_every_judgment_has_a_verdict_or_is_refused(judgment: str | None, score: float | None) -> None:
    """And a refusal is one of the three that edge 15 names."""
    number = score is None or math.isfinite(score)
    try:
        verdict = verdict_of(judgment, score)
    except DataError:
        blank = judgment is not None and not judgment.strip()
        assert not number or blank or (judgment is None and score is not None and score < 7)
    else:
        assert verdict in ("perfect", "flawed")
        assert number
        if judgment is None or (score is not None and score >= 7):
            assert verdict == "perfect"


@given(st.text(min_size=1).filter(lambda text: text.strip()), st.sampled_from([" ", "\n", "\t", "  "]))
def test_space_around_a_judgment_does_not_matter(judgment: str, space: str) -> None:
    assert verdict_of(space + judgment + space) == verdict_of(judgment.strip())


@given(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1))
def test_letters_behind_perfect_make_another_word(rest: str) -> None:
    assert verdict_of(f"Perfect{rest}") == "flawed"
    assert verdict_of(f"Perfect.{rest}") == "perfect"


def test_a_judge_gives_a_verdict_or_an_error_and_never_a_reward() -> None:
    """Of four answers: praise, criticism, a blank judgment, and a judge that fails on the last."""
    words = {"a": "Perfect.", "b": CRITICISM, "c": " "}
    judge = FunctionJudge("judge:test", "1", lambda prompt, response, metadata: words[response])
    prompt = Prompt("p", [{"role": "user", "content": "x"}], [1])
    samples = [Sample("p", i, text, [1], [0.0], "stop", 0, 0) for i, text in enumerate("abcd")]
    scores = judge.score([prompt] * 4, samples)
    assert [(s.status, s.judgment, s.verdict, s.reward) for s in scores] == [
        ("ok", "Perfect.", "perfect", None),
        ("ok", CRITICISM, "flawed", None),
        ("error", None, None, None),
        ("error", None, None, None),
    ]
    assert [s.reason for s in scores] == [None, None, "a blank judgment", "KeyError: 'd'"]
