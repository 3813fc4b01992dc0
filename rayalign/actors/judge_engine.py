"""A judge's model in a vLLM engine of its own: requests from everywhere join one running batch.

complete(messages) ─► chat template ─► inbox ─► the engine's thread: add, step, step, ... ─► reply

The engine's thread takes what has arrived before each step, so questions that are asked at the same time are answered
in one batch, without anyone gathering them.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rayalign.actors.vllm_outputs import finished_requests
from rayalign.actors.vllm_start import start_engine
from rayalign.config.run import RunConfig
from rayalign.config.services import JudgeScoring
from rayalign.records import JsonObject, Message
from rayalign.rendering.renderer import ChatRenderer
from rayalign.scoring.judges.judge_model import judge_renderer
from rayalign.scoring.models.text_model import load_config, longest_text
from rayalign.scoring.services.calls import Failure
from rayalign.scoring.services.transport import Reply

if TYPE_CHECKING:
    from vllm import LLMEngine, RequestOutput, SamplingParams

_log = logging.getLogger(__name__)
_ENDS = ("stop", "length")


@dataclass(frozen=True)
class _Request:
    token_ids: list[int]
    params: SamplingParams
    done: Future[RequestOutput] = field(default_factory=Future)


class EngineThread:
    """The thread that owns a vLLM engine.

    Args:
        start: makes the engine, in that thread; what it raises, the constructor raises.
        on_failure: called when the engine failed; everything that runs has then got that failure.
    """

    def __init__(self, start: Callable[[], LLMEngine], on_failure: Callable[[], object]) -> None:
        self._inbox: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._running: dict[str, _Request] = {}
        self._names = itertools.count()
        started: Future[None] = Future()
        threading.Thread(target=self._serve, args=(start, on_failure, started), daemon=True, name="judge").start()
        started.result()

    def submit(self, token_ids: list[int], params: SamplingParams) -> Future[RequestOutput]:
        """The finished output of a request. Cancelling the future ends the request at the next step."""
        request = _Request(token_ids, params)
        self._inbox.put(request)
        return request.done

    def _serve(self, start: Callable[[], LLMEngine], on_failure: Callable[[], object], started: Future[None]) -> None:
        try:
            engine = start()
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        while True:
            try:
                self._admit(engine)
                # Before the step, so that nothing is computed for whom nobody waits any more.
                self._drop_cancelled(engine)
                if self._running:
                    self._advance(engine)
            except BaseException as error:
                _log.exception("vLLM failed")
                for request in self._running.values():
                    _fail(request, Failure("error", f"vLLM failed: {type(error).__name__}: {error}", again=True))
                self._running.clear()
                on_failure()

    def _admit(self, engine: LLMEngine) -> None:
        """Take what has arrived; wait for it where nothing runs."""
        while not (self._running and self._inbox.empty()):
            request = self._inbox.get()
            name = str(next(self._names))
            try:
                engine.add_request(name, {"prompt_token_ids": request.token_ids}, request.params)
            except Exception as error:
                _fail(request, Failure("error", f"vLLM refused the question: {type(error).__name__}: {error}"))
            else:
                self._running[name] = request

    def _drop_cancelled(self, engine: LLMEngine) -> None:
        gone = [name for name, request in self._running.items() if request.done.cancelled()]
        if gone:
            engine.abort_request(gone)
            for name in gone:
                del self._running[name]

    def _advance(self, engine: LLMEngine) -> None:
        for output in finished_requests(engine):
            request = self._running.pop(output.request_id, None)
            if request is not None and request.done.set_running_or_notify_cancel():
                request.done.set_result(output)


def _fail(request: _Request, failure: Failure) -> None:
    if request.done.set_running_or_notify_cancel():
        request.done.set_exception(failure)


class JudgeModel:
    """`Transport` to a model in this process.

    Args:
        longest: tokens of question and reply together that the engine takes.
    """

    def __init__(self, renderer: ChatRenderer, engine: EngineThread, section: JudgeScoring, longest: int) -> None:
        self._renderer, self._engine, self._section, self._longest = renderer, engine, section, longest

    async def complete(self, messages: Sequence[Message], schema: JsonObject, seed: int) -> Reply:
        """The model's reply, constrained to the schema where the config says `structured`.

        Raises:
            Failure: the question is too long, or vLLM failed.
        """
        token_ids = self._renderer.prompt(messages, "the question")
        room = self._longest - self._section.max_tokens
        if len(token_ids) > room:
            raise Failure("error", f"a question of {len(token_ids)} tokens; the judge's context leaves room for {room}")
        output = await asyncio.wrap_future(self._engine.submit(token_ids, self._params(schema, seed)))
        [reply] = output.outputs
        if reply.finish_reason not in _ENDS:
            raise Failure("error", f"vLLM ended the reply with {reply.finish_reason!r}", again=True)
        return Reply(reply.text, reply.finish_reason == "length", len(token_ids), len(reply.token_ids))

    async def check(self) -> None:
        """It has been checked where it was found, and it has started."""

    async def close(self) -> None:
        """The engine ends with its process."""

    def _params(self, schema: JsonObject, seed: int) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        section = self._section
        return SamplingParams(
            temperature=section.temperature,
            max_tokens=section.max_tokens,
            stop_token_ids=self._renderer.stop_ids,
            seed=seed if section.temperature > 0 else None,
            structured_outputs=StructuredOutputsParams(json=schema) if section.structured else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def start_judge(
    folder: Path, section: JudgeScoring, config: RunConfig, date: datetime.date, on_failure: Callable[[], object]
) -> JudgeModel:
    """Load a judge's model into vLLM, in this process.

    Args:
        folder: checked with `check_judge_model`.
        date: of the run, for a chat template that asks for today's.
        on_failure: see `EngineThread`.
    """
    renderer = judge_renderer(folder, date)
    own = longest_text(load_config(folder), renderer.tokenizer)
    longest = min(section.context or own, own)
    arguments: dict[str, object] = {
        "dtype": section.dtype,
        "seed": config.run.seed,
        # White space is where a small model spends its tokens instead of closing the object.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
    start = functools.partial(start_engine, str(folder), config.cluster.judges, max_model_len=longest, **arguments)
    return JudgeModel(renderer, EngineThread(start, on_failure), section, longest)
