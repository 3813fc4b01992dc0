"""vLLM in process: one engine, one thread that owns it, and one adapter version that it holds.

The engine answers for exactly one version at a time. `hold` moves it to another; `sample` and `logps` refuse any
version that is not held, so the base model (version 0, held only when asked for) is never served by accident.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rayalign.actors.model_source import write_adapter
from rayalign.actors.vllm_outputs import finished_requests, logps_of, sample_seed, to_sample
from rayalign.actors.vllm_start import pack_head, start_vllm
from rayalign.config.run import RunConfig
from rayalign.errors import ActorFailedError, AdapterVersionError, SyncError
from rayalign.learning.folders import load_tokenizer
from rayalign.learning.merged import MergedWeights
from rayalign.records import (
    AdapterFiles,
    Prompt,
    ReplicaState,
    Sample,
    SamplingPlan,
    TokenSequence,
    weights_file,
)
from rayalign.rendering.renderer import ChatRenderer
from rayalign.rendering.template import UNDATED

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.lora.request import LoRARequest

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
class _Hold:
    version: int
    files: AdapterFiles | None
    done: Future[ReplicaState] = field(default_factory=Future)


class Engine:
    """One vLLM engine holding one adapter version. Methods may be called from several threads.

    Args:
        replica: name for messages and proofs.
        model: local folder of the base model.
        on_failure: called when vLLM failed, before those who wait for it are told: in an actor it ends the process, so
            that the pool replaces it and asks again.
    """

    def __init__(self, replica: str, model: str, config: RunConfig, on_failure: Callable[[], object]) -> None:
        self.replica = replica
        self._on_failure = on_failure
        self._deterministic = config.loop.deterministic
        # Prompts come as token ids: only how an answer begins and ends is asked of it here.
        self._renderer = ChatRenderer(load_tokenizer(Path(model)), config.prompts.template, UNDATED)
        self._inbox: queue.SimpleQueue[_Job | _Hold] = queue.SimpleQueue()
        self.under_way = 0  # Requests that are finished, of jobs that are not.
        self._held: int | None = None
        self._changing: list[Future[ReplicaState]] = []
        self._lora: LoRARequest | None = None
        self._merged = MergedWeights(Path(model)) if config.merges else None
        self._pristine = True
        self._adapter_ids = itertools.count(1)
        self._folder = Path(tempfile.mkdtemp(prefix="rayalign-adapters-"))
        started: Future[None] = Future()
        threading.Thread(target=self._serve, args=(model, config, started), daemon=True, name="engine").start()
        started.result()

    # -- called from any thread

    @property
    def batch(self) -> int:
        """How many sequences run at once."""
        return self._engine.vllm_config.scheduler_config.max_num_seqs

    def hold(self, version: int, files: AdapterFiles | None) -> ReplicaState:
        """Serve `version` from now on: `files` as a LoRA under a new name, id and path, merged into the weights, or
        as all weights; or (null) the bare base.

        Raises:
            SyncError: the files are not what their checksum says, or vLLM refuses them; no version is held then.
        """
        request = _Hold(version, files)
        self._inbox.put(request)
        return request.done.result()

    def close(self) -> None:
        """Remove the adapters' folder; the engine itself ends with its process."""
        shutil.rmtree(self._folder, ignore_errors=True)

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

    # -- the engine's own thread

    def _serve(self, model: str, config: RunConfig, started: Future[None]) -> None:
        try:
            self._engine = start_vllm(model, config)
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
            if isinstance(item, _Hold):
                self._changing.append(item.done)
                while running:
                    self._advance(running)
                self._changing.clear()
                _settle(item.done, lambda item=item: self._change_to(item.version, item.files))
            elif item.version != self._held:
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
                self._engine.add_request(name, {"prompt_token_ids": token_ids}, params.clone(), lora_request=self._lora)
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
        held = "no version" if self._held is None else f"version {self._held}"
        return AdapterVersionError(
            f"{self.replica} was asked for adapter version {asked} and holds {held}",
            "answering would serve another model than the one asked for",
            "sync the adapter to this replica first",
        )

    def _change_to(self, version: int, files: AdapterFiles | None) -> ReplicaState:
        if (version == 0) != (files is None):
            raise SyncError(f"{self.replica}: version {version} {'with' if files else 'without'} adapter files")
        # Nothing is held until all of it is there: a change that fails half-way must answer for no version.
        self._held = None
        sha256 = self._merge(files) if self._merged is not None else self._load_lora(files)
        # What the cache holds was computed under the weights before.
        self._engine.reset_prefix_cache()
        self._held = version
        return ReplicaState(self.replica, version, sha256)

    def _merge(self, files: AdapterFiles | None) -> str | None:
        """Replace all weights by the checkpoint's, the adapter added, or by those that the learner made of them; what
        failed half-way is repaired by the next."""
        assert self._merged is not None
        sha256 = None if files is None else hashlib.sha256(files.files[weights_file(files.files)]).hexdigest()
        self._check(files, sha256)
        if not (files is None and self._pristine):
            tensors = self._merged.tensors(None if files is None else files.files)
            self._pristine = False
            self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": tensors})
            self._engine.apply_model(pack_head)
            self._pristine = files is None
        return sha256

    def _load_lora(self, files: AdapterFiles | None) -> str | None:
        from vllm.lora.request import LoRARequest

        if self._lora is not None:
            self._engine.remove_lora(self._lora.lora_int_id)
            shutil.rmtree(self._lora.lora_path)
            self._lora = None
        if files is None:
            return None
        number = next(self._adapter_ids)
        folder = self._folder / f"v{files.version}-{files.sha256[:12]}-{number}"
        sha256 = write_adapter(folder, files)
        self._check(files, sha256)
        lora = LoRARequest(folder.name, number, str(folder))
        if not self._engine.add_lora(lora):
            raise SyncError(f"{self.replica}: vLLM did not take adapter {files.version}")
        self._lora = lora
        return sha256

    def _check(self, files: AdapterFiles | None, sha256: str | None) -> None:
        if files is not None and sha256 != files.sha256:
            raise SyncError(
                f"{self.replica}: adapter {files.version} arrived with checksum {sha256}",
                f"the learner made {files.sha256}",
            )


def _settle(future: Future[T], action: Callable[[], T]) -> None:
    try:
        future.set_result(action())
    except Exception as error:
        future.set_exception(error)
