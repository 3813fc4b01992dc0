"""Hugging Face model folders: read by whichever loader of transformers the caller brings, and moved to their device."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

from rayalign.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")
PLACEHOLDERS = ("image", "video", "audio", "boi", "eoi", "boa", "eoa")
"""How the names of special tokens begin that stand for what is no text."""
_LAYER = re.compile(r"\.\d+\.")
_CONSTANTS = re.compile(r"(inv_freq|position_ids|(attn|attention)\.(masked_)?bias)$")
"""What older models keep in their files and computation makes anew."""


class LoadingInfo(TypedDict):
    """What transformers tells beside a loaded model, as far as it is read here."""

    missing_keys: Collection[str]
    unexpected_keys: Collection[str]
    mismatched_keys: Collection[tuple[str, object, object]]
    """(name, shape in the files, shape in the model)."""


def load_pretrained(
    load: Callable[..., T], folder: Path, *, key: str, why: Callable[[Exception], str], remedy: str, **options: object
) -> T:
    """What a `from_pretrained` method makes of a folder; code that comes with the folder is not run.

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
        return load(folder, trust_remote_code=False, **options)
    except Exception as error:
        if type(error).__name__ in ("MemoryError", "OutOfMemoryError"):
            raise
        found = f"{key}: {folder} cannot be loaded"
        if "trust_remote_code" in str(error):
            raise ModelError(
                found,
                "it comes with code of its own, which is not run",
                "name a model of an architecture that transformers has built in",
            ) from error
        raise ModelError(found, why(error), remedy) from error


def check_loaded(
    found: LoadingInfo, folder: Path, key: str, *, unused: tuple[str, ...] = (), heads: bool = False
) -> None:
    """Refuse a model that did not get all of its weights from its files, or that is not all that they hold.

    Args:
        unused: parts of the model whose weights may be missing: nothing reads them, or they are to be new.
        heads: whether the files may hold more outside the layers: a head of another task.

    Raises:
        ModelError: weights are missing or left over, or have another shape in the files.
    """
    missing = sorted(name for name in found["missing_keys"] if not set(name.split(".")) & set(unused))
    if missing:
        raise ModelError(
            f"{key}: {folder} lacks {', '.join(missing[:3])}{' ...' if missing[3:] else ''}",
            f"{len(missing)} weights of the model are not in its files and would be random",
            "save the model whole (model.save_pretrained), or name one that has them",
        )
    surplus = sorted(name for name in found["unexpected_keys"] if not _CONSTANTS.search(name))
    if surplus := [name for name in surplus if not heads or _LAYER.search(name)]:
        raise ModelError(
            f"{key}: {folder} has {', '.join(surplus[:3])}{' ...' if surplus[3:] else ''}",
            f"{len(surplus)} tensors of its files have no place in the model that its config.json describes: with "
            "fewer layers or without these parts it would be another model",
            "fetch the config.json that the weights were saved with, or save the model again (model.save_pretrained)",
        )
    for name, stored, expected in sorted(found["mismatched_keys"], key=str):
        raise ModelError(
            f"{key}: {name} of {folder} has shape {list_of(stored)}",
            f"its config.json makes that {list_of(expected)}: the weights are not those of this config",
            "save model and config together (model.save_pretrained), or fetch the model again",
        )


def list_of(shape: object) -> object:
    """A shape as it is written: torch's own class has a name of its own in its text."""
    return list(shape) if isinstance(shape, tuple) else shape


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, folder: Path, key: str) -> None:
    """Refuse a tokenizer with ids that the model has no embedding for, but for placeholders of what is no text.

    Args:
        rows: of the model's embedding.

    Raises:
        ModelError: it has such tokens.
    """
    placeholders = {str(t) for name, t in tokenizer.special_tokens_map.items() if name.startswith(PLACEHOLDERS)}
    beyond = sorted((i, token) for token, i in tokenizer.get_vocab().items() if i >= rows and token not in placeholders)
    if beyond:
        named = ", ".join(f"{token!r} ({i})" for i, token in beyond[:3])
        raise ModelError(
            f"{key}: the tokenizer of {folder} has {named}{' ...' if beyond[3:] else ''}",
            f"the model's embedding ends at {rows - 1}: {len(beyond)} tokens are the tokenizer's alone, added to "
            "its files, or by its class on loading",
            "resize, train and save the model (resize_token_embeddings(len(tokenizer))), or name another one",
        )


def embedding_rows(model: PreTrainedModel) -> int:
    """Tokens that a model has an embedding for."""
    return next(table.shape[0] for table in model.get_input_embeddings().parameters())


def move(model: torch.nn.Module, device: torch.device | str) -> None:
    """Move a model's weights to a device; transformers' own `to` is wrapped in a way that type checkers cannot call."""
    model.to(device)
