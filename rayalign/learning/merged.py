"""A base model's weights with an adapter's change added: what a generator is given in `merged` mode, or an export.

The sum is made in float32 from the checkpoint as it lies on the disk, never from weights that were merged before, so
nothing drifts from round to round, and version 0 is the checkpoint itself. Where all weights are trained, those of the
round take the checkpoint's place, tensor for tensor.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypedDict

import torch
from safetensors import safe_open
from safetensors.torch import load as load_safetensors, save_file

from rayalign.errors import SyncError
from rayalign.records import ADAPTER_CONFIG, ADAPTER_WEIGHTS, FULL_WEIGHTS
from rayalign.store.model_files import model_files

PEFT_PREFIX = "base_model.model."
OTHER_KINDS = ("use_rslora", "use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern")
"""Settings of PEFT that change what an adapter adds; the learner sets none of them."""
Changes = dict[str, tuple[torch.Tensor, torch.Tensor, float]]
"""Checkpoint name -> (A, B, scale) of each adapted weight: W + scale * B A."""


class _LoraSettings(TypedDict):
    """PEFT's settings of an adapter, as far as they are read here; `OTHER_KINDS` beside them."""

    r: int
    lora_alpha: float


class MergedWeights:
    """The tensors of a model folder, by the names of its checkpoint.

    Raises:
        SyncError: the folder has no safetensors files.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        for path in (path for path in model_files(folder) if path.suffix == ".safetensors"):
            with safe_open(path, "pt") as file:
                self._files |= dict.fromkeys(file.keys(), path)
        if not self._files:
            raise SyncError(
                f"{folder} has no *.safetensors",
                "merging needs the base model's weights as a checkpoint",
                "save the model with safetensors, or set sync.mode: adapter",
            )

    def tensors(self, adapter: Mapping[str, bytes] | None) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, tensor) of the whole checkpoint, with the adapter added where there is one.

        Args:
            adapter: the adapter's files by name, or those of a round that trained all weights.

        Raises:
            SyncError: the adapter changes something that the checkpoint does not have, or all weights are not those
                of the checkpoint by name and shape; before the first tensor.
        """
        if adapter is not None and FULL_WEIGHTS in adapter:
            return self._replaced(adapter[FULL_WEIGHTS])
        changes = self._checked(adapter)
        return (pair for path in self.paths() for pair in self._read(path, changes, None))

    def paths(self) -> list[Path]:
        """The checkpoint's files."""
        return sorted(set(self._files.values()))

    def shapes(self) -> dict[str, list[int]]:
        """The shape of each tensor, by name."""
        found = {}
        for path in self.paths():
            with safe_open(path, "pt") as file:
                found |= {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        return found

    def write(self, adapter: Mapping[str, bytes], folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write the merged checkpoint to `folder`, each tensor in the file that holds it here.

        Args:
            dtype: the type of all floating-point weights; None keeps the checkpoint's.

        Raises:
            SyncError: as `tensors`.
        """
        changes = self._checked(adapter)
        for path in self.paths():
            save_file(dict(self._read(path, changes, dtype)), folder / path.name, metadata={"format": "pt"})

    def _checked(self, adapter: Mapping[str, bytes] | None) -> Changes:
        changes = {} if adapter is None else _changes(adapter)
        check_names(changes, self._files)
        return changes

    def _replaced(self, content: bytes) -> Iterator[tuple[str, torch.Tensor]]:
        tensors, expected = load_safetensors(content), self.shapes()
        found = {name: list(tensor.shape) for name, tensor in tensors.items()}
        if wrong := sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n)):
            raise SyncError(
                f"{wrong[0]} has shape {found.get(wrong[0])} in the round's weights and "
                f"{expected.get(wrong[0])} in the base's checkpoint ({len(wrong)} such tensors)",
                "a weight would stay as it was before",
                "set model.full: false in a new run",
            )
        return iter(tensors.items())

    def _read(self, path: Path, changes: Changes, dtype: torch.dtype | None) -> Iterator[tuple[str, torch.Tensor]]:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                tensor = file.get_tensor(name)
                kept = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
                if name in changes:
                    a, b, scale = changes[name]
                    tensor = tensor.float() + scale * (b.float() @ a.float())
                yield name, tensor.to(kept)


def check_names(changed: Iterable[str], stored: Container[str]) -> None:
    """Refuse changes of weights that a checkpoint does not have by these names.

    Raises:
        SyncError: it lacks some.
    """
    if missing := sorted(name for name in changed if name not in stored):
        raise SyncError(
            f"the checkpoint has no {missing[0]} ({len(missing)} such tensors)",
            "the adapter cannot be merged into it by name",
            "set sync.mode: adapter",
        )


def _changes(adapter: Mapping[str, bytes]) -> Changes:
    config: _LoraSettings = json.loads(adapter[ADAPTER_CONFIG])
    if unknown := [name for name in OTHER_KINDS if config.get(name)]:
        raise SyncError(
            f"the adapter uses {', '.join(unknown)}", "merging knows plain LoRA only", "set sync.mode: adapter"
        )
    tensors = load_safetensors(adapter[ADAPTER_WEIGHTS])
    scale = config["lora_alpha"] / config["r"]
    changes = {}
    for name, a in tensors.items():
        if name.endswith(".lora_A.weight"):
            module = name.removeprefix(PEFT_PREFIX).removesuffix(".lora_A.weight")
            changes[f"{module}.weight"] = (a, tensors[name.replace(".lora_A.", ".lora_B.")], scale)
    if 2 * len(changes) != len(tensors):
        raise SyncError(
            f"the adapter has {len(tensors)} tensors, {len(changes)} of them LoRA pairs",
            "merging knows plain LoRA only",
            "set sync.mode: adapter",
        )
    return changes
