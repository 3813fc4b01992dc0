"""Sections `cluster` and `limits`: who runs where, with how many replicas, and how long each may take."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from rayalign.config.base import Actors, NotNegative, Positive, Probability, Section


def _used(gpus: float) -> float:
    if gpus > 1:
        raise ValueError(
            f"each uses one GPU at most, and {gpus:g} would be reserved: set it to 1 (or to a part of one), and have "
            "more workers or actors instead"
        )
    return gpus


GIB = 2**30
PART_SHARE = 0.9
"""The share of its part of a GPU's memory that an engine takes where the config does not say."""
TURNS_SHARE = 0.85
"""The same of an engine that takes turns with a learner: the learner's process leaves its CUDA context there."""
CPU_CACHE_GIB = 1
"""Of the key-value cache of one process on CPU where the config does not say, and what it is to hold is not known."""
SMALLEST_PART = 0.01
"""Of a GPU; Ray counts in ten-thousandths."""


def _counted(gpus: float) -> float:
    if 0 < gpus < SMALLEST_PART:
        raise ValueError(f"{gpus:g} of a GPU is too little to be counted: set it to {SMALLEST_PART} or more, or to 0")
    return gpus


Gpus = Annotated[NotNegative, AfterValidator(_counted)]
OneGpu = Annotated[Gpus, AfterValidator(_used)]
"""One GPU, a part of one, or none."""


def _named(memory: object) -> object:
    # Configs of older runs have null.
    return "auto" if memory is None else memory


EngineMemory = Annotated[Positive | Literal["auto"], BeforeValidator(_named)]

MOST_THREADS = 1024
ThreadCount = Annotated[int, Field(ge=1, le=MOST_THREADS)] | Literal["auto"]
"""Of one process on CPU."""


class EngineSection(Section):
    """The devices of one vLLM engine."""

    gpus: Gpus = 0
    """GPUs of each engine: 0 is CPU, below 1 a part of one, else one for each process of `tensor_parallel`."""
    threads: ThreadCount = "auto"
    """Of each process of an engine on CPU. `auto`: the cores of its node, shared with those that work at the same
    time, and fewer where fewer decode faster, which is tried once per model and machine."""
    tensor_parallel: Actors = 1
    """Processes, all on one node, that share out every weight matrix of an engine among them."""
    memory: EngineMemory = "auto"
    """Memory of each GPU that the engine takes, weights included: up to 1 a share, above that GiB. On CPU: the
    key-value cache of each process, as a share of the machine's memory or in GiB. `auto`: vLLM's .92 of a whole GPU, .9
    of the part that `gpus` names; on CPU what a generator has under way at once (`learning.engine_cache`), 1 GiB for a
    judge."""

    @model_validator(mode="after")
    def _takes_what_it_uses(self) -> Self:
        gpus, processes = self.gpus, self.tensor_parallel
        if processes > 1 and gpus not in (0, processes):
            raise ValueError(
                f"tensor_parallel {processes} runs on {processes} GPUs of one node, and gpus is {gpus:g}: set gpus to "
                f"{processes}, or to 0 for CPU"
            )
        if processes == 1 and gpus > 1:
            raise ValueError(
                f"gpus {gpus:g} would reserve {gpus:g} GPUs for an engine that uses one: set tensor_parallel to "
                f"{gpus:g} for an engine over all of them, or gpus to 1 and have more engines"
                if gpus.is_integer()
                else f"gpus {gpus:g} is neither a part of one GPU nor a whole number: set it to 1, or below"
            )
        if self.memory != "auto" and 0 < gpus < 1 and gpus < self.memory <= 1:
            raise ValueError(
                f"memory {self.memory:g} is more of a GPU than the {gpus:g} that gpus reserves: lower memory, or "
                "raise gpus"
            )
        return self

    @property
    def part(self) -> float:
        """The share of each of its GPUs that is reserved for an engine."""
        return min(1.0, self.gpus)

    def gpu_bytes(self, gpu: float) -> float | None:
        """What an engine takes of each of its GPUs; None leaves it to vLLM.

        Args:
            gpu: bytes of each.
        """
        if self.memory == "auto":
            return None if self.part == 1 else PART_SHARE * self.part * gpu
        return self.memory * (gpu if self.memory <= 1 else GIB)

    def cache_bytes(self, machine: float, auto: float = CPU_CACHE_GIB * GIB) -> float:
        """The key-value cache of each process of an engine on CPU.

        Args:
            machine: bytes of its main memory.
            auto: bytes that `memory: auto` comes to.
        """
        if self.memory == "auto":
            return auto
        return self.memory * (machine if self.memory <= 1 else GIB)


