"""The sizes of a model, counted on its `config.json` alone: the model is built without memory for its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from rayalign.config.model import ModelSection
from rayalign.learning.targets import adapted_layers, without_weights
from rayalign.learning.windows import layer_windows

GATES = ("gate_proj", "gate_up_proj", "w1")
"""Modules that only a feed-forward block with a gate has."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What memory and work follow from: counts of parameters, and widths. A tied head counts once in `total`."""

    architecture: str
    total: int
    """All parameters."""
    linear: int
    """Parameters of matrices between embedding and head by which a token is multiplied: of experts, the active ones."""
    quantised: int
    """Parameters of the linear modules that bitsandbytes quantises: all but the head."""
    head: int
    """Parameters of the output head: vocabulary x hidden."""
    lora: int
    """Parameters of the adapter; 0 where all weights are trained."""
    lora_rank: int
    lora_inputs: int
    """Width of the inputs of one layer's adapted modules, summed."""
    lora_modules: int
    """Adapted modules of one layer."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    """Width of the feed-forward block that one token passes: of experts, the active ones together."""
    gated: bool
    vocabulary: int
    window: int | None
    """Tokens that a layer with a sliding window looks back at most; None where every layer sees everything."""
    windowed: int = 0
    """Layers that have one."""

    @classmethod
    def of(cls, folder: Path, section: ModelSection) -> ModelShape:
        """Of the model in a folder, with the adapter that the config describes; no weights need to be there.

        Raises:
            ModelError: there is no config.json of a causal language model, or the adapter does not fit it.
        """
        model = without_weights(folder)
        config, head = model.config, model.get_output_embeddings()
        adapted = [] if section.full else [model.get_submodule(name) for name in adapted_layers(model, section.lora)]
        inputs = [width for module in adapted for width in module.get_parameter("weight").shape[-1:]]
        layers, hidden = int(config.num_hidden_layers), int(config.hidden_size)
        heads = int(config.num_attention_heads)
        share, windows = _active_share(config), [window for window in layer_windows(config) if window]
        return cls(
            architecture=type(model).__name__,
            total=sum(p.numel() for p in model.parameters()),
            linear=sum(round(p.numel() * (share if "experts" in name else 1)) for name, p in _matrices(model)),
            quantised=sum(p.numel() for name, p in _matrices(model) if "experts" not in name),
            head=0 if head is None else head.get_parameter("weight").numel(),
            lora=sum(section.lora.r * sum(module.get_parameter("weight").shape) for module in adapted),
            lora_rank=0 if section.full else section.lora.r,
            lora_inputs=round(sum(inputs) / layers),
            lora_modules=round(len(inputs) / layers),
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
            head_dim=int(getattr(config, "head_dim", None) or hidden // heads),
            feed_forward=_feed_forward(config, hidden),
            gated=any(name.rpartition(".")[2] in GATES for name, _ in model.named_modules()) or share < 1,
            vocabulary=int(config.vocab_size),
            window=max(windows, default=None),
            windowed=len(windows),
        )

    @property
    def kv_elements(self) -> int:
        """Numbers that the cache keeps of one token: keys and values of all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim


def _matrices(model: PreTrainedModel) -> Iterator[tuple[str, nn.Parameter]]:
    """Weights that a token's vector is multiplied by, but for the head's; embeddings are looked up."""
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    head = model.get_output_embeddings()
    if head is not None:
        tables |= {id(p) for p in head.parameters()}
    return ((name, p) for name, p in model.named_parameters() if p.ndim >= 2 and id(p) not in tables)


def _active_share(config: PretrainedConfig) -> float:
    """The share of a layer's experts that one token passes; 1 where there are none."""
    active = getattr(config, "num_experts_per_tok", None)
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    experts = next((n for name in names if (n := getattr(config, name, None))), None)
    return active / experts if active and experts else 1.0


def _feed_forward(config: PretrainedConfig, hidden: int) -> int:
    width = getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", None)
    active = getattr(config, "num_experts_per_tok", None) or 1
    return int(width or 4 * hidden) * (active if _active_share(config) < 1 else 1)
