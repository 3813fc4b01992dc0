"""Hugging Face model folders: read by whichever loader of transformers the caller brings, and moved to their device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rayalign.errors import ModelError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def load_pretrained(
    load: Callable[..., T], folder: Path, *, key: str, why: Callable[[Exception], str], remedy: str, **options: object
) -> T:
    """What a `from_pretrained` method makes of a folder.

    Args:
        load: the method, bound to one of transformers' Auto classes.
        key: where the config names the folder, for the error.
        why: the reason of the error, from what the method raised.
        remedy: what the error recommends.
        options: the method's own.

    Raises:
        ModelError: the folder does not hold what the class wants.
    """
    try:
        return load(folder, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{key}: {folder} cannot be loaded", why(error), remedy) from error


def move(model: torch.nn.Module, device: torch.device | str) -> None:
    """Move a model's weights to a device; transformers' own `to` is wrapped in a way that type checkers cannot call."""
    model.to(device)
