"""Judges in actors of the run: each holds one model in vLLM, and all scorer actors ask it.

scorer actor: LLMJudge ─► Caller (limits, retries) ─► ActorTransport ─► JudgeActor ─► JudgeModel
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from typing import Protocol, cast

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from rayalign.actors.cluster import Cluster
from rayalign.actors.handles import Method, end, fetch, our_error, reason
from rayalign.actors.model_source import ModelSource, local_folder
from rayalign.actors.process import cpus_of, describe_process, die, redirect_output, runtime_env
from rayalign.config.run import RunConfig
from rayalign.config.scoring import judges_of
from rayalign.config.services import JudgeScoring
from rayalign.errors import ActorFailedError, StageTimeoutError
from rayalign.records import JsonObject, Message
from rayalign.scoring.services.calls import Failure
from rayalign.scoring.services.transport import Reply
from rayalign.scoring.sources import ScorerSource

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


class ActorTransport:
    """`Transport` to a judge actor. While the actor is being restarted calls wait; their time limit is the caller's."""

    name = "transport: vllm"

    def __init__(self, actor: JudgeHandle) -> None:
        self._actor = actor

    async def complete(self, messages: Sequence[Message], schema: JsonObject, seed: int) -> Reply:
        """The judge's reply.

        Raises:
            Failure: the judge gave none, or its actor is gone for good.
        """
        ref = self._actor.complete.remote(list(messages), schema, seed)
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
        except RayActorError as error:
            raise Failure("error", f"the judge's actor is gone: {reason(error)}") from error

    async def check(self) -> None:
        """The driver has waited for the actor's start."""

    async def close(self) -> None:
        """The actor is the driver's."""


class Judges:
    """The run's judge actors, one for each judge of `transport: vllm`, by the scorer's name."""

    def __init__(
        self, config: RunConfig, sources: Sequence[ScorerSource], log_folder: str, cluster: Cluster, *, cpus: float
    ) -> None:
        gpus = config.cluster.judges.gpus
        self._start_timeout_s = config.limits.start_timeout_s
        actor = ray.remote(JudgeActor).options(
            num_cpus=cpus_of(config.cluster.judges.tensor_parallel, cpus),
            num_gpus=gpus,
            max_restarts=MAX_RESTARTS,
            max_task_retries=-1,
            runtime_env=runtime_env(1, gpu=gpus > 0),
        )
        by_name = {section.name: source for section, source in zip(config.scoring, sources, strict=True)}
        self.actors: dict[str, JudgeHandle] = {}
        for i, section in enumerate(judges_of(config.scoring)):
            source = by_name[section.name]
            assert source.model is not None
            model = ModelSource.of(source.model, cluster)
            self.actors[section.name] = cast(
                JudgeHandle, actor.remote(f"judge-{i}", model, section, config, log_folder, source.date)
            )

    def ready(self) -> list[JsonObject]:
        """Wait until every judge answers; returns where each runs.

        Raises:
            ActorFailedError: one of them cannot start.
        RayalignError: what its constructor raised, if that is one of ours.
            StageTimeoutError: one of them took too long.
        """
        return [self._described(i, name) for i, name in enumerate(self.actors)]

    def _described(self, i: int, name: str) -> JsonObject:
        log = f"see logs/judge-{i}.log"
        try:
            return fetch(self.actors[name].describe.remote(), self._start_timeout_s)
        except GetTimeoutError:
            raise StageTimeoutError(
                f"{name}: its actor did not start in {self._start_timeout_s:g} s",
                "it waits for a node with room, or loading takes longer",
                f"{log}, or raise limits.start_timeout_s",
            ) from None
        except RayActorError as error:
            if ours := our_error(error):
                raise ours from error
            raise ActorFailedError(f"{name}: its actor cannot start", reason(error), log) from error

    def close(self) -> None:
        for actor in self.actors.values():
            end(actor)
