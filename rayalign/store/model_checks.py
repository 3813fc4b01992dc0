"""Whether the files of a Hugging Face model folder can be loaded: from names, config and headers, no weight is read.

config.json, tokenizer ─► weight files ─► their headers ─► names, types and shapes of all tensors
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rayalign.errors import ModelError
from rayalign.store.model_files import INDEX, SINGLE, check_fetched, model_files, read_config, weight_files

VOCABULARIES = ("tokenizer.json", "*.model", "vocab.*", "tekken.json")
FLOATS = {"F64", "F32", "F16", "BF16"}
CAUSAL = ("ForCausalLM", "GPT2LMHeadModel")
"""How the names of what vLLM serves of them end: of the older `...LMHeadModel` it knows this one alone."""
LONGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as its file's header describes it."""

    dtype: str
    """As safetensors names it: F32, BF16, I8, F8_E4M3, ..."""
    shape: tuple[int, ...]
    path: Path


def count_parameters(tensors: Iterable[Stored]) -> int:
    """Numbers in a model's files."""
    return sum(math.prod(tensor.shape) for tensor in tensors)


def check_causal(folder: Path, key: str, *, encoder_decoder: bool = False) -> None:
    """Refuse what is no causal language model, by the architectures that its config.json names.

    Args:
        key: where the config names it, for the error.
        encoder_decoder: whether it is known to be of that kind.

    Raises:
        ModelError: it is another kind of model, or names none.
    """
    named = read_config(folder, key).get("architectures")
    found = [str(name) for name in named] if isinstance(named, list) else []
    if encoder_decoder or not any(kind.endswith(CAUSAL) for kind in found):
        raise ModelError(
            f"{key}: {folder} is a {', '.join(found) or 'model without architectures in its config.json'}",
            "a run trains a causal language model (...ForCausalLM), and vLLM serves it by that name",
            "name a model of that kind",
        )


def check_files(folder: Path, key: str, *, quantised: bool = False) -> dict[str, Stored]:
    """Every tensor of a model's weight files by name, after checking that the folder can be loaded.

    Args:
        key: where the config names it, for the error.
        quantised: whether weights that are quantised already will do.

    Raises:
        ModelError: config, tokenizer or weights are missing, damaged, pickled, not fetched, or quantised.
    """
    config = read_config(folder, key)
    check_fetched(model_files(folder), key)
    if (named := config.get("transformers_weights")) not in (None, SINGLE, INDEX):
        raise ModelError(
            f"{key}: config.json of {folder} names {named} as its weights (transformers_weights)",
            f"only transformers would read that, and vLLM {SINGLE} or what {INDEX} names",
            "rename the file, and remove that key",
        )
    if not any(True for pattern in VOCABULARIES for _ in folder.glob(pattern)):
        raise ModelError(
            f"{key}: {folder} has no tokenizer",
            f"none of {', '.join(VOCABULARIES)} is there, and one made up in its place would know no words",
            "save the tokenizer into it (tokenizer.save_pretrained)",
        )
    if not quantised:
        check_quantisation(folder, key)
    tensors: dict[str, Stored] = {}
    for path in weight_files(folder, key):
        for name, tensor in _header(path, key).items():
            if name in tensors:
                raise ModelError(
                    f"{key}: {name} is in {tensors[name].path.name} and in {path.name} of {folder}",
                    "which of the two is the model's cannot be known",
                    "remove what an earlier save left, or save the model again into a new folder",
                )
            tensors[name] = tensor
    if not quantised:
        _check_types(tensors, folder, key)
    return tensors


def check_quantisation(folder: Path, key: str) -> None:
    """Refuse a model whose config.json says that its weights are quantised.

    Raises:
        ModelError: they are.
    """
    config = read_config(folder, key)
    for section in (config, *(part for part in config.values() if isinstance(part, dict))):
        found = section.get("quantization_config") or section.get("compression_config")
        if found:
            kind = found.get("quant_method") if isinstance(found, dict) else None
            raise _quantised(f"{kind or 'quantised'} weights", folder, key)


def _check_types(tensors: dict[str, Stored], folder: Path, key: str) -> None:
    """Refuse weights of fewer than 16 bits: without their scales they would be read as other numbers."""
    for name, tensor in tensors.items():
        # Masks and positions are integers too, in buffers of some older models.
        if tensor.dtype not in FLOATS and (tensor.dtype.startswith("F") or name.endswith("weight")):
            raise _quantised(f"weights of type {tensor.dtype}", folder, key)


def _quantised(what: str, folder: Path, key: str) -> ModelError:
    own = "; model.quantization: nf4 or int8 quantises it for training" if key == "model.base" else ""
    return ModelError(
        f"{key}: {folder} has {what}",
        "it is quantised already, and is to be loaded in 16 or 32 bits",
        f"name the model that it was made from{own}",
    )


def _header(path: Path, key: str) -> dict[str, Stored]:
    """The tensors of a safetensors file, by name."""
    size, longest = path.stat().st_size, 0
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(size - 8, LONGEST_HEADER):
                raise ValueError("its header does not end in the file")
            header = json.loads(file.read(length))
        found = {}
        for name, facts in header.items():
            if name != "__metadata__":
                longest = max(longest, int(facts["data_offsets"][1]))
                found[name] = Stored(str(facts["dtype"]), tuple(facts["shape"]), path)
        if size != 8 + length + longest:
            raise ValueError(f"it has {size} bytes, and its header speaks of {8 + length + longest}")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{key}: {path} is damaged", f"{error}; a download that broke off looks like this", "fetch the model again"
        ) from None
    return found
