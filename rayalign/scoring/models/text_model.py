"""What scorers that run a Hugging Face model share: loading it, and turning texts into batches of similar length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from rayalign.errors import ModelError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_NO_LIMIT = 10**9
"""Tokenizers that know no longest text give a huge number instead."""


def load_part(auto_class: Any, folder: Path, **options: Any) -> Any:
    """`from_pretrained` of one of transformers' Auto classes.

    Raises:
        ModelError: the folder does not hold what the class wants.
    """
    try:
        return auto_class.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"scoring.model: {folder} cannot be loaded",
            why,
            "check that the folder holds a model of this scorer's kind and its tokenizer",
        ) from error


def load_model(auto_class: Any, folder: Path, dtype: str, *, unused: tuple[str, ...] = ()) -> Any:
    """The model with all its weights.

    Args:
        unused: beginnings of names of weights that may be missing, because nothing reads them.

    Raises:
        ModelError: it cannot be loaded, or weights of it are missing.
    """
    options = {"dtype": DTYPES[dtype], "output_loading_info": True, "use_safetensors": True}
    model, found = load_part(auto_class, folder, **options)
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(unused))
    if missing:
        raise ModelError(
            f"scoring.model: {folder} lacks {', '.join(missing[:3])}{' ...' if missing[3:] else ''}",
            "those weights would be random, and with them the rewards",
            "save the model whole (model.save_pretrained)",
        )
    return model.eval()


def longest_text(config: Any, tokenizer: Any) -> int:
    """Longest text in tokens: what the positions hold, and what the tokenizer says (fewer where some are reserved)."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or _NO_LIMIT
    return min(positions, tokenizer.model_max_length or _NO_LIMIT, _NO_LIMIT)


def padded(rows: Iterable[Sequence[int]], pad: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [B, T], padded on the right, and their mask (1 on tokens) [B, T]."""
    tensors = [torch.tensor(row) for row in rows]
    stack = torch.nn.utils.rnn.pad_sequence
    mask_BT = stack([torch.ones_like(row) for row in tensors], batch_first=True)
    return stack(tensors, batch_first=True, padding_value=pad).to(device), mask_BT.to(device)


def plan_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Places of similar length together, longest first; rows x longest row of a batch fit the budget.

    A row that is longer than the budget gets a batch of its own.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def batches(rows: Sequence[Sequence[int]], budget: int) -> Iterator[tuple[list[int], list[Sequence[int]]]]:
    """Each batch of `plan_batches` as (places, rows)."""
    for places in plan_batches([len(row) for row in rows], budget):
        yield places, [rows[place] for place in places]
