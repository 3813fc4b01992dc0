"""What a machine does with one model, as `rayalign plan --calibrate` measures it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineMeasured:
    """One generator."""

    answer_s: float
    """Seconds per answer, its share of the prompt included, with as many at a time as the run has."""
    held_out_s: float
    """The same as an evaluation asks: with `top_p` 1, which saves the sorting of the vocabulary."""
    peak_bytes: float
    """Of its process on CPU, of its device on a GPU."""


@dataclass(frozen=True, slots=True)
class LearnerMeasured:
    """One learner rank. A micro-batch takes `micro_batch_s` and its floating-point operations at these rates."""

    micro_batch_s: float
    flops: float
    """FLOP/s of a forward and backward pass."""
    forward_flops: float
    """FLOP/s of a pass without gradients."""
    step_s: float
    """Of an optimizer step."""
    peak_bytes: float
    """As the engine's, in the largest micro-batch."""
