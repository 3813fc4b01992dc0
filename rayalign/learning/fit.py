"""Whether weights that travel under a checkpoint's names are those of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedModel

from rayalign.errors import ModelError

Shapes = Mapping[str, Sequence[int]]


def check_fit(model: PreTrainedModel, shapes: Shapes, what: str, remedy: str) -> None:
    """Refuse tensors that the model does not have, and a model with more weights; tied ones need one name.

    Args:
        what: whose tensors they are, in words.
        remedy: what the error recommends.

    Raises:
        ModelError: names or shapes differ.
    """
    state = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    foreign = sorted(name for name, shape in shapes.items() if state.get(name) != list(shape))
    names: dict[torch.nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    absent = [tied[0] for tied in names.values() if not any(name in shapes for name in tied)]
    if foreign or absent:
        kind = "has another shape than" if foreign and foreign[0] in state else "is not in"
        found = f"{foreign[0]} of {what} {kind} the model" if foreign else f"{absent[0]} of the model is not in {what}"
        raise ModelError(
            f"{found} ({len(foreign) + len(absent)} such tensors)",
            "all weights travel under the names of the base's checkpoint",
            remedy,
        )
