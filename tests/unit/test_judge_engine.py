"""A judge's engine thread and transport over a hand-written engine: batches, refusals, what is cancelled or fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from rayalign.actors.judge_engine import EngineThread, JudgeModel
from rayalign.config.services import CallLimits, JudgeScoring, Prices
from rayalign.demo.language import build_tokenizer
from rayalign.records import Score
from rayalign.scoring.judges.llm_judge import LLMJudge
from rayalign.scoring.judges.templates import make_template
from rayalign.scoring.services.calls import Caller, Failure
from tests.renderers import prompt_ids, renderer
from tests.unit.judge_cases import prompt, samples


class FakeEngine:
    """Finishes every running request at each step, with the text that a function of its tokens gives.

    Steps wait for `gate`, so that a test decides what has arrived by then.
    """

    def __init__(self, answer: Callable[[list[int]], tuple[str, str]]) -> None:
        self._answer = answer
        self.gate, self.entered = threading.Event(), threading.Event()
        self.running: dict[str, list[int]] = {}
        self.batches: list[int] = []
        self.aborted: list[str] = []
        self.params: list[Any] = []

    def add_request(self, name: str, inputs: dict[str, list[int]], params: Any) -> None:
        if 99999 in inputs["prompt_token_ids"]:
            raise ValueError("token out of range")
        self.running[name] = inputs["prompt_token_ids"]
        self.params.append(params)

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names
        for name in names:
            del self.running[name]

    def step(self) -> list[Any]:
        self.entered.set()
        assert self.gate.wait(60)
        done, self.running = self.running, {}
        self.batches.append(len(done))
        return [self._output(name, ids) for name, ids in done.items()]

    def _output(self, name: str, ids: list[int]) -> Any:
        text, reason = self._answer(ids)
        reply = SimpleNamespace(text=text, finish_reason=reason, token_ids=[1, 2, 3])
        return SimpleNamespace(request_id=name, finished=True, outputs=[reply])


def rating(ids: list[int]) -> tuple[str, str]:
    return '{"rating": 7}', "stop"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


def section(**changes: Any) -> JudgeScoring:
    base = {"type": "judge", "transport": "vllm", "model": "m", "template": "rating", "reasons": False}
    return JudgeScoring.model_validate({**base, "max_tokens": 16, **changes})


def thread_of(engine: FakeEngine, on_failure: Callable[[], object] = lambda: None) -> EngineThread:
    return EngineThread(lambda: engine, on_failure)


def model_of(engine: FakeEngine, tokenizer: Any, longest: int = 4096, **changes: Any) -> JudgeModel:
    return JudgeModel(renderer(tokenizer), thread_of(engine), section(**changes), longest)


def scores_of(
    model: JudgeModel, texts: list[str], before: Callable[[], object] = lambda: None, **limits: Any
) -> list[Score]:
    template = make_template("rating", None, reasons=False, structured=True)
    caller = Caller(CallLimits(**{"retries": 0, **limits}))
    options: dict[str, Any] = {"identity": "m", "seed": 0, "max_tokens": 16, "prices": Prices(output=1.0)}
    judge = LLMJudge("judge:rating:m", template, model, caller, **options)
    before()
    owner = prompt()
    scores = judge.score([owner] * len(texts), samples(owner, *texts))
    judge.close()
    return scores


def test_questions_asked_together_are_answered_in_one_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    """The first step waits until all twelve have arrived; they are then one batch, or two with the first alone."""
    engine = FakeEngine(rating)
    model = model_of(engine, tokenizer)
    arrived = model._engine._inbox
    threading.Thread(
        target=lambda: (_until(lambda: len(engine.running) + arrived.qsize() == 12), engine.gate.set())
    ).start()
    scores = scores_of(model, [f"cat {i}" for i in range(12)])
    assert [(s.status, s.reward, s.cost) for s in scores] == [("ok", 7.0, 3e-6)] * 12
    assert sum(engine.batches) == 12
    assert len(engine.batches) <= 2


def _until(condition: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(6000):
        if condition():
            return
        done.wait(0.01)
    raise AssertionError("it never happened")


def test_the_reply_is_constrained_where_the_config_says_so(tokenizer: PreTrainedTokenizerFast) -> None:
    for structured, temperature in ((True, 0.0), (False, 1.0)):
        engine = FakeEngine(rating)
        engine.gate.set()
        model = model_of(engine, tokenizer, structured=structured, temperature=temperature)
        reply = asyncio.run(model.complete([{"role": "user", "content": "cat"}], {"type": "object"}, 5))
        (params,) = engine.params
        assert (reply.text, reply.truncated, reply.output_tokens) == ('{"rating": 7}', False, 3)
        assert (params.structured_outputs is not None) is structured
        assert (params.max_tokens, params.seed) == (16, 5 if temperature else None)


def test_the_question_is_the_models_own_template(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = prompt_ids([{"role": "system", "content": "Judge."}, {"role": "user", "content": "cat"}], tokenizer)
    assert tokenizer.decode(ids) == "<|bos|><|system|>Judge.<|user|>cat<|assistant|>"


def test_a_reply_that_was_cut_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    engine = FakeEngine(lambda ids: ('{"rating": 7}', "length"))
    engine.gate.set()
    (score,) = scores_of(model_of(engine, tokenizer), ["cat"])
    assert (score.status, score.reward) == ("error", None)
    assert score.reason == "a reply cut at 3 tokens: it may lack its end"


def test_a_question_that_is_too_long_is_an_error_and_the_others_are_asked(tokenizer: PreTrainedTokenizerFast) -> None:
    engine = FakeEngine(rating)
    engine.gate.set()
    question = len(prompt_ids(_messages("cat"), tokenizer))
    bad, good = scores_of(model_of(engine, tokenizer, longest=question + 100), ["cat " * 200, "cat"])
    assert (bad.status, good.status) == ("error", "ok")
    assert "tokens; the judge's context leaves room for" in (bad.reason or "")
    assert sum(engine.batches) == 1


def _messages(text: str) -> Any:
    owner = prompt()
    return make_template("rating", None, reasons=False, structured=True).messages(owner, [text], "0" * 32)


def test_a_question_that_vllm_refuses_harms_no_other() -> None:
    engine = FakeEngine(rating)
    thread = thread_of(engine)
    good, bad = thread.submit([1], None), thread.submit([99999], None)
    with pytest.raises(Failure, match="vLLM refused the question: ValueError: token out of range") as caught:
        bad.result(60)
    engine.gate.set()
    assert good.result(60).outputs[0].text == '{"rating": 7}'
    assert caught.value.again is False


def test_what_nobody_waits_for_any_more_is_ended() -> None:
    """The first step is under way when the second request arrives and is cancelled: it never runs."""
    engine = FakeEngine(rating)
    thread = thread_of(engine)
    first = thread.submit([1], None)
    assert engine.entered.wait(60)
    second, third = thread.submit([2], None), thread.submit([3], None)
    assert second.cancel()
    engine.gate.set()
    assert [first.result(60), third.result(60)]
    assert sum(engine.batches) == 2
    assert len(engine.aborted) == 1


def test_a_late_reply_to_a_cancelled_request_is_dropped() -> None:
    engine = FakeEngine(rating)
    thread = thread_of(engine)
    only = thread.submit([1], None)
    assert engine.entered.wait(60)
    assert only.cancel()
    engine.gate.set()
    assert thread.submit([2], None).result(60)


def test_a_time_limit_frees_the_engine(tokenizer: PreTrainedTokenizerFast) -> None:
    engine = FakeEngine(rating)
    model = model_of(engine, tokenizer)
    (late,) = scores_of(model, ["cat"], timeout_s=0.2)
    assert (late.status, late.reward, late.reason) == ("timeout", None, "no reply within 0.2 s")
    engine.gate.set()
    (good,) = scores_of(model, ["dog"])
    assert good.status == "ok"


def test_when_vllm_fails_everything_that_runs_is_told_and_the_process_is_to_end() -> None:
    failed = threading.Event()

    def broken(ids: list[int]) -> tuple[str, str]:
        raise RuntimeError("engine core died")

    engine = FakeEngine(broken)
    thread = thread_of(engine, failed.set)
    futures: list[Future[Any]] = [thread.submit([1], None), thread.submit([2], None)]
    _until(lambda: len(engine.running) + thread._inbox.qsize() == 2)
    engine.gate.set()
    for future in futures:
        with pytest.raises(Failure, match="vLLM failed: RuntimeError: engine core died") as caught:
            future.result(60)
        assert caught.value.again
    assert failed.wait(60)


def test_an_engine_that_cannot_start_says_why() -> None:
    def start() -> Any:
        raise ValueError("no room for the KV cache")

    with pytest.raises(ValueError, match="no room for the KV cache"):
        EngineThread(start, lambda: None)
