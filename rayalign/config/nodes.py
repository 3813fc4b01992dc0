"""The nodes file of `rayalign plan`: a cluster to be, and GPUs of which no figures are known."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from rayalign.config.base import MOST_ACTORS, Actors, NotNegative, Positive, Section


class NodeSection(Section):
    count: Actors = 1
    gpu: str | None = None
    """The GPU's name, in the table or under `devices`."""
    gpus: Annotated[int, Field(ge=0, le=MOST_ACTORS)] = 0
    """Of one node."""
    cpus: Annotated[int, Field(ge=1)]
    memory_gib: Positive
    """Main memory of one node."""
    usd_per_hour: NotNegative | None = None
    """Of one whole node; null takes the table's price of its GPUs."""

    @model_validator(mode="after")
    def _gpus_have_a_name(self) -> Self:
        if (self.gpus > 0) != (self.gpu is not None):
            raise ValueError("gpu (its name) and gpus (how many) go together: give both, or neither")
        return self


class DeviceSection(Section):
    """A GPU of which the table has no figures."""

    memory_gib: Positive
    bfloat16_tflops: Positive
    """Of dense matrix products."""
    float32_tflops: Positive
    bandwidth_gbs: Positive
    """GB per second."""
    usd_per_hour: NotNegative | None = None


class NodesConfig(Section):
    nodes: Annotated[list[NodeSection], Field(min_length=1)]
    devices: dict[str, DeviceSection] = Field(default_factory=dict)
