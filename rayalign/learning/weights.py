"""What of a policy is trained, and the files that it travels as: a LoRA adapter, or all weights.

Both kinds answer to the same five methods; `Policy` has one of them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load as load_safetensors, save as save_safetensors
from transformers import PreTrainedModel

from rayalign.errors import ModelError
from rayalign.learning.fit import check_fit
from rayalign.learning.merged import MergedWeights
from rayalign.records import ADAPTER_CONFIG, ADAPTER_WEIGHTS, FULL_CONFIG, FULL_WEIGHTS


class TrainedWeights(Protocol):
    """A policy's model, and what of it is trained."""

    @property
    def model(self) -> torch.nn.Module: ...

    @property
    def base(self) -> PreTrainedModel:
        """The model without an adapter's wrapping, in transformers' own class."""
        ...

    def base_only(self) -> contextlib.AbstractContextManager[None]:
        """The base model, as it was before any training."""
        ...

    def files(self, base_name: str) -> dict[str, bytes]:
        """What is trained as files by name; the same bytes for the same weights."""
        ...

    def load(self, files: Mapping[str, bytes]) -> None:
        """Take the weights of such files.

        Raises:
            ModelError: they do not fit this model.
        """
        ...

    def reset(self, seed: int) -> None:
        """Start anew: the policy equals the base."""
        ...


class AdapterWeights:
    """A LoRA adapter on a frozen base."""

    def __init__(self, model: PeftModel) -> None:
        self.model = model

    @property
    def base(self) -> PreTrainedModel:
        base = self.model.get_base_model()
        assert isinstance(base, PreTrainedModel)
        return base

    @contextlib.contextmanager
    def base_only(self) -> Iterator[None]:
        with self.model.disable_adapter():
            yield

    def files(self, base_name: str) -> dict[str, bytes]:
        """The adapter in PEFT's format."""
        tensors = {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in sorted(get_peft_model_state_dict(self.model).items())
        }
        config = self.model.peft_config["default"].to_dict()
        config |= {"base_model_name_or_path": base_name, "inference_mode": True}
        text = json.dumps(config, indent=2, sort_keys=True, default=_jsonable)
        return {ADAPTER_CONFIG: text.encode(), ADAPTER_WEIGHTS: save_safetensors(tensors, {"format": "pt"})}

    def load(self, files: Mapping[str, bytes]) -> None:
        tensors = load_safetensors(files[ADAPTER_WEIGHTS])
        expected = get_peft_model_state_dict(self.model)
        if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in expected.items()}:
            raise ModelError("the adapter's tensors differ from the model's", "it was trained on another model or rank")
        set_peft_model_state_dict(self.model, tensors)

    @torch.no_grad()
    def reset(self, seed: int) -> None:
        """Start anew: B is zero, and A depends on `seed` alone."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in sorted(self.model.named_parameters()):
            if "lora_B" in name:
                parameter.zero_()
            elif "lora_A" in name:
                bound = 1 / parameter.shape[1] ** 0.5
                values = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
                parameter.copy_(values.to(parameter))


class FullWeights:
    """All weights of a model, beside a copy of those that it was loaded with.

    Files have the names and tensors of the base's checkpoint, so that whatever reads the one reads the other. The copy
    takes as much memory as the model.

    Args:
        folder: where `model` was loaded from.

    Raises:
        ModelError: the checkpoint names its tensors otherwise than the model.
    """

    def __init__(self, model: PreTrainedModel, folder: Path) -> None:
        shapes = MergedWeights(folder).shapes()
        check_fit(
            model,
            shapes,
            "the base's checkpoint",
            "save the base again with transformers' save_pretrained, or train a LoRA adapter",
        )
        self.model = model.requires_grad_(True)
        self._names = sorted(shapes)
        config: dict[str, object] = json.loads((folder / FULL_CONFIG).read_text())
        config.pop("torch_dtype", None)
        self._config = json.dumps({**config, "dtype": "float32"}, indent=2, sort_keys=True).encode()
        self._parameters = list(model.parameters())
        self._kept = [parameter.detach().clone() for parameter in self._parameters]

    @property
    def base(self) -> PreTrainedModel:
        return self.model

    @contextlib.contextmanager
    def base_only(self) -> Iterator[None]:
        """The base's weights change places with the trained ones, which takes no third copy. It cannot be nested."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for parameter, kept in zip(self._parameters, self._kept, strict=True):
            before = parameter.detach().clone()
            parameter.copy_(kept)
            kept.copy_(before)

    def files(self, base_name: str) -> dict[str, bytes]:
        """A plain checkpoint in one file, and the config that it is loaded with."""
        state = self.model.state_dict()
        tensors = {name: state[name].detach().cpu().contiguous().clone() for name in self._names}
        return {FULL_CONFIG: self._config, FULL_WEIGHTS: save_safetensors(tensors, {"format": "pt"})}

    def load(self, files: Mapping[str, bytes]) -> None:
        put_weights(self.model, files[FULL_WEIGHTS])

    @torch.no_grad()
    def reset(self, seed: int) -> None:
        for parameter, kept in zip(self._parameters, self._kept, strict=True):
            parameter.copy_(kept)


@torch.no_grad()
def put_weights(model: PreTrainedModel, content: bytes) -> None:
    """Give a model all its weights from the content of a checkpoint file.

    Raises:
        ModelError: they are not those of this model; nothing is changed then.
    """
    tensors = load_safetensors(content)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    check_fit(model, shapes, "the round's weights", "give the base model that the run trained")
    state = model.state_dict()
    for name, tensor in tensors.items():
        state[name].copy_(tensor)


def _jsonable(value: object) -> object:
    return sorted(value) if isinstance(value, set) else str(value)
