"""What to do where an update does not fit into memory."""

from __future__ import annotations

import re

import torch

from rayalign.config.training import TrainingSection
from rayalign.errors import ActorFailedError

NO_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory|unable to (mmap|allocate)", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or this machine has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or NO_MEMORY.search(str(error)) is not None


def halved(training: TrainingSection, halvings: int) -> TrainingSection:
    """The settings with so often half the token budget of a micro-batch."""
    return training.model_copy(update={"tokens_per_micro_batch": max(1, training.tokens_per_micro_batch >> halvings)})


def too_large(training: TrainingSection, error: BaseException) -> ActorFailedError:
    """What ends a run whose update does not fit, whatever is tried.

    Args:
        training: with the budget that was tried last.
    """
    said = str(error).strip().splitlines() or [type(error).__name__]
    return ActorFailedError(
        f"the learner is out of memory with {training.tokens_per_micro_batch} tokens in a micro-batch",
        f"{said[0]}; a group that is larger than that is trained on alone",
        "set training.gradient_checkpointing, lower sampling.responses or sampling.max_tokens, or give the learner "
        "more memory (training.zero_stage 3 over more workers); the run can be resumed",
    )
