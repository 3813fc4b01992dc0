"""MT-Bench, arena and rating by hand: what is asked, what it comes to, and what a missing verdict does to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from rayalign.errors import DataError
from rayalign.evaluation.benchmarks.arena import Arena
from rayalign.evaluation.benchmarks.base import Answer, Answers, Asked
from rayalign.evaluation.benchmarks.mt_bench import GRADE_BY_REFERENCE, MTBench
from rayalign.evaluation.benchmarks.questions import Question, distinct, given_answers, mt_bench_question
from rayalign.evaluation.benchmarks.rating import Rating, rating_task, scale_in
from rayalign.records import JudgeQuestion, JudgeVerdict

HAIKU = Question("81", ("Write a haiku.", "Now in French."), "writing")
SUM = Question("111", ("2 + 2?", "Plus 1?"), "math", ("4", "5"))
PLAY = Question("95", ("Be a pirate.", "Be polite."), "roleplay", ("Arr.", "Sir."))
QUESTIONS = [HAIKU, SUM, PLAY]
Opinion = Callable[[JudgeQuestion], JudgeVerdict]


def said(**texts: Sequence[str]) -> Answers:
    return {name.removeprefix("q"): [Answer(text, False, 1) for text in some] for name, some in texts.items()}


OURS = said(q81=("Autumn", "Automne"), q111=("4", "6"), q95=("Arr!", "Sir!"))


def verdicts_of(questions: Sequence[JudgeQuestion], opinion: Opinion) -> dict[str, JudgeVerdict]:
    found = {one.id: opinion(one) for one in questions}
    assert len(found) == len(questions), "ids are unique"
    return found


def rated(ratings: dict[str, float | None]) -> Opinion:
    def give(question: JudgeQuestion) -> JudgeVerdict:
        rating = ratings[question.id.removesuffix(" grade")]
        return JudgeVerdict(question.id, "error" if rating is None else "ok", rating=rating)

    return give


def test_the_second_turn_sees_the_models_own_first_answer() -> None:
    bench = MTBench(QUESTIONS)
    assert [one.id for one in bench.ask(0, {})] == ["81", "111", "95"]
    first = said(q81=("Autumn",), q95=("Arr!",))
    assert [(one.id, one.messages) for one in bench.ask(1, first)] == [
        (
            name,
            [
                {"role": "user", "content": turns[0]},
                {"role": "assistant", "content": answer},
                {"role": "user", "content": turns[1]},
            ],
        )
        for name, turns, answer in (("81", HAIKU.turns, "Autumn"), ("95", PLAY.turns, "Arr!"))
    ]
    assert bench.ask(2, OURS) == []


def test_the_judge_sees_the_right_answers_where_the_paper_shows_them() -> None:
    """Math has them, roleplay has a reference that is not shown; the second turn sees both."""
    asked = {one.id: one for one in MTBench(QUESTIONS).questions(OURS)}
    assert asked["111 turn 2 grade"].task == GRADE_BY_REFERENCE
    assert asked["111 turn 2 grade"].shown == (
        ("question 1", "2 + 2?"), ("reference answer 1", "4"), ("question 2", "Plus 1?"), ("reference answer 2", "5"),
        ("answer 1", "4"), ("answer 2", "6"),
    )  # fmt: skip
    assert asked["95 turn 1 grade"].shown == (("question 1", "Be a pirate."), ("answer 1", "Arr!"))


def test_scores_over_all_by_turn_and_by_category() -> None:
    """81: 8 and 6; 111: 10 and none; 95: 2 and 4. All: 30 / 5; turn 1: 20 / 3; turn 2: 5; writing 7, math 10."""
    ratings: dict[str, float | None] = {
        "81 turn 1": 8, "81 turn 2": 6, "111 turn 1": 10, "111 turn 2": None, "95 turn 1": 2, "95 turn 2": 4,
    }  # fmt: skip
    bench = MTBench(QUESTIONS)
    result = bench.result(OURS, verdicts_of(bench.questions(OURS), rated(ratings)), seed=0)
    assert {name: (metric.value, metric.n) for name, metric in result.metrics.items()} == {
        "score": (6.0, 5), "score/turn_1": (pytest.approx(20 / 3), 3), "score/turn_2": (5.0, 2),
        "score/writing": (7.0, 2), "score/math": (10.0, 1), "score/roleplay": (3.0, 2),
    }  # fmt: skip
    assert (result.facts["judge"]["asked"], result.facts["judge"]["failed"]) == (6, 1)
    assert result.rows[1]["ratings"] == [10, None]
    low, high = result.metrics["score"].ci95
    assert 3.0 <= low < 6.0 < high <= 10.0


def test_a_question_that_got_no_second_turn_is_judged_on_its_first() -> None:
    short = said(q81=("Autumn",))
    bench = MTBench(QUESTIONS)
    asked = bench.questions(short)
    assert [one.id for one in asked] == ["81 turn 1 grade"]
    result = bench.result(short, verdicts_of(asked, rated({"81 turn 1": 3})), seed=0)
    assert set(result.metrics) == {"score", "score/turn_1", "score/writing"}
    assert (result.facts["items"], result.facts["answered"]) == (3, 1)


def longest(question: JudgeQuestion) -> JudgeVerdict:
    """Prefers the longer last answer."""
    if question.task is not None and question.task.kind == "rating":
        return JudgeVerdict(question.id, "ok", rating=5)
    sides = [[text for name, text in question.shown if f"assistant {letter}" in name][-1] for letter in "AB"]
    first, second = map(len, sides)
    return JudgeVerdict(question.id, "ok", choice="tie" if first == second else "first" if first > second else "second")


def always_first(question: JudgeQuestion) -> JudgeVerdict:
    return JudgeVerdict(question.id, "ok", rating=5, choice="first")


def test_against_a_baseline_both_turns_are_compared_in_both_orders() -> None:
    """81 turn 1 is the same text, a tie unasked; turn 2 is longer: won. 111 turn 1 lost, turn 2 a tie in length.
    Turns won 1, tied 2, lost 1: .5 of 4. Nothing hangs on the order."""
    theirs = {"base": {"81": ("Autumn", "A"), "111": ("four", "5")}}
    bench = MTBench(QUESTIONS, theirs)
    asked = bench.questions(OURS)
    assert sum(one.compares for one in asked) == 6
    result = bench.result(OURS, verdicts_of(asked, longest), seed=0)
    assert (result.metrics["win_rate/base"].value, result.metrics["win_rate/base"].n) == (0.5, 4)
    assert (result.metrics["flip_rate/base"].value, result.metrics["flip_rate/base"].n) == (0.0, 3)
    assert result.facts["opponents"]["base"] == {
        "comparisons": 4, "won": 1, "tied": 2, "lost": 1, "without_outcome": 0, "same_text": 1,
    }  # fmt: skip


def test_the_second_turn_is_compared_with_both_first_answers_in_sight() -> None:
    [ours_first, ours_second] = [
        one
        for one in MTBench([HAIKU], {"base": {"81": ("Winter", "Hiver")}}).questions(OURS)
        if one.id.startswith("81 turn 2 against base")
    ]
    assert ours_first.shown[2:] == (
        ("answer of assistant A 1", "Autumn"), ("answer of assistant A 2", "Automne"),
        ("answer of assistant B 1", "Winter"), ("answer of assistant B 2", "Hiver"),
    )  # fmt: skip
    assert [text for _, text in ours_second.shown[2:]] == ["Winter", "Hiver", "Autumn", "Automne"]


def arena_of(count: int = 12, **theirs: str) -> tuple[Arena, Answers]:
    items = [Question(str(i), (f"question {i}",)) for i in range(count)]
    baselines = {name: {str(i): (text,) for i in range(count)} for name, text in theirs.items()}
    return Arena(items, baselines), {str(i): [Answer("1234", False, 4)] for i in range(count)}


def test_arena_orders_its_players() -> None:
    """Ours, of four letters, wins against two and loses against six: .5 over all, strengths 6 > 4 > 2."""
    arena, ours = arena_of(weak="12", strong="123456")
    result = arena.result(ours, verdicts_of(arena.questions(ours), longest), seed=0)
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert [values[name] for name in ("win_rate", "win_rate/weak", "win_rate/strong", "flip_rate")] == [0.5, 1, 0, 0]
    assert values["strength/weak"] < values["strength"] < values["strength/strong"]
    assert values["strength"] == pytest.approx(1000)
    assert result.metrics["strength"].n == 24
    assert [one["share"] for one in result.rows[0]["against"]] == [1.0, 0.0]


def test_bias_for_what_stands_first_cancels() -> None:
    arena, ours = arena_of(weak="12", strong="123456")
    result = arena.result(ours, verdicts_of(arena.questions(ours), always_first), seed=0)
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert {values[name] for name in values if name.startswith("win_rate")} == {0.5}
    assert {values[name] for name in values if name.startswith("strength")} == {1000.0}
    assert values["flip_rate"] == 1.0


def test_one_failed_order_leaves_its_comparison_out_and_is_counted() -> None:
    arena, ours = arena_of(4, weak="12")

    def opinion(question: JudgeQuestion) -> JudgeVerdict:
        if question.id == "2 turn 1 against weak, ours second":
            return JudgeVerdict(question.id, "timeout", reason="no reply")
        return longest(question)

    result = arena.result(ours, verdicts_of(arena.questions(ours), opinion), seed=0)
    assert (result.metrics["win_rate"].value, result.metrics["win_rate"].n) == (1.0, 3)
    assert result.facts["opponents"]["weak"]["without_outcome"] == 1
    assert result.facts["judge"] == {"asked": 8, "failed": 1, "cost": 0.0, "first_failure": "no reply"}
    assert result.rows[2]["against"][0]["share"] is None


def test_no_opponent_and_no_verdict_are_no_metrics() -> None:
    alone, ours = arena_of()
    assert alone.result(ours, {}, seed=0).metrics == {}
    arena, ours = arena_of(weak="12")
    silent = verdicts_of(arena.questions(ours), lambda one: JudgeVerdict(one.id, "error", reason="down"))
    assert arena.result(ours, silent, seed=0).metrics == {}


@pytest.mark.parametrize(
    ("rubric", "scale"),
    [
        ("Rate from 1 to 5.", (1, 5)),
        ("Politeness, 0-100.", (0, 100)),
        ("On a scale of 1 \u2013 7, where 7 is best.", (1, 7)),
        ("Answers with 3 to 2 words? Rate 1 to 4.", (1, 4)),
        ("Be strict.", None),
        ("Version 1.5-2.5 of the style guide.", None),
    ],
)
def test_the_scale_is_the_rubrics(rubric: str, scale: tuple[int, int] | None) -> None:
    assert scale_in(rubric) == scale


def test_a_rubric_makes_its_own_question() -> None:
    item = Asked("1", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    [question] = Rating([item], rating_task("From 1 to 5.", (1, 5))).questions(said(q1=("Hello",)))
    assert question.shown == (("earlier system turn", "Be brief."), ("last message", "Hi"), ("answer", "Hello"))
    assert question.task is not None and (question.task.lowest, question.task.highest) == (1, 5)
    result = Rating([item], question.task).result(said(q1=("Hello",)), {"1": JudgeVerdict("1", "ok", rating=4)}, 0)
    assert (result.metrics["rating"].value, result.facts["scale"]) == (4.0, [1, 5])


def test_rows_of_mt_bench_files() -> None:
    row = {"question_id": 111, "category": "math", "turns": ["2 + 2?", "Plus 1?"], "reference": ["4", "5"]}
    assert mt_bench_question(row, "line 1") == SUM
    assert given_answers({"question_id": 81, "choices": [{"turns": ["a", "b"]}]}, "line 1") == ("81", ("a", "b"))
    assert given_answers({"id": "81", "answers": ["a"]}, "line 1") == ("81", ("a",))


@pytest.mark.parametrize(
    "row",
    [
        {"turns": ["a"]},
        {"question_id": 1, "turns": "a"},
        {"question_id": 1, "turns": []},
        {"question_id": 1, "turns": [" "]},
        {"question_id": 1, "turns": ["a", "b"], "reference": ["one"]},
        {"question_id": 1, "turns": ["a"], "category": 3},
        {"question_id": True, "turns": ["a"]},
    ],
)
def test_rows_that_are_no_questions_say_where(row: dict[str, object]) -> None:
    with pytest.raises(DataError, match="line 7"):
        mt_bench_question(row, "q.jsonl, line 7")


def test_two_questions_of_one_name_and_no_question_are_refused() -> None:
    with pytest.raises(DataError, match="two questions are called 81"):
        distinct([HAIKU, HAIKU], "q.jsonl")
    with pytest.raises(DataError, match="no questions"):
        distinct([], "q.jsonl")
    with pytest.raises(DataError, match="line 2: no answers"):
        given_answers({"question_id": 1, "choices": []}, "a.jsonl, line 2")


def test_versions_hang_on_questions_tasks_and_baselines() -> None:
    some = [MTBench(QUESTIONS), MTBench([HAIKU]), MTBench(QUESTIONS, {"b": {"81": ("x",)}}), Arena(QUESTIONS, {})]
    some += [Arena(QUESTIONS, {}, "Be strict."), Rating([]), Rating([], rating_task("1 to 5", (1, 5)))]
    assert len({one.version for one in some}) == len(some)
    assert MTBench(QUESTIONS, {"a": {}, "b": {}}).version == MTBench(QUESTIONS, {"b": {}, "a": {}}).version
