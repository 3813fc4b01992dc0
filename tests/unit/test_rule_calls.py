"""Async rules and rules on batches: concurrent, bounded, and never a score beside the wrong answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from rayalign.errors import InterruptedRunError
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.failures import GIVE_UP
from rayalign.scoring.rules.scorer import RuleScorer


def inputs(texts: Sequence[str]) -> tuple[list[Prompt], list[Sample]]:
    prompts = [
        Prompt(f"p{i}", [{"role": "user", "content": f"q{i}"}], [1], metadata={"n": i}) for i in range(len(texts))
    ]
    return prompts, [Sample(f"p{i}", 0, text, [5], [-1.0], "stop", 0, 0) for i, text in enumerate(texts)]


@contextmanager
def scorer(function: Callable[..., Any], **options: Any) -> Iterator[Callable[[Sequence[str]], list[Score]]]:
    one = RuleScorer("rule:test", "v1", function, **options)
    try:
        yield lambda texts: one.score(*inputs(texts))
    finally:
        one.close()


class Gauge:
    """An async rule that knows how many of its calls ran at once."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.now = self.most = 0
        self._seconds = seconds

    async def __call__(self, prompt: str, response: str) -> float:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self._seconds)
        self.now -= 1
        return float(response)


@pytest.mark.parametrize(("concurrency", "most"), [(4, 4), (1, 1), (100, 12)])
def test_async_rules_run_at_once_up_to_the_bound(concurrency: int, most: int) -> None:
    gauge = Gauge()
    with scorer(gauge, concurrency=concurrency) as score:
        assert [s.reward for s in score([str(i) for i in range(12)])] == [float(i) for i in range(12)]
    assert gauge.most == most


def test_async_results_keep_their_places_whatever_ends_first() -> None:
    async def slow_first(prompt: str, response: str) -> float:
        await asyncio.sleep(0.05 - 0.01 * float(response))
        return float(response)

    with scorer(slow_first) as score:
        assert [s.reward for s in score(["0", "1", "2", "3"])] == [0.0, 1.0, 2.0, 3.0]


def test_async_failures_are_their_own() -> None:
    async def picky(prompt: str, response: str, metadata: dict[str, Any]) -> float | None:
        await asyncio.sleep(0)
        return None if response == "none" else 1 / len(response) + metadata["n"]

    with scorer(picky) as score:
        first, second, third = score(["ab", "", "none"])
    assert (first.reward, second.reason, third.status) == (0.5, "ZeroDivisionError: division by zero", "abstain")


