"""Judges in actors of the run: each holds a model in vLLM, and all scorer actors ask the actors of a judge.

scorer actor: LLMJudge ─► Caller (limits, retries) ─► ActorTransport ─► JudgeActor ─► JudgeModel
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import ray
from ray import ObjectRef
from ray.exceptions import RayActorError, RayTaskError

from rayalign.actors.cluster import Cluster
from rayalign.actors.devices import judge_names
from rayalign.actors.handles import Method, answer_of, end, first_done, reason
from rayalign.actors.model_source import ModelSource, local_folder
from rayalign.actors.process import cpus_of, describe_process, die, redirect_output, runtime_env
from rayalign.config.run import RunConfig
from rayalign.config.scoring import Scoring, judges_of
from rayalign.config.services import JudgeScoring
from rayalign.errors import ActorFailedError, StageTimeoutError
from rayalign.records import JsonObject, Message
from rayalign.scoring.services.calls import Failure
from rayalign.scoring.services.transport import Reply
from rayalign.scoring.sources import ScorerSource
from rayalign.stopping import POLL_S

MAX_RESTARTS = 3
"""Restarts of one judge in a run; a question that kills vLLM must not do so for ever."""


class JudgeActor:
    """One judge's model; calls run concurrently in its event loop, and the engine batches what they ask."""

    def __init__(
        self,
        name: str,
        model: ModelSource,
        section: JudgeScoring,
        config: RunConfig,
        log_folder: str,
        date: datetime.date,
    ) -> None:
        redirect_output(log_folder, name)
        from rayalign.actors.judge_engine import start_judge

        self._name = name
        self._model = start_judge(local_folder(model), section, config, date, on_failure=die)

    async def describe(self) -> JsonObject:
        return describe_process(self._name)

    async def complete(self, messages: Sequence[Message], schema: JsonObject, seed: int) -> Reply:
        return await self._model.complete(messages, schema, seed)


class JudgeHandle(Protocol):
    """The handle of a `JudgeActor`."""

    @property
    def describe(self) -> Method[[], JsonObject]: ...

    @property
    def complete(self) -> Method[[list[Message], JsonObject, int], Reply]: ...


@dataclass(slots=True, eq=False)
class _Asked:
    """A replica of a judge, as one scorer actor sees it."""

    handle: JudgeHandle
    started: ObjectRef[JsonObject] | None
    """Done when it has started; null where that is known."""
    calls: int = 0
    """Under way."""


class ActorTransport:
    """`Transport` to the actors of a judge: each call goes to the least busy of those that have started.

    While an actor is being restarted its calls wait; their time limit is the caller's. Used in one event loop.
    """

    name = "transport: vllm"

    def __init__(self, actors: Sequence[JudgeHandle]) -> None:
        self._replicas = [_Asked(actor, actor.describe.remote()) for actor in actors]

    async def complete(self, messages: Sequence[Message], schema: JsonObject, seed: int) -> Reply:
        """The judge's reply.

        Raises:
            Failure: the judge gave none, or all its actors are gone for good.
        """
        while True:
            replica = self._least_busy()
            replica.calls += 1
            try:
                return await _reply(replica.handle.complete.remote(list(messages), schema, seed))
            except RayActorError as error:
                self._replicas = [one for one in self._replicas if one is not replica]
                if not self._replicas:
                    raise Failure("error", f"the judge's actor is gone: {reason(error)}") from error
            finally:
                replica.calls -= 1

    async def check(self) -> None:
        """The driver has waited for the actors that a run begins with."""

    async def close(self) -> None:
        """The actors are the driver's."""

    def _least_busy(self) -> _Asked:
        coming = {one.started: one for one in self._replicas if one.started is not None}
        for ref in ray.wait(list(coming), num_returns=len(coming), timeout=0)[0] if coming else []:
            # One that cannot start says so to whoever asks it.
            coming[ref].started = None
        started = [one for one in self._replicas if one.started is None]
        return min(started or self._replicas, key=lambda one: one.calls)


async def _reply(ref: ObjectRef[Reply]) -> Reply:
    """
    Raises:
        Failure: the judge gave none.
        RayActorError: its actor is gone for good.
    """
    try:
        return await ref
    except asyncio.CancelledError:
        # Nobody waits for it any more: it must not take the place of what is still wanted.
        ray.cancel(ref)
        raise
    except RayTaskError as error:
        if isinstance(error.cause, Failure):
            raise error.cause from None
        raise Failure("error", f"the judge failed: {type(error.cause).__name__}: {error.cause}") from error


class Judges:
    """The actors of the run's judges, those of `transport: vllm`, by the scorer's name: all that may join are asked for
    at once.

    Args:
        sections: the judges are among them.
        sources: one per section.
        first: number of the first judge, for the actors' names.
    """

    def __init__(
        self,
        config: RunConfig,
        sections: Sequence[Scoring],
        sources: Sequence[ScorerSource],
        log_folder: str,
        cluster: Cluster,
        *,
        cpus: float,
        threads: int = 1,
        first: int = 0,
    ) -> None:
        pool = config.cluster.judges
        self._least, self._start_timeout_s = pool.min, config.limits.start_timeout_s
        actor = ray.remote(JudgeActor).options(
            num_cpus=cpus_of(pool.tensor_parallel, cpus),
            num_gpus=pool.gpus,
            max_restarts=MAX_RESTARTS,
            max_task_retries=-1,
            runtime_env=runtime_env(threads, gpu=pool.gpus > 0),
        )
        by_name = {section.name: source for section, source in zip(sections, sources, strict=True)}
        self.actors: dict[str, list[JudgeHandle]] = {}
        self._logs: dict[str, str] = {}
        for i, section in enumerate(judges_of(sections), first):
            source, names = by_name[section.name], judge_names(i, pool.max)
            assert source.model is not None
            model = ModelSource.of(source.model, cluster)
            self.actors[section.name] = [
                cast(JudgeHandle, actor.remote(name, model, section, config, log_folder, source.date)) for name in names
            ]
            self._logs[section.name] = " and ".join(f"logs/{name}.log" for name in names)

    def ready(self) -> list[JsonObject]:
        """Wait until as many of every judge's actors answer as a run begins with; returns where these run.

        Raises:
            ActorFailedError: one of them cannot start.
            RayalignError: what its constructor raised, if that is one of ours.
            StageTimeoutError: they took too long.
        """
        return [described for name in self.actors for described in self._described(name)]

    def _described(self, name: str) -> list[JsonObject]:
        log, found = f"see {self._logs[name]}", list[JsonObject]()
        coming = [actor.describe.remote() for actor in self.actors[name]]
        deadline = time.monotonic() + self._start_timeout_s
        while len(found) < self._least:
            done = first_done(coming, POLL_S)
            if not done and time.monotonic() > deadline:
                raise StageTimeoutError(
                    f"{name}: {len(found)} of {self._least} actors started in {self._start_timeout_s:g} s",
                    "they wait for a node with room, or loading takes longer",
                    f"{log}, or raise limits.start_timeout_s",
                )
            for ref in done:
                coming.remove(ref)
                try:
                    found.append(answer_of(ref))
                except RayActorError as error:
                    raise ActorFailedError(f"{name}: its actor cannot start", reason(error), log) from error
        return found

    def close(self) -> None:
        for actors in self.actors.values():
            for actor in actors:
                end(actor)
