"""What scorers that run a Hugging Face model share: loading it, and turning texts into batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

import torch
from transformers import AutoConfig, AutoTokenizer

from rayalign.errors import ModelError
from rayalign.store.pretrained import load_pretrained, move

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

T = TypeVar("T")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_NO_LIMIT = 10**9
"""Tokenizers that know no longest text give a huge number instead."""


class _LoadingInfo(TypedDict):
    """What transformers tells beside a loaded model, as far as it is read here."""

    missing_keys: Collection[str]


def load_config(folder: Path) -> PretrainedConfig:
    return _load(AutoConfig.from_pretrained, folder)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return _load(AutoTokenizer.from_pretrained, folder)


def load_model(
    auto_class: type[_BaseAutoModelClass], folder: Path, dtype: str, device: str, *, unused: tuple[str, ...] = ()
) -> PreTrainedModel:
    """The model with all its weights, ready to score on a device.

    Args:
        unused: beginnings of names of weights that may be missing, because nothing reads them.

    Raises:
        ModelError: it cannot be loaded, or weights of it are missing.
    """
    options = {"dtype": DTYPES[dtype], "output_loading_info": True, "use_safetensors": True}
    loaded: tuple[PreTrainedModel, _LoadingInfo] = _load(auto_class.from_pretrained, folder, **options)
    model, found = loaded
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(unused))
    if missing:
        raise ModelError(
            f"scoring.model: {folder} lacks {', '.join(missing[:3])}{' ...' if missing[3:] else ''}",
            "those weights would be random, and with them the rewards",
            "save the model whole (model.save_pretrained)",
        )
    move(model.eval(), device)
    return model


def _load(load: Callable[..., T], folder: Path, **options: object) -> T:
    remedy = "check that the folder holds a model of this scorer's kind and its tokenizer"
    return load_pretrained(load, folder, key="scoring.model", why=_why, remedy=remedy, **options)


def _why(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def longest_text(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Longest text in tokens: what the positions hold, and what the tokenizer says (fewer where some are reserved)."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or _NO_LIMIT
    return min(positions, tokenizer.model_max_length or _NO_LIMIT, _NO_LIMIT)


def special_id(found: object) -> int:
    """The id of a special token, as a tokenizer gives it; 0 where it has no such token."""
    return found if isinstance(found, int) else 0


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
