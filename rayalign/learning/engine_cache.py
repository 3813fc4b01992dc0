"""How large the key-value cache of an engine on CPU is, where `memory: auto` leaves it to us.

    sequences that a replica has under way at once  x  the longest one, in whole blocks  x  bytes of a token's keys and
    values, of which tensor parallel gives each process its part

What starts an engine, what plans a run and what only says what a run would do ask the same function. A cache that is
too small costs time and nothing else: a sequence without room waits, or is put off and computed again.
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

from rayalign.config.cluster import CPU_CACHE_GIB, GIB
from rayalign.config.objective import RevisionObjective
from rayalign.config.run import RunConfig
from rayalign.errors import ModelError
from rayalign.learning.shape import ModelShape
from rayalign.records import SHARD_PROMPTS

ENGINE_SEQUENCES = 128
"""Sequences that an engine in process runs at once at most: vLLM's `max_num_seqs`, its default there."""
CPU_BLOCK = 128
"""Tokens of a block of an engine's cache on CPU."""
LEAST_CACHE = GIB / 4
"""Of one process, bytes, whatever its sequences take."""
CACHE_SHARE = 1 / 8
"""Of a machine's memory, what the caches of all engines on it take together at most, unless one of them could then not
hold its longest sequence. On 8 GiB it is 1 GiB; the learner, the weights and Ray's objects have the rest."""
FREE_SHARE = 1 / 2
"""Of the memory that is free when an engine starts, what the caches of all engines take together at most: the weights
and the learner are still to come."""
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says what a container may have."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheNeed:
    """What the cache of one process of a generator on CPU is to hold."""

    sequences: int
    """At once."""
    tokens: int
    """Of the longest one."""
    sequence: float
    """Bytes of the longest one, in whole blocks."""
    block: float
    """Bytes of a block; vLLM keeps one empty."""
    floor: float = LEAST_CACHE

    @property
    def whole(self) -> float:
        """Bytes for all of the sequences, each as long as the longest."""
        return self.sequences * self.sequence + self.block

    @property
    def least(self) -> float:
        """Bytes below which an engine does not start, or hardly works: the longest sequence has room."""
        return max(self.floor, self.sequence + self.block)

    def bytes(self, machine: float, engines: int) -> float:
        """What `memory: auto` comes to: all that is needed, as far as the machine's memory goes.

        Args:
            machine: bytes of its main memory.
            engines: processes of engines on it.
        """
        return max(self.least, min(self.whole, CACHE_SHARE * machine / engines))

    def bytes_now(self, machine: float, engines: int, free: float) -> float:
        """The same where other programs may have taken memory already.

        Args:
            free: bytes of main memory that nobody has now.
        """
        return max(self.least, min(self.bytes(machine, engines), FREE_SHARE * free / engines))

    def describe(self, cache: float) -> str:
        """A cache of so many bytes in words."""
        fits = int((cache - self.block) // self.sequence)
        held = f"for {self.sequences}" if fits >= self.sequences else f"room for {max(0, fits)} of {self.sequences}"
        return f"{cache / GIB:.2f} GiB, {held} sequences of {self.tokens} tokens"


def cache_need(config: RunConfig, shape: ModelShape) -> CacheNeed:
    """What a generator's cache is to hold. Layers that keep a state take room that is not counted: with them it is no
    less than `CPU_CACHE_GIB`."""
    tokens = config.max_sequence_tokens + 1
    sequence = sequence_bytes(config, shape, -(-tokens // CPU_BLOCK) * CPU_BLOCK, gpu=False)
    block = sequence_bytes(config, shape, CPU_BLOCK, gpu=False)
    floor = CPU_CACHE_GIB * GIB if shape.stateful else LEAST_CACHE
    return CacheNeed(sequences_at_once(config), tokens, sequence, block, floor)


def need_of_model(config: RunConfig, folder: Path) -> CacheNeed | None:
    """The same of the model in a folder; None where its sizes are not known, and the cache is `CPU_CACHE_GIB`."""
    try:
        return cache_need(config, ModelShape.of(folder, config.model))
    except ModelError as error:
        log.warning("the key-value cache is %d GiB: %s", CPU_CACHE_GIB, error)
        return None


def sequences_at_once(config: RunConfig) -> int:
    """Sequences that a replica runs at once: those of the shards that it has in flight, as far as its batch goes.

    These are enough to fill the batch (`actors.generator.InFlight`), in deterministic mode one shard; of a stage with
    fewer prompts all, since one replica may get them. How many prompts benchmarks and revisions have is not known here.
    """
    held_out = config.evaluation
    stages = [(config.prompts.holdout, held_out.responses)]
    if config.samples is None:
        stages.append((config.prompts.per_round, config.sampling.responses))
    if held_out.benchmarks or any(isinstance(objective, RevisionObjective) for objective in config.objectives):
        stages.append((ENGINE_SEQUENCES, 1))
    in_flight = SHARD_PROMPTS if config.loop.deterministic else math.inf
    return int(max(1, min(ENGINE_SEQUENCES, max(min(prompts, in_flight) * each for prompts, each in stages))))


def sequence_bytes(config: RunConfig, shape: ModelShape, tokens: float, *, gpu: bool) -> float:
    """Of the cache, what one sequence takes on each device, or in each process, of a replica."""
    parts = min(config.cluster.engine.tensor_parallel, shape.cached_parts)
    return shape.cached(tokens, gpu=gpu) * bytes_per_number(config.model.dtype) / parts


def bytes_per_number(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else 4


def main_memory() -> int:
    """Bytes of main memory that this process may have: the machine's, or what its container is limited to."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in map(Path, _LIMITS):
        try:
            found = min(found, int(file.read_text()))
        except (OSError, ValueError):
            # No such file, or `max`.
            continue
    return found
