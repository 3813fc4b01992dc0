"""What a round made, and what travels to and from the learner and the generators."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Literal, Self

from rayalign.records.json_types import JsonObject

ADAPTER_WEIGHTS = "adapter_model.safetensors"
"""The file of an adapter folder whose SHA-256 is the adapter's checksum."""
ADAPTER_CONFIG = "adapter_config.json"
FULL_WEIGHTS = "model.safetensors"
"""What `ADAPTER_WEIGHTS` is where a run trains all weights."""
FULL_CONFIG = "config.json"


def weights_file(names: Container[str]) -> str:
    """Which of an adapter's files has its weights."""
    return FULL_WEIGHTS if FULL_WEIGHTS in names else ADAPTER_WEIGHTS


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a round made: a LoRA adapter, or all weights. Version 0 is the base model, explicit, with no folder.

    Example:
        >>> Adapter.base("ab12").is_base
        True
    """

    version: int
    """The round that made it."""
    path: str | None
    """Folder in PEFT format, or with all weights; null for the base."""
    sha256: str | None
    """SHA-256 of its `weights_file`; null for the base."""
    base_model_sha256: str
    parent: int | None
    """Version of the adapter that training started from; null for the base."""

    @classmethod
    def base(cls, base_model_sha256: str) -> Self:
        return cls(version=0, path=None, sha256=None, base_model_sha256=base_model_sha256, parent=None)

    @property
    def is_base(self) -> bool:
        return self.version == 0


Which = Literal["current", "round_start", "base"]


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """A prompt and a response to compute log-probabilities of."""

    prompt_token_ids: list[int]
    response_token_ids: list[int]


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What one generator replica says it serves."""

    replica: str
    version: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """A PEFT adapter as bytes, on its way between processes; file name -> content."""

    version: int
    sha256: str
    files: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class SavedAdapter:
    """A round's adapter as it is committed, record and files together; the base has no files."""

    record: Adapter
    files: AdapterFiles | None

    @classmethod
    def base(cls, base_model_sha256: str) -> Self:
        return cls(Adapter.base(base_model_sha256), None)


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What one round of training made, and how it went."""

    adapter: AdapterFiles
    metrics: dict[str, float]
    """Means over the round's steps: loss, objective metrics, gradient norm, counts."""
    steps: list[dict[str, float]]
    """The same metrics, step by step."""
    flagged: list[JsonObject] = field(default_factory=list)
    """CUT: some flawed responses token by token, with what was flagged before the update."""
