"""Benchmarks' questions to a judge behind an endpoint: templates, order, cache, and what is read of a config for it."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.errors import ConfigError, DataError
from rayalign.evaluation.benchmarks.base import Answer
from rayalign.evaluation.benchmarks.rating import Rating
from rayalign.launch.benchmarks import BenchmarkInputs, question_judge, read_benchmarks
from rayalign.records import JudgeQuestion, JudgeTask
from tests.fakes import make_config
from tests.http_server import Request, Respond, Server, completion

DAY = datetime.date(2026, 11, 30)


def behave(request: Request) -> Respond:
    """Rates by the answer's length, and prefers the longer of two."""
    system, user = (message["content"] for message in request.body["messages"])
    nonce = user.split("<<end of ")[-1].split(" ")[-1].removesuffix(">>")
    if "two potential responses" in system:
        first, second = (user.split(f"<<response {name} {nonce}>>\n")[1].split("\n<<end")[0] for name in "AB")
        return completion(json.dumps({"reasons": "r", "better": "A" if len(first) > len(second) else "B"}))
    answer = user.split(f"<<response {nonce}>>\n")[1].split("\n<<end")[0]
    return completion(json.dumps({"reasons": "r", "rating": min(10, max(1, len(answer)))}))


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(behave) as served:
        yield served


def read(server: Server, folder: Path, **changes: Any) -> BenchmarkInputs:
    (folder / "q.jsonl").write_text("".join(json.dumps({"prompt": f"Question {i}"}) + "\n" for i in range(5)))
    judge = {"type": "judge", "transport": "openai", "base_url": f"{server.url}/v1", "model": "judge"}
    section = {"type": "rating", "questions": "q.jsonl", "judge": judge, **changes}
    [found] = read_benchmarks(make_config(evaluation={"benchmarks": [section]}), folder, DAY)
    return found


def ask(inputs: BenchmarkInputs, cache: Path, *questions: JudgeQuestion) -> list[Any]:
    assert inputs.judge is not None
    judge = question_judge(inputs.judge, make_config(), cache)
    try:
        return judge.judge(questions)
    finally:
        judge.close()


def question(name: str, *answers: str) -> JudgeQuestion:
    return JudgeQuestion(name, [{"role": "user", "content": "Say something."}], answers)


def test_ratings_and_choices_come_back_in_order_and_are_kept(server: Server, tmp_path: Path) -> None:
    inputs = read(server, tmp_path)
    before = len(server.requests)
    asked = [question("a", "long answer", "short"), question("b", "four"), question("c", "short", "long answer")]
    verdicts = ask(inputs, tmp_path / "cache", *asked)
    assert [one.id for one in verdicts] == ["a", "b", "c"]
    assert [one.choice for one in verdicts] == ["first", None, "second"]
    assert [one.rating for one in verdicts] == [None, 4.0, None]
    assert len(server.requests) == before + 3
    again = ask(inputs, tmp_path / "cache", *asked)
    assert (again, [one.cached for one in again]) == (verdicts, [True] * 3)
    assert len(server.requests) == before + 3


def test_a_reply_that_is_no_verdict_is_missing(server: Server, tmp_path: Path) -> None:
    inputs = read(server, tmp_path)
    server.behave = lambda request: completion("no idea")
    [verdict] = ask(inputs, tmp_path / "cache", question("a", "text"))
    assert (verdict.status, verdict.rating) == ("error", None)
    assert verdict.reason


def test_the_rubric_reaches_the_judge(server: Server, tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("Be strict about fruit.")
    for rubric in ("Be strict about fruit.", {"file": "r.txt"}):
        server.behave = behave
        inputs = read(server, tmp_path, rubric=rubric)
        assert isinstance(inputs.benchmark, Rating)
        answers = {inputs.benchmark.items[0].id: [Answer(str(rubric), False, 1)]}
        server.behave = lambda request: completion('{"reasons": "r", "rating": 4}')
        [verdict] = ask(inputs, tmp_path / "none", *inputs.benchmark.questions(answers))
        assert verdict.rating == 4.0
        assert "Judge by this rubric:\nBe strict about fruit." in server.requests[-1].body["messages"][0]["content"]


def test_as_many_questions_as_the_limit(server: Server, tmp_path: Path) -> None:
    bench = read(server, tmp_path, limit=2).benchmark
    assert isinstance(bench, Rating)
    asked = bench.ask(0, {})
    assert [item.messages[0]["content"] for item in asked] == ["Question 0", "Question 1"]


def test_what_cannot_be_used_is_said_before_anything_is_loaded(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl"):
        read(server, tmp_path, questions="none.jsonl")
    server.behave = lambda request: completion("no idea")
    with pytest.raises(ConfigError, match="the judge's replies give no verdict"):
        read(server, tmp_path)


def test_a_judges_own_rubric_counts_where_the_benchmark_has_none(server: Server, tmp_path: Path) -> None:
    judge = {"type": "judge", "transport": "openai", "base_url": f"{server.url}/v1", "model": "judge"}
    inputs = read(server, tmp_path, judge={**judge, "rubric": "Be kind."})
    server.behave = lambda request: completion('{"reasons": "r", "better": "tie"}')
    task = JudgeTask("pairwise", "Which is better?")
    for own, told in ((None, "Be kind."), ("Be strict.", "Be strict.")):
        asked = JudgeQuestion("a", task=dataclasses.replace(task, rubric=own), shown=(("question", "Q"),))
        [verdict] = ask(inputs, tmp_path / "none", asked)
        assert verdict.choice == "tie"
        assert f"Judge by this rubric:\n{told}\n" in server.requests[-1].body["messages"][0]["content"]