def test_one_event_loop_serves_all_shards_and_the_bound_holds_over_them() -> None:
    gauge = Gauge()
    loops = set()

    async def rule(prompt: str, response: str) -> float:
        loops.add(id(asyncio.get_running_loop()))
        return await gauge(prompt, response)

    with scorer(rule, concurrency=3) as score:
        threads = [threading.Thread(target=score, args=(["1"] * 9,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(loops) == 1
    assert gauge.most == 3


def test_close_ends_the_thread() -> None:
    def alive() -> int:
        return [thread.name for thread in threading.enumerate()].count("rule:test")

    with scorer(Gauge()) as score:
        score(["1"])
        assert alive() == 1
    assert alive() == 0


def test_a_batch_rule_gets_all_at_once() -> None:
    seen = []

    def lengths(prompts: list[str], responses: list[str], metadata: list[dict[str, Any]]) -> list[float | None]:
        seen.append((prompts, responses, metadata))
        return [len(r) or None for r in responses]

    with scorer(lengths, batch=True) as score:
        assert [s.reward for s in score(["a", "", "ccc"])] == [1.0, None, 3.0]
    assert seen == [(["q0", "q1", "q2"], ["a", "", "ccc"], [{"n": 0}, {"n": 1}, {"n": 2}])]


def test_an_async_batch_rule() -> None:
    async def lengths(prompts: list[str], responses: list[str]) -> list[float]:
        await asyncio.sleep(0)
        return [float(len(r)) for r in responses]

    with scorer(lengths, batch=True) as score:
        assert [s.reward for s in score(["a", "bb"])] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ([1.0, 2.0], "the rule returned 2 scores for a batch of 3"),
        ([1.0, 2.0, 3.0, 4.0], "the rule returned 4 scores for a batch of 3"),
        ([], "the rule returned 0 scores for a batch of 3"),
        (1.0, "the rule returned a float for a batch of 3, not a list"),
        ("abc", "the rule returned a str for a batch of 3, not a list"),
        (None, "the rule returned a NoneType for a batch of 3, not a list"),
    ],
)
def test_a_batch_of_another_length_is_lost_whole(result: Any, reason: str) -> None:
    with scorer(lambda prompts, responses: result, batch=True) as score:
        assert [(s.status, s.reward, s.reason) for s in score(["a", "b", "c"])] == [("error", None, reason)] * 3


def test_a_batch_rule_that_raises_is_asked_answer_by_answer() -> None:
    with scorer(lambda prompts, responses: [1 / len(r) for r in responses], batch=True) as score:
        found = score(["a", "", "bb"])
        assert [s.reward for s in found] == [1.0, None, 0.5]
        assert [s.reason for s in found] == [None, "ZeroDivisionError: division by zero", None]
        assert [s.aspects for s in found] == [{"asked_alone": 1.0}, {}, {"asked_alone": 1.0}]
        assert [(s.reward, s.aspects) for s in score(["a", "bb"])] == [(1.0, {}), (0.5, {})]


def test_an_async_batch_rule_that_raises_is_asked_answer_by_answer() -> None:
    async def inverse(prompts: list[str], responses: list[str]) -> list[float]:
        await asyncio.sleep(0)
        return [1 / len(r) for r in responses]

    with scorer(inverse, batch=True) as score:
        assert [s.reward for s in score(["a", "", "bb"])] == [1.0, None, 0.5]


def test_a_batch_rule_that_always_raises_is_not_asked_for_ever() -> None:
    calls = []

    def broken(prompts: list[str], responses: list[str]) -> list[float]:
        calls.append(len(responses))
        raise OSError("no such host")

    with scorer(broken, batch=True) as score:
        assert {s.reason for s in score(["a"] * 100)} == {"OSError: no such host"}
    assert calls == [100] + [1] * GIVE_UP


class Odd(BaseException):
    """As pyo3's PanicException: no Exception."""


class Wordless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Unshown:
    def __repr__(self) -> str:
        raise ValueError("no words")


RAISED: list[BaseException] = [
    IndexError("index out of range"), RuntimeError("CUDA error"), OSError(28, "No space left"), MemoryError(),
    RecursionError("deep"), SystemExit(3), Odd("panic"), Wordless(), StopIteration(),
    asyncio.CancelledError(), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ValueError("lone \ud800 surrogate"),
]  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", ["plain", "async", "batch", "async batch"])
def test_whatever_a_rule_raises_is_that_answers_error(kind: str, error: BaseException) -> None:
    def one(prompt: str, response: str) -> float:
        if response == "bad":
            raise error
        return float(len(response))

    async def later(prompt: str, response: str) -> float:
        return one(prompt, response)

    def many(prompts: list[str], responses: list[str]) -> list[float]:
        return [one(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]

    async def many_later(prompts: list[str], responses: list[str]) -> list[float]:
        return many(prompts, responses)

    rule = {"plain": one, "async": later, "batch": many, "async batch": many_later}[kind]
    with scorer(rule, batch="batch" in kind) as score:
        found = score(["a", "bad", "ccc"])
        assert [(s.status, s.reward) for s in found] == [("ok", 1.0), ("error", None), ("ok", 3.0)]
        (found[1].reason or "").encode()


@pytest.mark.parametrize(
    "value",
    [10**400, 10**5000, Unshown(), "\ud800", True, [1.0], float("inf"), {}, b"1"],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("batch", [False, True])
def test_whatever_a_rule_gives_is_that_answers_error(value: Any, batch: bool) -> None:
    def one(prompt: str, response: str) -> Any:
        return value if response == "bad" else 1.0

    def many(prompts: list[str], responses: list[str]) -> list[Any]:
        return [one("", response) for response in responses]

    with scorer(many if batch else one, batch=batch) as score:
        found = score(["a", "bad"])
    assert [(s.status, s.reward) for s in found] == [("ok", 1.0), ("error", None)]
    assert (found[1].reason or "").encode().startswith(b"the rule returned ")


def test_a_stop_is_no_failure_of_the_rule() -> None:
    """`rayalign score` runs rules in its own process, where a signal may be raised in the middle of one."""

    def stopped(prompt: str, response: str) -> float:
        raise InterruptedRunError("stopped by SIGTERM")

    with scorer(stopped) as score, pytest.raises(InterruptedRunError):
        score(["a"])


def test_a_bad_value_in_a_batch_is_its_own() -> None:
    with scorer(lambda prompts, responses: [1.0, "2", float("nan")], batch=True) as score:
        assert [s.status for s in score(["a", "b", "c"])] == ["ok", "error", "error"]


def test_async_rules_share_the_time() -> None:
    """32 of 0.5 s: 0.5 s at once, 16 s one by one."""
    with scorer(Gauge(0.5), concurrency=32) as score:
        started = time.perf_counter()
        score(["1"] * 32)
    assert time.perf_counter() - started < 8


@pytest.mark.parametrize("texts", [[]])
@pytest.mark.parametrize("options", [{}, {"batch": True}])
def test_nothing_gives_nothing(texts: list[str], options: dict[str, Any]) -> None:
    with scorer(lambda prompts, responses: [], **options) as score:
        assert score(texts) == []
    with scorer(Gauge(), **options) as score:
        assert score(texts) == []


def test_what_a_rule_changes_in_the_metadata_no_other_call_sees() -> None:
    """Neither at once, nor one by one, nor in an event loop; nor does the prompt itself change, which others score."""

    def take(metadata: dict[str, Any]) -> float:
        metadata["seen"] = True
        return float(len(metadata["left"]) and metadata["left"].pop() + len(metadata["deep"].setdefault("more", {})))

    def one(prompt: str, response: str, metadata: dict[str, Any]) -> float:
        return take(metadata)

    async def late(prompt: str, response: str, metadata: dict[str, Any]) -> float:
        await asyncio.sleep(0)
        return take(metadata)

    def many(prompts: list[str], responses: list[str], metadata: list[dict[str, Any]]) -> list[float]:
        return [take(each) for each in metadata]

    def raises_at_first(prompts: list[str], responses: list[str], metadata: list[dict[str, Any]]) -> list[float]:
        found = many(prompts, responses, metadata)
        return found if len(found) == 1 else [1 / 0]

    async def many_late(prompts: list[str], responses: list[str], metadata: list[dict[str, Any]]) -> list[float]:
        return many(prompts, responses, metadata)

    shared = Prompt("p", [{"role": "user", "content": "q"}], [1], metadata={"left": [7, 8], "deep": {}})
    samples = [Sample("p", place, str(place), [5], [-1.0], "stop", 0, 0) for place in range(3)]
    for function, batch in ((one, False), (late, False), (many, True), (raises_at_first, True), (many_late, True)):
        rule = RuleScorer("rule:test", "v1", function, batch=batch)
        assert [score.reward for score in rule.score([shared] * 3, samples)] == [8.0] * 3, function.__name__
        rule.close()
        assert shared.metadata == {"left": [7, 8], "deep": {}}
