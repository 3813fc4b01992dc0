"""Which layers' activations are made again in the backward pass instead of kept (gradient checkpointing)."""

from __future__ import annotations

from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from rayalign.errors import ModelError

KEY = "training.gradient_checkpointing"


def remake_activations(base: PreTrainedModel, count: bool | int, *, sharded: bool = False) -> None:
    """Let the model's layers remake their activations: all, or as many as `count` says, evenly spread.

    Args:
        sharded: parameters are whole only while a module runs (ZeRO-3).

    Raises:
        ModelError: the model has fewer layers, or does not let them be chosen.
    """
    if not count:
        return
    # PyTorch's newer form compares the shapes of remade tensors, parameters among them: ZeRO-3's have none then.
    base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": sharded})
    if sharded:
        base.enable_input_require_grads()
    if count is True:
        return
    layers = layers_of(base)
    check_count(count, len(layers))
    # The last layer is kept where one may be: the backward pass begins there, when all that is kept is still there.
    chosen = range(count) if count == len(layers) else [k * (len(layers) - 1) // count for k in range(count)]
    for index, layer in enumerate(layers):
        layer.gradient_checkpointing = index in chosen


def layers_of(model: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    """Those whose activations can be remade one by one, in their order."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def check_count(count: bool | int, layers: int) -> None:
    """Refuse more layers than there are.

    Raises:
        ModelError: there are not as many.
    """
    if not isinstance(count, bool) and count > layers:
        most = f", or to {layers} at most" if layers else ""
        raise ModelError(f"{KEY} {count}", f"the model has {layers} layers to choose from", f"set it to true{most}")
