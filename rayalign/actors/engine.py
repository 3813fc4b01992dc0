"""vLLM in process: one engine, one thread that owns it, and one adapter version that it holds.

The engine answers for exactly one version at a time. `hold` moves it to another; `sample` and `logps` refuse any
version that is not held, so the base model (version 0, held only when asked for) is never served by accident.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rayalign.actors.served_weights import FORGETS, ServedWeights
from rayalign.actors.vllm_outputs import finished_requests, logps_of, sample_seed, to_sample
from rayalign.actors.vllm_start import decode_with_best_threads, start_vllm
from rayalign.config.run import RunConfig
from rayalign.errors import ActorFailedError, AdapterVersionError
from rayalign.learning.folders import load_tokenizer
from rayalign.records import AdapterFiles, Prompt, ReplicaState, Sample, SamplingPlan, TokenSequence
from rayalign.rendering.renderer import ChatRenderer
from rayalign.rendering.template import UNDATED

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class _Job:
    """Requests that belong together; finished outputs by request position."""

    requests: list[tuple[list[int], SamplingParams]]
    version: int
    done: Future[list[RequestOutput]] = field(default_factory=Future)
    outputs: dict[int, RequestOutput] = field(default_factory=dict)


@dataclass
class _Change:
    """What may be done only while no request runs."""

    action: Callable[[], Any]
    vital: bool
    """Where it fails, nobody knows what the engine holds."""
    done: Future[Any] = field(default_factory=Future)


class Engine:
    """One vLLM engine holding one adapter version. Methods may be called from several threads.

    Args:
        replica: name for messages and proofs.
        model: local folder of the base model.
        on_failure: called when vLLM failed, before those who wait for it are told: in an actor it ends the process, so
            that the pool replaces it and asks again.
        engines: processes of engines on this machine.
    """

    def __init__(
        self, replica: str, model: str, config: RunConfig, on_failure: Callable[[], object], engines: int = 1
    ) -> None:
        self.replica = replica
        self._on_failure = on_failure
        self._deterministic = config.loop.deterministic
        # Prompts come as token ids: only how an answer begins and ends is asked of it here.
        self._renderer = ChatRenderer(load_tokenizer(Path(model)), config.prompts.template, UNDATED)
        self._inbox: queue.SimpleQueue[_Job | _Change] = queue.SimpleQueue()
        self.threads, self._chosen = 1, False
        self.under_way = 0  # Requests that are finished, of jobs that are not.
        self._held: ReplicaState | None = None
        self._asleep: tuple[int, ReplicaState | None] | None = None
        """At which level, and what is held again after it."""
        self._changing: list[Future[Any]] = []
        started: Future[None] = Future()
        work = (model, config, engines, started)
        threading.Thread(target=self._serve, args=work, daemon=True, name="engine").start()
        started.result()

    # -- called from any thread

    @property
    def batch(self) -> int:
        """How many sequences run at once."""
        return self._engine.vllm_config.scheduler_config.max_num_seqs

    @property
    def cache_tokens(self) -> int:
        """How many tokens its key-value cache has room for, in sequences of the longest kind."""
        return self._engine.vllm_config.cache_config.kv_cache_size_tokens or 0

    def choose_threads(self) -> None:
        """Try once how many threads are best: to be asked when nothing else is done on this machine."""
        self._alone(self._choose_threads)

    def hold(self, version: int, files: AdapterFiles | None) -> ReplicaState:
        """Serve `version` from now on: `files` as a LoRA under a new name, id and path, merged into the weights, or
        as all weights; or (null) the bare base.

        Raises:
            SyncError: the files are not what their checksum says, or vLLM refuses them; no version is held then.
        """
        return self._alone(lambda: self._change_to(version, files))

    def sleep(self, level: int) -> None:
        """Give the memory of the device back when all that runs is answered, and hold no version until `wake`.

        Args:
            level: vLLM's. 1: the weights wait in host memory; 2: they are read again from the model's folder.
        """
        self._alone(lambda: self._fall_asleep(level), vital=True)

    def wake(self) -> ReplicaState | None:
        """Take the memory of the device again; returns what is held then, which is nothing after a sleep of level 2."""
        return self._alone(self._wake_up, vital=True)

    def close(self) -> None:
        """Remove the adapters' folder; the engine itself ends with its process."""
        self._weights.close()

    def sample(self, prompts: Sequence[Prompt], plan: SamplingPlan, version: int) -> list[Sample]:
        """K samples of each prompt, ordered by prompt and index.

        Raises:
            AdapterVersionError: `version` is not the one held.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        keys = [(prompt, index) for prompt in prompts for index in range(plan.responses)]
        requests = [
            (
                prompt.token_ids,
                SamplingParams(
                    temperature=plan.temperature,
                    top_p=plan.top_p,
                    max_tokens=plan.max_tokens,
                    seed=sample_seed(plan, prompt.id, index),
                    logprobs=0,
                    stop_token_ids=self._renderer.stop_ids,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                ),
            )
            for prompt, index in keys
        ]
        outputs = self._run(requests, version)
        return [
            to_sample(output, prompt, index, version, sample_seed(plan, prompt.id, index), self._renderer.spoken)
            for (prompt, index), output in zip(keys, outputs, strict=True)
        ]

    def logps(self, sequences: Sequence[TokenSequence], version: int) -> list[list[float]]:
        """Raw log-probability of every response token (nats), under the held version."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        requests = [(s.prompt_token_ids + s.response_token_ids, params) for s in sequences]
        results = []
        for sequence, output in zip(sequences, self._run(requests, version), strict=True):
            first = len(sequence.prompt_token_ids)
            assert output.prompt_logprobs is not None
            results.append(logps_of(sequence.response_token_ids, output.prompt_logprobs[first:]))
        return results

    def _run(self, requests: list[tuple[list[int], SamplingParams]], version: int) -> list[RequestOutput]:
        job = _Job(requests, version)
        self._inbox.put(job)
        return job.done.result()

    def _alone(self, action: Callable[[], T], *, vital: bool = False) -> T:
        """What an action gives, done when no request runs."""
        change = _Change(action, vital)
        self._inbox.put(change)
        return change.done.result()

    # -- the engine's own thread

    def _serve(self, model: str, config: RunConfig, engines: int, started: Future[None]) -> None:
        import torch

        try:
            set_threads, self.threads = torch.set_num_threads, torch.get_num_threads()
            self._engine = start_vllm(model, config, engines)
            self._try_threads = partial(decode_with_best_threads, self._engine, Path(model), config, set_threads)
            self._weights = ServedWeights(self._engine, self.replica, Path(model), config)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        running: dict[str, tuple[_Job, int]] = {}
        while True:
            try:
                self._admit(running)
                if running:
                    self._advance(running)
            except BaseException as error:
                _log.exception("vLLM failed")
                self._on_failure()
                failure = ActorFailedError(f"{self.replica}: vLLM failed: {type(error).__name__}: {error}")
                for waiting in [*(job.done for job, _ in running.values()), *self._changing]:
                    if not waiting.done():
                        waiting.set_exception(failure)
                self._engine.abort_request(list(running))
                running.clear()
                self._changing.clear()

    def _admit(self, running: dict[str, tuple[_Job, int]]) -> None:
        """Take what has arrived. A change of version waits until nothing runs; so does a job in deterministic mode."""
        while not (running and (self._deterministic or self._inbox.empty())):
            item = self._inbox.get()
            if isinstance(item, _Change):
                self._changing.append(item.done)
                while running:
                    self._advance(running)
                _settle(item)
                self._changing.clear()
            elif self._held is None or item.version != self._held.version:
                item.done.set_exception(self._refusal(item.version))
            elif not item.requests:
                item.done.set_result([])
            else:
                if self._deterministic:
                    self._engine.reset_prefix_cache()
                self._enter(item, running)

    def _enter(self, job: _Job, running: dict[str, tuple[_Job, int]]) -> None:
        try:
            for position, (token_ids, params) in enumerate(job.requests):
                name = f"{id(job)}-{position}"
                self._engine.add_request(
                    name, {"prompt_token_ids": token_ids}, params.clone(), lora_request=self._weights.lora
                )
                running[name] = (job, position)
        except Exception as error:
            mine = [name for name, (owner, _) in running.items() if owner is job]
            self._engine.abort_request(mine)
            for name in mine:
                del running[name]
            job.done.set_exception(ActorFailedError(f"{self.replica}: vLLM refused a request: {error}"))

    def _advance(self, running: dict[str, tuple[_Job, int]]) -> None:
        for output in finished_requests(self._engine):
            job, position = running.pop(output.request_id)
            job.outputs[position] = output
            self.under_way += 1
            if len(job.outputs) == len(job.requests):
                self.under_way -= len(job.requests)
                job.done.set_result([job.outputs[i] for i in range(len(job.requests))])

    def _refusal(self, asked: int) -> AdapterVersionError:
        held = "no version" if self._held is None else f"version {self._held.version}"
        return AdapterVersionError(
            f"{self.replica} was asked for adapter version {asked} and holds {held}{' asleep' if self._asleep else ''}",
            "answering would serve another model than the one asked for",
            "sync the adapter to this replica first",
        )

    def _choose_threads(self) -> None:
        if not self._chosen:
            self._chosen = True
            self._try_threads()

    def _change_to(self, version: int, files: AdapterFiles | None) -> ReplicaState:
        if self._asleep is not None:
            raise ActorFailedError(f"{self.replica} was given version {version} asleep", "its weights are not there")
        # Nothing is held until all of it is there: a change that fails half-way must answer for no version.
        self._held = None
        self._held = ReplicaState(self.replica, version, self._weights.change_to(version, files))
        return self._held

    def _fall_asleep(self, level: int) -> None:
        if self._asleep is None:
            # Asleep it holds no version, so that whatever is asked is refused.
            self._asleep, self._held = (level, self._held), None
            self._weights.sleep(level)

    def _wake_up(self) -> ReplicaState | None:
        if self._asleep is not None:
            level, held = self._asleep
            self._weights.wake(level)
            self._asleep, self._held = None, held if level < FORGETS else None
        return self._held


def _settle(change: _Change) -> None:
    try:
        change.done.set_result(change.action())
    except Exception as error:
        if change.vital:
            raise
        change.done.set_exception(error)
