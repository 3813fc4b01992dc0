"""Asking a backend: what it raises or gives costs the answers at fault, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rayalign.errors import InterruptedRunError, ModelError
from rayalign.records import Prompt, Sample, Score, ScoredSample
from rayalign.scoring.asking import ask_backend
from rayalign.scoring.failures import GIVE_UP, LONGEST_REASON
from rayalign.store.tables import parquet_bytes

PROMPT = Prompt("p", [{"role": "user", "content": "Say something."}], [1])


class Lengths:
    """Rewards are lengths; `scores` may be replaced."""

    name, version = "model:lengths", "1"

    def __init__(self, give: Callable[[str], Any] | None = None) -> None:
        self.give = give or (lambda text: self.ok(float(len(text))))
        self.asked: list[list[str]] = []

    def ok(self, reward: float, **facts: Any) -> Score:
        return Score(self.name, self.version, "ok", reward, **facts)

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        assert [prompt.id for prompt in prompts] == [sample.prompt_id for sample in samples]
        self.asked.append([sample.text for sample in samples])
        return [found for sample in samples if (found := self.give(sample.text)) is not None]

    def close(self) -> None: ...


def ask(backend: Any, *texts: str) -> list[Score]:
    samples = [Sample("p", i, text, [5], [-1.0], "stop", 0, 0) for i, text in enumerate(texts)]
    return ask_backend(backend, [PROMPT] * len(texts), samples)


class Panic(BaseException):
    pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (IndexError("index out of range in self"), "IndexError: index out of range in self"),
        (RuntimeError("CUDA out of memory"), "RuntimeError: CUDA out of memory"),
        (MemoryError(), "MemoryError: "),
        (SystemExit(1), "SystemExit: 1"),
        (Panic("no entry found for key"), "Panic: no entry found for key"),
        (ModelError("the template refuses a system turn", "why", "remedy"), "the template refuses a system turn"),
    ],
)
def test_one_bad_answer_does_not_lose_its_batch(error: BaseException, reason: str) -> None:
    def give(text: str) -> Score:
        if text == "bad":
            raise error
        return backend.ok(float(len(text)))

    backend = Lengths(give)
    found = ask(backend, "a", "bad", "ccc")
    assert [(s.status, s.reward, s.reason) for s in found] == [
        ("ok", 1.0, None), ("error", None, reason), ("ok", 3.0, None),
    ]  # fmt: skip
    assert {s.aspects["asked_alone"] for s in found} == {1.0}
    assert backend.asked == [["a", "bad", "ccc"], ["a"], ["bad"], ["ccc"]]


def test_a_backend_that_gives_too_few_scores_is_asked_answer_by_answer() -> None:
    """Which answer a score belongs to cannot be known where one is missing."""
    backend = Lengths()
    backend.give = lambda text: None if text == "none" else backend.ok(float(len(text)))
    found = ask(backend, "none", "bb")
    assert [(s.status, s.reward) for s in found] == [("error", None), ("ok", 2.0)]
    assert found[0].reason == "RuntimeError: 0 scores for 1 answers"


def test_a_broken_backend_is_given_up() -> None:
    def give(text: str) -> Score:
        raise RuntimeError("device-side assert")

    backend = Lengths(give)
    assert {s.reason for s in ask(backend, *"abcdefghijklmnop")} == {"RuntimeError: device-side assert"}
    assert len(backend.asked) == 1 + GIVE_UP


def test_good_answers_are_asked_once_and_nothing_is_not_asked() -> None:
    backend = Lengths()
    assert [(s.reward, s.aspects) for s in ask(backend, "a", "bb")] == [(1.0, {}), (2.0, {})]
    assert ask(backend) == []
    assert backend.asked == [["a", "bb"]]


@pytest.mark.parametrize("stop", [InterruptedRunError("stopped by SIGTERM"), KeyboardInterrupt()])
def test_a_stop_goes_through(stop: BaseException) -> None:
    def give(text: str) -> Score:
        raise stop

    with pytest.raises(type(stop)):
        ask(Lengths(give), "a", "b")


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_not_finite_is_an_error(reward: float) -> None:
    backend = Lengths()
    backend.give = lambda text: backend.ok(reward)
    (found,) = ask(backend, "a")
    assert (found.status, found.reward) == ("error", None)


def test_texts_that_utf8_cannot_hold_are_stored_all_the_same() -> None:
    """A judge's JSON may escape half a character; a reason may quote it, and be endless."""
    backend = Lengths()
    backend.give = lambda text: Score("judge", "1", "ok", judgment="half \ud83d", reason="\ud800" * 5000)
    (found,) = ask(backend, "a")
    assert found.judgment == "half \N{REPLACEMENT CHARACTER}"
    row = ScoredSample(Sample("p", 0, "a", [5], [-1.0], "stop", 0, 0), [found], None)
    assert parquet_bytes([row.to_row()], ScoredSample.schema())
    assert len(row.scores[0].reason or "") == LONGEST_REASON + 1
