"""What scorers that run a Hugging Face model share: loading it, and turning texts into batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from transformers import AutoConfig, AutoTokenizer

from rayalign.errors import ModelError
from rayalign.store.model_checks import check_files
from rayalign.store.pretrained import LoadingInfo, check_loaded, check_vocabulary, embedding_rows, load_pretrained, move

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

T = TypeVar("T")

KEY = "scoring.model"
"""Where a config names these models, for errors."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_NO_LIMIT = 10**9
"""Tokenizers that know no longest text give a huge number instead."""


def load_config(folder: Path) -> PretrainedConfig:
    return _load(AutoConfig.from_pretrained, folder)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return _load(AutoTokenizer.from_pretrained, folder)


def load_model(
    auto_class: type[_BaseAutoModelClass], folder: Path, dtype: str, device: str, *, unused: tuple[str, ...] = ()
) -> PreTrainedModel:
    """The model with all its weights, ready to score on a device.

    Args:
        unused: parts of the model whose weights may be missing, because nothing reads them.

    Raises:
        ModelError: it cannot be loaded, or weights of it are missing or have another shape.
    """
    options = {"dtype": DTYPES[dtype], "use_safetensors": True}
    model = _complete(auto_class, folder, unused, **options)
    move(model.eval(), device)
    return model


def check_model(auto_class: type[_BaseAutoModelClass], folder: Path, *, unused: tuple[str, ...] = ()) -> None:
    """Refuse, before it is loaded, what `load_model` refuses, quantised weights, and another model's tokenizer.

    Raises:
        ModelError: files are missing or damaged, weights are missing or quantised, or tokens have no embedding.
    """
    check_files(folder, KEY)
    model = _complete(auto_class, folder, unused, device_map="meta", dtype="float32")
    check_vocabulary(load_tokenizer(folder), embedding_rows(model), folder, KEY)
    if _counting_padding(model) is not None and padding_of(model) is None:
        raise ModelError(
            f"{KEY}: {folder} has pad_token_id {model.config.pad_token_id}",
            "such a model counts its positions from that token's id, and would read every text at other positions",
            "set pad_token_id in its config.json to the tokenizer's (of RoBERTa: 1)",
        )


def _complete(
    auto_class: type[_BaseAutoModelClass], folder: Path, unused: tuple[str, ...], **options: object
) -> PreTrainedModel:
    loaded: tuple[PreTrainedModel, LoadingInfo] = _load(
        auto_class.from_pretrained, folder, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    check_loaded(loaded[1], folder, KEY, unused=unused, heads=True)
    return loaded[0]


def _load(load: Callable[..., T], folder: Path, **options: object) -> T:
    remedy = "check that the folder holds a model of this scorer's kind and its tokenizer"
    return load_pretrained(load, folder, key=KEY, why=_why, remedy=remedy, **options)


def _why(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def longest_text(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, positions: int | None = None) -> int:
    """Longest text in tokens: what the positions hold, and what the tokenizer says (fewer where some are reserved).

    Args:
        positions: that the model holds, where its config counts others too (`positions_of`).
    """
    held = positions or getattr(config.get_text_config(), "max_position_embeddings", None) or _NO_LIMIT
    return min(held, tokenizer.model_max_length or _NO_LIMIT, _NO_LIMIT)


def positions_of(model: PreTrainedModel) -> int | None:
    """Tokens that a table of learned positions holds where it begins after the padding's, as RoBERTa's does; else None.

    The config of such a model counts the rows before the first token's too.
    """
    table = _counting_padding(model)
    padding = padding_of(model)
    return None if table is None or padding is None else table.num_embeddings - padding - 1


def _counting_padding(model: PreTrainedModel) -> torch.nn.Embedding | None:
    """The table of positions of a model that counts them from its padding token's id."""
    tables = [getattr(m, "position_embeddings", None) for m in model.modules() if hasattr(m, "padding_idx")]
    return next((table for table in tables if isinstance(table, torch.nn.Embedding)), None)


def padding_of(model: PreTrainedModel) -> int | None:
    """The model's padding token; None where it has none, or names an id that has no embedding."""
    pad = getattr(model.config.get_text_config(), "pad_token_id", None)
    return pad if isinstance(pad, int) and 0 <= pad < embedding_rows(model) else None


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
