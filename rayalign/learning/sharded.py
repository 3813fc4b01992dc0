"""A base model whose parameters are spread over ranks while they are loaded, so that no rank ever holds it whole.

The model is built without memory for its parameters. They then come one after the other: one rank reads a parameter
from the checkpoint, whoever keeps them in parts (ZeRO-3) hands its value to all ranks and leaves each its part, and the
next one is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming

from rayalign.learning.folders import load_config
from rayalign.store.model_files import model_files

_log = logging.getLogger(__name__)
PLAIN = {"F64", "F32", "F16", "BF16"}
"""Types of numbers, as checkpoints name them, that stand for themselves; others come with scales."""
Gather = Callable[[Sequence[torch.nn.Parameter]], AbstractContextManager[object]]


class Sharding(Protocol):
    """Who keeps a part of each parameter on each rank. All ranks call it together, in the same order."""

    @property
    def reads(self) -> bool:
        """Whether it is this rank whose values count, so that it has to read them."""
        ...

    def shard(self, parameter: torch.nn.Parameter) -> None:
        """Leave this rank its part of a parameter."""
        ...

    def gather(self, parameters: Sequence[torch.nn.Parameter]) -> AbstractContextManager[object]:
        """Context in which these parameters are whole; those that are not sharded stay as they are."""
        ...


def load_sharded(folder: Path, dtype: torch.dtype, device: str, sharding: Sharding) -> PreTrainedModel | None:
    """The model in a folder as `from_pretrained` gives it, each parameter sharded before the next one is read.

    Returns:
        None where the checkpoint is not the model's parameters by name and number, but is converted when it is loaded
        (experts of some models, weights quantised in the files): such a model has to be loaded whole.
    """
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(load_config(folder), dtype=dtype)
    # Each tied name got a parameter of its own there.
    model.tie_weights()
    with ExitStack() as opened:
        checkpoint = _Checkpoint(folder, opened)
        if (why := _not_plain(model, checkpoint, dtype)) is not None:
            _log.warning("%s is loaded whole on every worker: %s", type(model).__name__, why)
            return None
        for parameter, names in _named(model):
            stored = next(name for name in names if name in checkpoint.shapes)
            value = checkpoint.read(stored) if sharding.reads else torch.empty(parameter.shape, dtype=parameter.dtype)
            own = torch.nn.Parameter(value.to(device, parameter.dtype), requires_grad=False)
            del value
            sharding.shard(own)
            for name in names:
                place, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(place), leaf, own)
        for name, buffer in model.named_buffers():
            if name in checkpoint.shapes:
                buffer.copy_(checkpoint.read(name))
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)
    return model.eval()


@contextmanager
def whole_while_running(model: torch.nn.Module, gather: Gather) -> Iterator[None]:
    """Context in which the own parameters of each module are whole while it runs, and only then."""
    running: dict[torch.nn.Module, ExitStack] = {}

    def enter(module: torch.nn.Module, inputs: Any) -> None:
        running[module] = ExitStack()
        running[module].enter_context(gather(list(module.parameters(recurse=False))))

    def leave(module: torch.nn.Module, inputs: Any, outputs: Any) -> None:
        running.pop(module).close()

    hooks = []
    for module in model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            hooks.append(module.register_forward_pre_hook(enter))
            hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Checkpoint:
    """The tensors of a folder's safetensors files, read one by one."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self._files: dict[str, Any] = {}
        self.shapes: dict[str, list[int]] = {}
        self.types: set[str] = set()
        for path in (path for path in model_files(folder) if path.suffix == ".safetensors"):
            file = opened.enter_context(safe_open(path, "pt"))
            for name in file.keys():  # noqa: SIM118 - not a dict
                part = file.get_slice(name)
                self._files[name], self.shapes[name] = file, part.get_shape()
                self.types.add(part.get_dtype())

    def read(self, name: str) -> torch.Tensor:
        return self._files[name].get_tensor(name)


def _named(model: PreTrainedModel) -> list[tuple[torch.nn.Parameter, list[str]]]:
    """Every parameter with all its names; tied ones have several."""
    names: dict[torch.nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return list(names.items())


def _not_plain(model: PreTrainedModel, checkpoint: _Checkpoint, dtype: torch.dtype) -> str | None:
    """Why the checkpoint's tensors are not the model's parameters as they lie there."""
    if getattr(model.config, "quantization_config", None) is not None or not checkpoint.types <= PLAIN:
        return "its weights are quantised"
    if dtype != torch.float32 and model._keep_in_fp32_modules_strict:
        return "some of its weights stay in float32"
    for parameter, names in _named(model):
        stored = [name for name in names if name in checkpoint.shapes]
        if len(stored) != 1:
            return f"its files have {names[0]} {len(stored)} times"
        if checkpoint.shapes[stored[0]] != list(parameter.shape):
            return f"its files have {stored[0]} in another shape"
    if any(type(one) is not WeightRenaming for one in get_model_conversion_mapping(model)):
        return "its weights are converted"
    return None
