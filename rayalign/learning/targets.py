"""Which modules of a model get LoRA weights: linear ones that PEFT adapts, the sync carries and vLLM serves."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save as save_safetensors
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rayalign.config.model import LoraSection
from rayalign.errors import ModelError
from rayalign.learning.folders import first_line, load_config
from rayalign.learning.merged import PEFT_PREFIX
from rayalign.records import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from rayalign.store.pretrained import load_pretrained

KEY = "model.lora.targets"
EXPERT_NAMES = {"gate", "gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3"}
"""What PEFT takes for the experts and their router where a model has some."""
HEADS = ("score", "classifier", "classification_head")
"""Output heads of models that classify: transformers does not tell them."""


def adapted_layers(model: PreTrainedModel, section: LoraSection) -> list[str]:
    """Full names of the modules that get LoRA weights: those of the config, or all linear ones but the output head.

    Args:
        model: on any device; nothing is computed.

    Raises:
        ModelError: the config names a module that the model does not have, or layers that cannot be adapted and served.
    """
    linear = linear_layers(model)
    experts = first_expert(model)
    leaves = {_leaf(name) for name in linear if not is_expert(name) and not (experts and _leaf(name) in EXPERT_NAMES)}
    advice = f"set {KEY} to some of {', '.join(sorted(leaves))}" if leaves else "set model.full: true"
    _check_not_transposed(model, section)
    if section.targets == "all-linear":
        if experts:
            raise _expert_error("all-linear", experts, advice)
        if not linear:
            raise ModelError(f"{KEY}: all-linear", "the model has no linear module besides its head", advice)
        return linear
    check_targets(model, section, leaves)
    if experts and (hit := sorted(set(section.targets) & EXPERT_NAMES)):
        raise _expert_error(", ".join(hit), experts, advice)
    chosen = [name for name in linear if _leaf(name) in section.targets]
    if hit := [name for name in chosen if is_expert(name)]:
        raise _expert_error(", ".join(sorted({_leaf(name) for name in hit})), hit[0], advice)
    return chosen


def empty_adapter(folder: Path, section: LoraSection) -> dict[str, bytes]:
    """An adapter in PEFT's format, by file name, that has the modules of the config's at rank 1 and changes nothing.

    Raises:
        ModelError: as `adapted_layers`.
    """
    model = without_weights(folder)
    layers = adapted_layers(model, section)
    tensors = {}
    for name in layers:
        outputs, inputs = model.get_submodule(name).get_parameter("weight").shape
        tensors[f"{PEFT_PREFIX}{name}.lora_A.weight"] = torch.zeros(1, inputs)
        tensors[f"{PEFT_PREFIX}{name}.lora_B.weight"] = torch.zeros(outputs, 1)
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1}
    config = {**settings, "target_modules": sorted({_leaf(name) for name in layers})}
    return {ADAPTER_CONFIG: json.dumps(config).encode(), ADAPTER_WEIGHTS: save_safetensors(tensors)}


def without_weights(folder: Path) -> PreTrainedModel:
    """The causal language model of a folder's config, without memory for its weights.

    Raises:
        ModelError: there is no config.json of such a model, or what it says makes none.
    """
    config = load_config(folder)

    def build(_: Path, **options: bool) -> PreTrainedModel:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, **options)

    remedy = "check what its config.json says of the model's sizes, or fetch it again"
    return load_pretrained(build, folder, key="model.base", why=first_line, remedy=remedy)


def adapted_modules(folder: Path, section: LoraSection) -> list[str]:
    """Last names of the modules that get LoRA weights, as vLLM is told of them.

    Raises:
        ModelError: as `adapted_layers`.
    """
    return sorted({_leaf(name) for name in adapted_layers(without_weights(folder), section)})


def check_targets(model: PreTrainedModel, section: LoraSection, offered: set[str] | None = None) -> None:
    """Refuse names of modules that are not there, or not linear.

    Args:
        offered: what the error recommends; by default all linear modules.

    Raises:
        ModelError: the config names such a module, or none at all.
    """
    names = {_leaf(name) for name in linear_layers(model)}
    if section.targets == "all-linear":
        return
    missing = sorted(set(section.targets) - names)
    if missing or not section.targets:
        raise ModelError(
            f"{KEY}: {', '.join(missing) or 'an empty list'}",
            _why_missing(model, missing),
            f"choose from {', '.join(sorted(offered or names))}",
        )


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Full names of all linear modules but the output head."""
    head = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head and (head is not None or name not in HEADS)
    ]


def _check_not_transposed(model: PreTrainedModel, section: LoraSection) -> None:
    for name, module in model.named_modules():
        if isinstance(module, Conv1D) and (section.targets == "all-linear" or _leaf(name) in section.targets):
            raise ModelError(
                f"{KEY}: {_leaf(name)} is a {Conv1D.__name__}",
                "such a layer keeps its weights transposed, and vLLM serves no adapters of this model",
                "set model.full: true, or name a model with linear layers",
            )


def _why_missing(model: PreTrainedModel, missing: list[str]) -> str:
    if not missing:
        return "nothing would be trained"
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if _leaf(name) in missing and (module is head or isinstance(module, torch.nn.Embedding)):
            what = "the output head" if module is head else "an embedding"
            return f"{_leaf(name)} is {what}: adapters of it are not served"
    return "the model has no such linear module"


def first_expert(model: PreTrainedModel) -> str | None:
    """The first weight of an expert, where the model has experts."""
    return next((name for name, _ in model.named_parameters() if is_expert(name)), None)


def is_expert(name: str) -> bool:
    """Whether a weight or module is of routed experts; those that all tokens share are called otherwise."""
    return "experts" in name.split(".")


def _expert_error(targets: str, where: str, advice: str) -> ModelError:
    return ModelError(
        f"{KEY}: {targets}, and the model has experts ({where})",
        "adapters of experts and their router cannot be synced to the generator",
        advice,
    )


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
