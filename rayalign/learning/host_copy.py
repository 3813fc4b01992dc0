"""A model that is on its device only while it is needed there; meanwhile it waits in host memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import torch


class HostCopy:
    """Moves the parameters and buffers of a module between its device and a copy in host memory that stays.

    Tensors that share a parameter still do: it is the parameter that changes its place. Nothing else may hold views of
    them across a move, as an optimizer does.

    Args:
        module: in host memory, where it is at first.
        device: `cuda` (the copy is in pinned memory then), or `cpu`, where a move is one between two host buffers.
        arrived: called when the module is on its device for the first time.
    """

    def __init__(self, module: torch.nn.Module, device: str, arrived: Callable[[], object] = lambda: None) -> None:
        self._module, self._device = module, device
        self._arrived: Callable[[], object] | None = arrived
        self.on_device = False
        self._host: dict[str, torch.Tensor] = {}
        for name, tensor in self._tensors():
            tensor.data = self._host[name] = self._at_home(tensor.data)

    def move(self, *, to_device: bool) -> None:
        """To the device or away from it, if it is not there yet."""
        if to_device:
            self.take()
        else:
            self.leave()

    def take(self) -> None:
        """Move to the device; nothing happens where it is there."""
        if self.on_device:
            return
        for _, tensor in self._tensors():
            host = tensor.data
            tensor.data = host.to(self._device, non_blocking=True) if self._device == "cuda" else host.clone()
        if self._device == "cuda":
            torch.cuda.synchronize()
        self.on_device = True
        if self._arrived is not None:
            self._arrived()
            self._arrived = None

    def leave(self) -> None:
        """Move to host memory and give all of the device's back; nothing happens where it is there."""
        if not self.on_device:
            return
        for name, tensor in self._tensors():
            host = self._host.get(name)
            if host is None or host.shape != tensor.shape:
                # A buffer that the module made anew: some rotary embeddings do so for longer texts.
                host = self._host[name] = self._at_home(tensor.data)
            elif tensor.requires_grad or not isinstance(tensor, torch.nn.Parameter):
                # What is frozen is on the device as it was copied there.
                host.copy_(tensor.data)
            tensor.data, tensor.grad = host, None
        self.on_device = False
        # What an engine left behind refers to itself.
        gc.collect()
        if self._device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def _at_home(self, data: torch.Tensor) -> torch.Tensor:
        return data.cpu().pin_memory() if self._device == "cuda" else data

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Each once, also where several modules have it."""
        yield from self._module.named_parameters()
        yield from self._module.named_buffers()
