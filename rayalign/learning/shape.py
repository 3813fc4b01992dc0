"""The sizes of a model, counted on its `config.json` alone: the model is built without memory for its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rayalign.config.model import ModelSection
from rayalign.errors import ModelError
from rayalign.learning.targets import adapted_layers, is_expert, without_weights
from rayalign.learning.windows import layer_windows

GATES = ("gate_proj", "gate_up_proj", "w1")
"""Modules that only a feed-forward block with a gate has."""
FEED_FORWARD = ("mlp", "ffn", "feed_forward", "moe", "fc1", "fc2")
"""What the names of feed-forward blocks contain, and of their matrices where a layer has these itself."""
ROUTERS = {"gate", "router", "shared_expert_gate"}
"""What chooses and weighs experts."""
STATEFUL = {"linear_attention", "mamba", "recurrent", "conv", "mlp", "moe"}
"""What kinds of layers are called that look back at no token: they keep a state of fixed size, or nothing."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What memory and work follow from: counts of parameters, and widths. A tied head counts once in `total`."""

    architecture: str
    total: int
    """All parameters."""
    linear: int
    """Parameters of matrices between embedding and head by which a token is multiplied: of experts, the active ones."""
    quantised: int
    """Parameters of the modules that bitsandbytes quantises: plain linear ones but the head, which fused experts and
    routers are not."""
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
    """Width of a head's queries and keys; where its values have another one (MLA), the mean of the two."""
    feed_forward: int
    """Width of the feed-forward block that one token passes, the mean of all layers: of experts, the active ones and
    the shared ones together."""
    gated: bool
    vocabulary: int
    window: int | None
    """Tokens that a layer of limited view looks back at most, 0 where such layers keep a state instead (linear
    attention, Mamba); None where every layer sees everything."""
    windowed: int = 0
    """Layers that have a limited view."""
    stateful: int = 0
    """Those of them that look back at no token: they have no keys and values. What their state takes is not counted."""
    latent: int = 0
    """Numbers that an engine caches of one token in one layer where all heads share one compressed vector (MLA); 0
    where it caches keys and values."""
    chunked: bool = False
    """Whether windows are chunks: of these an engine keeps all keys and values."""

    @classmethod
    def of(cls, folder: Path, section: ModelSection) -> ModelShape:
        """Of the model in a folder, with the adapter that the config describes; no weights need to be there.

        Raises:
            ModelError: there is no config.json of a causal language model, or the adapter does not fit it.
        """
        model = without_weights(folder)
        config, head = model.config.get_text_config(), model.get_output_embeddings()
        names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
        layers, hidden, heads, vocabulary = (_count(config, name, folder) for name in names)
        adapted = [] if section.full else [model.get_submodule(name) for name in adapted_layers(model, section.lora)]
        inputs = [width for module in adapted for width in module.get_parameter("weight").shape[-1:]]
        share, views = _active_share(config), [view for view in _views(config, folder) if view is not None]
        leaves = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        gated = share < 1 or not leaves.isdisjoint(GATES)
        return cls(
            architecture=type(model).__name__,
            total=sum(p.numel() for p in model.parameters()),
            linear=sum(_active(name, p, share) for name, p in _matrices(model)),
            quantised=_quantised(model),
            head=0 if head is None else head.get_parameter("weight").numel(),
            lora=sum(section.lora.r * sum(module.get_parameter("weight").shape) for module in adapted),
            lora_rank=0 if section.full else section.lora.r,
            lora_inputs=round(sum(inputs) / layers),
            lora_modules=round(len(inputs) / layers),
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=_kv_heads(config, heads),
            head_dim=_head_dim(config, hidden // heads),
            feed_forward=_feed_forward(model, config, share, layers * hidden * (3 if gated else 2)),
            gated=gated,
            vocabulary=vocabulary,
            window=max(views, default=None),
            windowed=len(views),
            stateful=views.count(0),
            latent=config.kv_lora_rank + config.qk_rope_head_dim if _is_latent(config) else 0,
            chunked=bool(getattr(config, "attention_chunk_size", None)),
        )

    def cached(self, tokens: float, *, gpu: bool) -> float:
        """Numbers that an engine's cache keeps of one sequence, in all layers: keys and values, or their latent.

        Args:
            gpu: whether the engine runs on one: there layers with a sliding window keep no more than the window.
        """
        sliding = self.windowed - self.stateful if gpu and not self.chunked else 0
        kept = (self.layers - self.stateful - sliding) * tokens + sliding * min(tokens, self.window or 0)
        return kept * (self.latent or 2 * self.kv_heads * self.head_dim)

    @property
    def cached_parts(self) -> int:
        """Parts that the cache can be divided into among an engine's processes; more of them keep the same twice."""
        return 1 if self.latent else self.kv_heads


def _count(config: PretrainedConfig, name: str, folder: Path) -> int:
    found = getattr(config, name, None)
    if isinstance(found, int) and found > 0:
        return found
    raise _no_transformer(folder, f"no {name}" if found is None else f"{name} {found}")


def _views(config: PretrainedConfig, folder: Path) -> list[int | None]:
    """For each layer, the tokens that it looks back at: none, a window, or (None) everything."""
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
    windows = layer_windows(config)
    if kinds is None or len(kinds) != len(windows):
        return windows
    if STATEFUL.issuperset(kinds):
        raise _no_transformer(folder, "no layer with attention")
    return [0 if kind in STATEFUL else window for kind, window in zip(kinds, windows, strict=True)]


def _no_transformer(folder: Path, found: str) -> ModelError:
    return ModelError(
        f"model.base: {folder} has {found} in its config.json",
        "memory and work are counted by a transformer's layers, heads and widths",
        "name a model whose layers have attention; if this one's have, fetch its config.json again",
    )


def _matrices(model: PreTrainedModel) -> Iterator[tuple[str, nn.Parameter]]:
    """Weights that a token's vector is multiplied by, but for the head's; embeddings are looked up."""
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    head = model.get_output_embeddings()
    if head is not None:
        tables |= {id(p) for p in head.parameters()}
    return ((name, p) for name, p in model.named_parameters() if p.ndim >= 2 and id(p) not in tables)


def _quantised(model: PreTrainedModel) -> int:
    head = model.get_output_embeddings()
    modules = (m for m in model.modules() if m is not head and (isinstance(m, Conv1D) or type(m) is nn.Linear))
    return sum(module.get_parameter("weight").numel() for module in modules)


def _active(name: str, matrix: nn.Parameter, share: float) -> int:
    """Numbers of a matrix that one token is multiplied by: of routed experts, a share."""
    return round(matrix.numel() * (share if is_expert(name) or matrix.ndim > 2 else 1))


def _active_share(config: PretrainedConfig) -> float:
    """The share of a layer's experts that one token passes; 1 where there are none."""
    active, experts = (
        next((n for name in names if (n := getattr(config, name, None)) and isinstance(n, int)), 0)
        for names in (
            ("num_experts_per_tok", "top_k_experts"),
            ("num_local_experts", "num_experts", "n_routed_experts"),
        )
    )
    return active / experts if active and experts else 1.0


def _is_latent(config: PretrainedConfig) -> bool:
    """Whether keys and values are made from one compressed vector per token (multi-head latent attention)."""
    return bool(getattr(config, "kv_lora_rank", None) and getattr(config, "qk_rope_head_dim", None))


def _kv_heads(config: PretrainedConfig, heads: int) -> int:
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1
    return next((n for name in ("num_key_value_heads", "num_kv_heads") if (n := getattr(config, name, None))), heads)


def _head_dim(config: PretrainedConfig, default: int) -> int:
    if _is_latent(config):
        return (config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim) // 2
    return int(getattr(config, "head_dim", None) or default)


def _feed_forward(model: PreTrainedModel, config: PretrainedConfig, share: float, unit: int) -> int:
    """Width of a layer's feed-forward block, of all matrices in such blocks but routers; as the config says where no
    name tells which they are.

    Args:
        unit: numbers of all layers' matrices for one unit of width.
    """
    numbers = sum(
        _active(name, p, share)
        for name, p in _matrices(model)
        if any(word in name for word in FEED_FORWARD) and ROUTERS.isdisjoint(name.split("."))
    )
    return round(numbers / unit) or int(getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
