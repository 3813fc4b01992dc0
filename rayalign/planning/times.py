"""Seconds of a round's stages, from the round's load and what the devices do."""

from __future__ import annotations

from dataclasses import dataclass

from rayalign.config.run import RunConfig
from rayalign.learning.engine_cache import CPU_BLOCK, ENGINE_SEQUENCES, bytes_per_number, sequence_bytes
from rayalign.learning.shape import ModelShape
from rayalign.planning.devices import Device
from rayalign.planning.load import Group, RoundLoad
from rayalign.planning.memory import EngineMemory
from rayalign.records import EngineMeasured, LearnerMeasured

BLOCK = 16
"""Tokens of a block of vLLM's cache on a GPU: answers to one prompt share its full blocks."""
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
    overlap: bool = False
    """Whether the next round is sampled while one trains, on devices of its own."""

    @property
    def round(self) -> float:
        """One after the other, as the loop has them, or sampling beside the update."""
        both = max(self.sample, self.update) if self.overlap else self.sample + self.update
        return both + self.evaluate + self.measure_kl


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
    workers, learner = config.training.workers, measured[1] if measured else paper_rates(config, devices[1])

    def sampling(answers: int, per_prompt: int, answer_s: float | None) -> float:
        """Seconds in which each replica makes its part; of less than one answer each, those of one."""
        if not answers:
            return 0.0
        each = max(1.0, answers / config.cluster.generators.max)
        if answer_s is not None:
            return each * answer_s
        group = Group(load.group.lengths, per_prompt)
        running = min(each, running_sequences(config, shape, devices[0], group, engine))
        return each * answer_seconds(config, shape, group, devices[0], running)

    update = (
        load.update_flops / workers / learner.flops
        + load.reference_flops / workers / learner.forward_flops
        + load.micro_batches * learner.micro_batch_s
        + load.steps * learner.step_s
    )
    train_s, held_out_s = (measured[0].answer_s, measured[0].held_out_s) if measured else (None, None)
    sample = sampling(load.sampled, config.sampling.responses, train_s)
    evaluate = sampling(load.evaluated, config.evaluation.responses, held_out_s)
    pools = config.cluster
    overlap = config.loop.max_staleness > 0 and pools.generators.gpus + pools.learner.gpus > 0
    return StageTimes(sample, update, evaluate, load.kl_flops / workers / learner.forward_flops, overlap)


def paper_rates(config: RunConfig, device: Device) -> LearnerMeasured:
    """What would be measured of a learner rank, from the table."""
    flops = (LEARNER_SHARE if device.gpu else CPU_LEARNER_SHARE) * device.flops(config.model.dtype)
    return LearnerMeasured(MICRO_BATCH_S, flops, flops, OPTIMIZER_STEP_S, 0)


def running_sequences(
    config: RunConfig, shape: ModelShape, device: Device, group: Group, engine: EngineMemory
) -> float:
    """Sequences that run at a time in one engine at most: its limit, and what the cache takes."""
    one = sequence_bytes(config, shape, group.lengths.prompt + group.lengths.answer / 2, gpu=device.gpu)
    return max(1.0, min(ENGINE_SEQUENCES, engine.memory.cache / one))


def answer_seconds(config: RunConfig, shape: ModelShape, group: Group, device: Device, running: float) -> float:
    """One engine: seconds per answer with `running` sequences at a time.

    A step makes a token for each: it reads all weights and the cache of the running sequences (bytes over bandwidth),
    or takes 2 N FLOP for each, whichever is longer, and its overhead. A prompt's pass takes 2 N FLOP per token that is
    not shared with an answer before. Tensor parallel divides all three, the cache by no more than its heads; what its
    messages take is not counted.
    """
    size, parts = bytes_per_number(config.model.dtype), config.cluster.generators.tensor_parallel
    prompt, answer, answers = group.lengths.prompt, group.lengths.answer, group.answers
    rate = ENGINE_SHARE * device.flops(config.model.dtype) * parts
    cached = sequence_bytes(config, shape, prompt + answer / 2, gpu=device.gpu)
    read = shape.total * size / parts + running * cached
    products = 2 * (shape.linear + shape.head) * running / rate
    overhead = STEP_S + running * (SEQUENCE_S if device.gpu else CPU_SEQUENCE_S)
    step = max(read / (BANDWIDTH_SHARE * device.bandwidth), products) + overhead
    block = BLOCK if device.gpu else CPU_BLOCK
    own = max(1, prompt - (prompt - 1) // block * block)
    prefill = (prompt + (answers - 1) * own) / answers
    return answer * step / running + 2 * shape.linear * prefill / rate
