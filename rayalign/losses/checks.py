"""Argument checks that the losses share."""

from __future__ import annotations

import math

import torch


def check_positive(**settings: float) -> None:
    """Each setting is positive and finite.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in settings.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} is {value}: it must be positive and finite")


def check_not_negative(**settings: float) -> None:
    """Each setting is finite and at least 0.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in settings.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} is {value}: it must be finite and not negative")


def check_logps(**logps: torch.Tensor) -> None:
    """Log-probabilities are float32 or float64: a sum of hundreds of nats has no digits left for a difference in less.

    Raises:
        ValueError: naming the first that is neither.
    """
    for name, tensor in logps.items():
        if tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"{name} is {tensor.dtype}: log-probabilities are computed and summed in float32 or float64"
            )


def check_same_shape(**tensors: torch.Tensor) -> None:
    """All tensors have the shape of the first; broadcasting would pair up what does not belong together.

    Raises:
        ValueError: naming the first pair that differs.
    """
    (first, model), *others = tensors.items()
    for name, tensor in others:
        if tensor.shape != model.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, {first} has {tuple(model.shape)}")
