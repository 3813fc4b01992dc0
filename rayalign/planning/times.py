"""Seconds of a round's stages, from the round's load and what the devices do."""

from __future__ import annotations

from dataclasses import dataclass

from rayalign.config.run import RunConfig
from rayalign.learning.shape import ModelShape
from rayalign.planning.devices import Device
from rayalign.planning.load import RoundLoad
from rayalign.planning.memory import EngineMemory, bytes_per_number
from rayalign.records import EngineMeasured, LearnerMeasured

RUNNING = 128
"""Sequences that an engine runs at a time at most (vLLM's `max_num_seqs` for an engine in process)."""
BLOCK, CPU_BLOCK = 16, 128
"""Tokens of a block of vLLM's cache: answers to one prompt share its full blocks."""
LEARNER_SHARE, CPU_LEARNER_SHARE = 0.45, 0.66
"""Of the device's products that the learner's passes reach: on CPU as measured (docs/log.md), on GPUs assumed."""
ENGINE_SHARE, BANDWIDTH_SHARE = 0.5, 0.75
"""Of the device's products that an engine's passes reach, as measured on CPU; and of its bandwidth where it reads
weights and cache: .77 was published of vLLM on an A100 with one sequence."""
STEP_S, SEQUENCE_S, CPU_SEQUENCE_S = 4e-3, 50e-6, 200e-6
"""What an engine's step takes beside the model, and what each running sequence adds (seeded sampling, bookkeeping): on
CPU measured with the demo model, which has hardly any products; on GPUs assumed."""
MICRO_BATCH_S, OPTIMIZER_STEP_S = 10e-3, 20e-3
"""What a micro-batch and an optimizer step take beside the model's products."""


Measured = tuple[EngineMeasured, LearnerMeasured]
"""What `--calibrate` measured with this model on this machine."""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds. Scoring goes on while sampling does; groups, sync and commits are not counted."""

    sample: float
    update: float
    evaluate: float
    measure_kl: float

    @property
    def round(self) -> float:
        """One after the other, as the loop has them."""
        return self.sample + self.update + self.evaluate + self.measure_kl


def stage_times(
    config: RunConfig,
    shape: ModelShape,
    load: RoundLoad,
    devices: tuple[Device, Device],
    engine: EngineMemory,
    measured: Measured | None,
) -> StageTimes:
    """Stage times of a round that is evaluated.

    Args:
        devices: of a generator and of a learner rank.
    """
    replicas, workers = config.cluster.generators.min, config.training.workers
    if measured is None:
        running = running_sequences(config, load, engine)
        per_answer = answer_seconds(config, shape, load, devices[0], running)
        learner = paper_rates(config, devices[1])
    else:
        per_answer, learner = measured[0].answer_s, measured[1]
    update = (
        load.update_flops / workers / learner.flops
        + load.reference_flops / workers / learner.forward_flops
        + load.micro_batches * learner.micro_batch_s
        + load.steps * learner.step_s
    )
    evaluate, kl = load.evaluated * per_answer / replicas, load.kl_flops / learner.forward_flops
    return StageTimes(load.sampled * per_answer / replicas, update, evaluate, kl)


def paper_rates(config: RunConfig, device: Device) -> LearnerMeasured:
    """What would be measured of a learner rank, from the table."""
    flops = (LEARNER_SHARE if device.gpu else CPU_LEARNER_SHARE) * device.flops(config.model.dtype)
    return LearnerMeasured(MICRO_BATCH_S, flops, flops, OPTIMIZER_STEP_S, 0)


def running_sequences(config: RunConfig, load: RoundLoad, engine: EngineMemory) -> float:
    """Sequences that run at a time in one engine: its limit, what two shards in flight hold, what the cache takes."""
    answers = max(1, load.sampled or load.evaluated) / config.cluster.generators.min
    lengths = load.group.lengths
    room = engine.cache_tokens / (lengths.prompt + lengths.answer / 2)
    return max(1.0, min(RUNNING, answers, room))


def answer_seconds(config: RunConfig, shape: ModelShape, load: RoundLoad, device: Device, running: float) -> float:
    """One engine: seconds per answer with `running` sequences at a time.

    A step makes a token for each: it reads all weights and the cache of the running sequences (bytes over bandwidth),
    or takes 2 N FLOP for each, whichever is longer, and its overhead. A prompt's pass takes 2 N FLOP per token that is
    not shared with an answer before. Tensor parallel divides all three; what its messages take is not counted.
    """
    size, parts = bytes_per_number(config.model.dtype), config.cluster.generators.tensor_parallel
    prompt, answer, answers = load.group.lengths.prompt, load.group.lengths.answer, load.group.answers
    rate = ENGINE_SHARE * device.flops(config.model.dtype) * parts
    read = shape.total * size + running * shape.kv_elements * size * (prompt + answer / 2)
    products = 2 * (shape.linear + shape.head) * running / rate
    overhead = STEP_S + running * (SEQUENCE_S if device.gpu else CPU_SEQUENCE_S)
    step = max(read / (BANDWIDTH_SHARE * device.bandwidth * parts), products) + overhead
    block = BLOCK if device.gpu else CPU_BLOCK
    own = max(1, prompt - (prompt - 1) // block * block)
    prefill = (prompt + (answers - 1) * own) / answers
    return answer * step / running + 2 * shape.linear * prefill / rate
