"""A run on paper: the memory of its processes, the work and time of a round, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rayalign.config.changed import value_of, with_values
from rayalign.config.run import RunConfig
from rayalign.learning.shape import ModelShape
from rayalign.planning.cluster import Machines
from rayalign.planning.devices import Device
from rayalign.planning.load import Lengths, RoundLoad, round_load
from rayalign.planning.memory import EngineMemory, Memory, generator_memory, learner_memory, offloaded
from rayalign.planning.times import Measured, StageTimes, stage_times

OTHER_PROCESSES = 1.5 * 2**30
"""Driver, scorer and Ray's own on the driver's node, bytes of main memory (docs/log.md)."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """Something that does not fit, and what to change."""

    found: str
    remedies: tuple[str, ...]
    """Settings of the config, each with what comes of it; computed, not guessed."""


@dataclass(frozen=True, slots=True)
class Plan:
    config: RunConfig
    shape: ModelShape
    machines: Machines
    lengths: Lengths
    """The means that work and time are counted with; memory is that of the longest."""
    load: RoundLoad
    engine: EngineMemory
    learner: Memory
    times: StageTimes
    measured: Measured | None
    misfits: tuple[Misfit, ...] = ()

    @property
    def devices(self) -> tuple[Device, Device]:
        """Of a generator and of a learner rank."""
        pools = self.config.cluster
        return self.machines.device(pools.generators.gpus), self.machines.device(pools.learner.gpus)

    @property
    def run_seconds(self) -> float:
        """All rounds, and the evaluation of the base before them."""
        rounds, every = self.config.run.rounds, self.config.evaluation.every
        evaluations = 1 + rounds // every
        times = self.times
        trained = rounds * (times.sample + times.update) + rounds // every * times.measure_kl
        return trained + evaluations * times.evaluate

    def usd(self, seconds: float) -> float | None:
        """What all machines cost meanwhile; None where no price is known."""
        price = self.machines.usd_per_hour
        return None if price is None else price * seconds / 3600


def make_plan(
    config: RunConfig, shape: ModelShape, machines: Machines, lengths: Lengths, measured: Measured | None = None
) -> Plan:
    """The plan of a run with all replicas that may join.

    Args:
        lengths: mean tokens of prompts and answers.
        measured: of this model with this config, in place of the table's rates.
    """
    devices = machines.device(config.cluster.generators.gpus), machines.device(config.cluster.learner.gpus)
    load = round_load(config, shape, lengths)
    engine = generator_memory(config, shape, devices[0], machines.engines(config))
    learner = learner_memory(config, shape, devices[1], Lengths.longest(config))
    times = stage_times(config, shape, load, devices, engine, measured)
    misfits = tuple(_misfits(config, shape, machines, engine, learner))
    return Plan(config, shape, machines, lengths, load, engine, learner, times, measured, misfits)


def _misfits(
    config: RunConfig, shape: ModelShape, machines: Machines, engine: EngineMemory, learner: Memory
) -> Iterator[Misfit]:
    if (found := reserved_misfit(config, machines)) is not None:
        yield Misfit(found, ("lower cluster.generators.memory, or raise cluster.generators.gpus",))
    if (found := engine_misfit(config, engine)) is not None:
        shorter = int(engine.cache_tokens) - 1
        lower = (f"lower prompts.max_tokens and sampling.max_tokens to {shorter} together",) if shorter > 1 else ()
        yield Misfit(found, lower + tuple(_remedies(config, shape, machines, "generator")))
    if (found := learner_misfit(config, shape, machines, learner)) is not None:
        yield Misfit(found, tuple(_remedies(config, shape, machines, "learner")))
    if (found := host_misfit(config, shape, machines, engine, learner)) is not None:
        yield Misfit(found, tuple(_remedies(config, shape, machines, "host")))


def reserved_misfit(config: RunConfig, machines: Machines) -> str | None:
    """Why a generator cannot have the memory that the config says: it is beyond what is reserved for it."""
    generators = config.cluster.generators
    device = machines.device(generators.gpus)
    room = device.memory * generators.part
    if not device.gpu or generators.memory == "auto" or (asked := generators.gpu_bytes(device.memory) or 0) <= room:
        return None
    return f"cluster.generators.memory is {gib(asked)} GiB, and {gib(room)} of its {device.name} are reserved"


def engine_misfit(config: RunConfig, engine: EngineMemory) -> str | None:
    """Why a generator cannot start: no room for one sequence of the longest kind beside the weights."""
    needed = config.max_sequence_tokens + 1
    if engine.cache_tokens >= needed:
        return None
    return (
        f"a generator's weights take {gib(engine.memory.weights)} GiB, of its device it may have {gib(engine.limit)}: "
        f"the cache has room for {max(0, engine.cache_tokens):.0f} tokens, and the longest sequence has {needed}"
    )


def learner_misfit(config: RunConfig, shape: ModelShape, machines: Machines, learner: Memory) -> str | None:
    """Why a learner rank's device is too small; of a CPU, whose memory all share, `host_misfit` tells."""
    device = machines.device(config.cluster.learner.gpus)
    if not device.gpu:
        return None
    room = device.memory * min(1.0, config.cluster.learner.gpus)
    if learner.sum <= room:
        return None
    return f"a learner rank needs {gib(learner.sum)} GiB in the update, and has {gib(room)} of its {device.name}"


