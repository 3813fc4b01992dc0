"""vLLM's LoRA layers on CPU, by two matrix products for all tokens of a step.

vLLM's own way copies the adapter's matrices once for every token: of SmolLM2-135M in bfloat16 it takes four fifths of
the time of decoding, and it answers what names no adapter with the last one where both are in one step.

To be named as `worker_extension_cls`, which has each process of an engine import this module before it loads a model.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms.cpu import CpuPlatform


class LoraWorker:
    """Adds nothing to vLLM's worker: that this module is imported is enough."""


class LoraProducts(PunicaWrapperCPU):
    """y += scale x Aᵀ Bᵀ for the tokens with an adapter, whose rows are gathered where others have none or another."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows: dict[int, torch.Tensor | None] = {}
        """Of each adapter (vLLM's slot) of the next step its tokens; null for all."""

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Take in which tokens of the next step have which adapter; slot -1 is none."""
        super().update_metadata(*args, **kwargs)
        slots_T = self.token_lora_indices
        found: list[int] = slots_T.unique().tolist()
        alone = len(found) == 1
        self._rows = {slot: None if alone else (slots_T == slot).nonzero()[:, 0] for slot in found if slot >= 0}

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **others: Any,
    ) -> None:
        """Change y in place, as in the class above.

        Args:
            y, x: (..., out) and (..., in), with one row per token.
            lora_a_stacked, lora_b_stacked: of each part of the output (slots, 1, r, in) and (slots, 1, part, r).
            output_slices: how wide each part of the output is.
        """
        y_TO, x_TI = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        for slot, rows in self._rows.items():
            some_TI = x_TI if rows is None else x_TI[rows]
            for part_TO, a, b in zip(y_TO.split(output_slices, dim=1), lora_a_stacked, lora_b_stacked, strict=True):
                low_TR = some_TI @ a[slot, 0].T
                if rows is None:
                    part_TO.addmm_(low_TR, b[slot, 0].T, alpha=scale)
                else:
                    part_TO[rows] += scale * (low_TR @ b[slot, 0].T)


def _wrapper(_: type[CpuPlatform]) -> str:
    return f"{__name__}.{LoraProducts.__name__}"


# What vLLM asks its platform for when it makes LoRA layers.
CpuPlatform.get_punica_wrapper = classmethod(_wrapper)  # pyright: ignore[reportAttributeAccessIssue]