class PoolSize(Section):
    """Replicas: all of `max` are asked for, and work begins with `min`."""

    min: Actors = 1
    max: Actors = 1

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min}): raise max")
        return self


class ScorerPool(PoolSize):
    gpus: OneGpu = 0
    threads: ThreadCount = "auto"
    """Of each on CPU. `auto`: one, or where they hold a model a share of the node's cores."""
    idle_s: Positive | None = None
    """Seconds without work after which those beyond `min` are sent away, until there is work again; null keeps them."""


class GeneratorPool(EngineSection, ScorerPool):
    """`gpus` is an engine's, which may use several."""

    sleep: Literal[1, 2] = 1
    """Where they take turns with the learner, what becomes of an engine's weights meanwhile: 1 keeps them in host
    memory, 2 reads them again from the model's folder."""

    def on_a_node(self, nodes: int) -> int:
        """Processes of engines on one of so many nodes, over which they are spread."""
        return math.ceil(self.max * self.tensor_parallel / max(1, nodes))


class LearnerPool(Section):
    gpus: OneGpu = 0
    threads: ThreadCount = "auto"
    """Of each worker on CPU. `auto`: the cores of its node, which workers on it share, and fewer where fewer are
    faster, which is tried once per model and machine."""


class JudgePool(EngineSection, PoolSize):
    """Of each judge of `transport: vllm`."""


class ClusterSection(Section):
    placement: Literal["auto", "colocated", "disaggregated"] = "auto"
    """`colocated`: generators and learner take turns on the same cores, or the same GPUs. `disaggregated`: each on
    nodes or GPUs of its own. `auto`: disaggregated where the cluster has nodes or GPUs for both."""
    turns: bool = False
    """With `colocated` on CPU, also leave the memory to each other, as on GPUs: a rehearsal."""
    generators: GeneratorPool = GeneratorPool()
    scorers: ScorerPool = ScorerPool()
    judges: JudgePool = JudgePool()
    learner: LearnerPool = LearnerPool()

    @property
    def shares_gpus(self) -> bool:
        """Whether generators and learner are on the same GPUs."""
        return self.placement == "colocated" and self.generators.gpus > 0 and self.learner.gpus > 0

    @property
    def takes_turns(self) -> bool:
        """Whether only one of generators and learner is in the memory of the devices at a time."""
        return self.shares_gpus or self.turns

    @property
    def engine(self) -> EngineSection:
        """The devices of a generator as its engine starts on them."""
        found = self.generators
        if not self.shares_gpus or found.memory != "auto":
            return found
        return found.model_copy(update={"memory": TURNS_SHARE * found.part})

    @model_validator(mode="after")
    def _turns_fit(self) -> Self:
        if self.turns and self.placement != "colocated":
            raise ValueError(
                f"turns: true with placement {self.placement}: only those on the same devices leave them to each "
                "other; set placement: colocated, or turns: false"
            )
        pool = self.generators
        if self.takes_turns and pool.min != pool.max:
            raise ValueError(
                f"generators.min {pool.min} and .max {pool.max} where they take turns with the learner: none may join "
                "or leave in between; set both to the same"
            )
        if self.shares_gpus and pool.part != self.learner.gpus:
            raise ValueError(
                f"placement colocated: an engine takes {pool.part:g} of each of its GPUs and a learner worker "
                f"{self.learner.gpus:g} of the same one; set learner.gpus to {pool.part:g}"
            )
        return self


class LimitsSection(Section):
    score_errors: Probability = 0.02
    poisoned_shards: Annotated[int, Field(ge=0)] = 4
    """Parts of shards that may be set aside, each after four replicas died of it; one more ends the run."""
    sample_timeout_s: Positive = 600
    score_timeout_s: Positive = 120
    sync_timeout_s: Positive = 300
    update_timeout_s: Positive = 3600
    start_timeout_s: Positive = 900