def host_misfit(
    config: RunConfig, shape: ModelShape, machines: Machines, engine: EngineMemory, learner: Memory
) -> str | None:
    """Why main memory is too small for the processes that compute on CPUs and for what others keep there, spread evenly
    over the nodes."""
    pools, total = config.cluster, OTHER_PROCESSES
    if not pools.generators.gpus:
        total += pools.generators.max * pools.generators.tensor_parallel * engine.memory.sum
    away = offloaded(config, shape)
    total += config.training.workers * (away.weights + away.optimizer if pools.learner.gpus else learner.sum)
    if total / machines.nodes <= machines.memory:
        return None
    each = f" on each of {machines.nodes} nodes" if machines.nodes > 1 else ""
    needed = f"{gib(total / machines.nodes)} GiB of main memory{each}"
    return f"the processes need {needed}, and there are {gib(machines.memory)}"


SHARED_OUT: dict[str, object] = {"training.zero_stage": 3, "model.dtype": "bfloat16"}
CHANGES: dict[str, tuple[dict[str, object], ...]] = {
    "generator": (
        {"cluster.generators.memory": "auto"},
        {"model.dtype": "bfloat16"},
        *({"cluster.generators.tensor_parallel": n, "cluster.generators.gpus": n} for n in (2, 4, 8)),
        {"model.dtype": "bfloat16", "cluster.generators.tensor_parallel": 2, "cluster.generators.gpus": 2},
        {"model.dtype": "bfloat16", "cluster.generators.tensor_parallel": 4, "cluster.generators.gpus": 4},
        {"model.dtype": "bfloat16", "cluster.generators.tensor_parallel": 8, "cluster.generators.gpus": 8},
    ),
    "learner": (
        {"training.tokens_per_micro_batch": 1},
        {"training.gradient_checkpointing": True},
        {"model.dtype": "bfloat16"},
        {"training.gradient_checkpointing": True, "training.tokens_per_micro_batch": 1},
        {"model.dtype": "bfloat16", "training.gradient_checkpointing": True},
        {"model.quantization": "nf4", "model.dtype": "bfloat16"},
        {"model.quantization": "nf4", "model.dtype": "bfloat16", "training.gradient_checkpointing": True},
        *({**SHARED_OUT, "training.workers": n} for n in (2, 4, 8)),
        *({**SHARED_OUT, "training.workers": n, "training.gradient_checkpointing": True} for n in (2, 4, 8)),
        *({**SHARED_OUT, "training.workers": n, "training.offload": ["parameters"]} for n in (1, 2, 4, 8)),
    ),
    "host": (
        {"cluster.generators.memory": "auto"},
        {"training.tokens_per_micro_batch": 1},
        {"training.gradient_checkpointing": True},
        {"cluster.generators.min": 1, "cluster.generators.max": 1},
        {"training.workers": 1},
        {"model.dtype": "bfloat16"},
        {"model.dtype": "bfloat16", "training.gradient_checkpointing": True},
    ),
}
"""What may be set where a part does not fit, the mildest first; a micro-batch of one token is one group."""
SHOWN = 3


def _remedies(config: RunConfig, shape: ModelShape, machines: Machines, part: str) -> Iterator[str]:
    """The first changes with which the part fits, none of them more than another, or that none does."""
    found: list[dict[str, object]] = []
    for listed in CHANGES[part]:
        # 1 is a number of layers, and equals true.
        change = {key: value for key, value in listed.items() if repr(value_of(config, key)) != repr(value)}
        known = any(one.items() <= change.items() for one in found)
        changed = None if known or not change else with_values(config, change)
        if changed is None or len(found) == SHOWN or not machines.have(changed):
            continue
        after, memory = _after(changed, shape, machines, part)
        if after is None:
            found.append(change)
            change, memory = _fewest_layers(config, shape, machines, part, change, memory)
            yield f"set {', '.join(f'{key}={_shown(value)}' for key, value in change.items())}{memory}"
    if not found:
        yield "no setting makes it fit: take devices with more memory, or a smaller model.base"


def _fewest_layers(
    config: RunConfig, shape: ModelShape, machines: Machines, part: str, change: dict[str, object], memory: str
) -> tuple[dict[str, object], str]:
    """(a change that remakes all layers with as few as fit, what the part then takes)."""
    key = "training.gradient_checkpointing"
    for layers in range(1, shape.layers if key in change else 1):
        fewer = {**change, key: layers}
        changed = with_values(config, fewer)
        after, taken = ("", "") if changed is None else _after(changed, shape, machines, part)
        if after is None:
            return fewer, taken
    return change, memory


def _after(config: RunConfig, shape: ModelShape, machines: Machines, part: str) -> tuple[str | None, str]:
    """(why the part does not fit either under a changed config, what it then takes)."""
    devices = machines.device(config.cluster.generators.gpus), machines.device(config.cluster.learner.gpus)
    engine = generator_memory(config, shape, devices[0], machines.engines(config))
    learner = learner_memory(config, shape, devices[1], Lengths.longest(config))
    if part == "generator":
        return engine_misfit(config, engine), f" ({gib(engine.memory.weights)} GiB of weights)"
    host = host_misfit(config, shape, machines, engine, learner)
    if part == "learner":
        # What leaves the GPU has to fit elsewhere.
        why = learner_misfit(config, shape, machines, learner) or (host if config.training.offload else None)
        return why, f" ({gib(learner.sum)} GiB)"
    return host, ""


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def gib(count: float) -> str:
    return f"{count / 2**30:.1f}"
