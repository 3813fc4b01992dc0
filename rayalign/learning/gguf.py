"""GGUF files as models: one is converted once into a Hugging Face folder of the cache, by its checksum.

    header ─► what transformers does not read, or reads wrongly, is refused ─► weights, dequantised to float32
           ─► tokenizer, checked against the header ─► `gguf.json`: what the folder was made of

`transformers` leaves out what it does not know without a word: a tensor, a key that changes what is computed. Such a
model would answer, only worse. So all tensors must arrive, and the config must say what the header says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rayalign.errors import ModelError
from rayalign.learning.gguf_config import ELSEWHERE, ROPE_FACTORS, complete_config, unread_keys
from rayalign.learning.gguf_header import GgufSource, read_header
from rayalign.learning.gguf_tokenizer import unknown_splitting, write_tokenizer
from rayalign.store.cache import cache_folder, made_once
from rayalign.store.files import write_json

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

FACTS = "gguf.json"
"""In a converted folder: name and checksum of the file, and the types of its quantised tensors."""
VERSION = 1
"""Of what a conversion makes: folders of another one are not used. Raise it when the same file gives another model."""


def find_gguf(path: Path, key: str) -> Path | None:
    """The GGUF file that a path names: itself, or the only one in a folder without other weights; else None.

    Raises:
        ModelError: the folder holds several.
    """
    if path.is_file() or (path.suffix == ".gguf" and not path.is_dir()):
        return path
    files = sorted(path.glob("*.gguf")) if path.is_dir() else []
    if not files or any(any(path.glob(pattern)) for pattern in ("*.safetensors", "*.bin")):
        return None
    if len(files) > 1:
        raise ModelError(
            f"{key}: {path} holds {len(files)} GGUF files: {', '.join(file.name for file in files[:5])}",
            "each may be a model of its own",
            f"name one of them, for example {key}: {files[0]}",
        )
    return files[0]


def converted(file: Path, key: str) -> Path:
    """The model of a GGUF file as a Hugging Face folder, made first if no process has done so before.

    Raises:
        ModelError: the file is not there, is damaged, or holds something that transformers does not read.
    """
    try:
        sha256 = file_digest(file)
    except OSError as error:
        why = f"a name that ends in .gguf is a file: {error.strerror}"
        raise ModelError(f"{key}: {file} cannot be opened", why, "check the path, and that you may read it") from error
    name = re.sub(r"[^A-Za-z0-9._-]", "-", file.stem)[:60]
    return converted_as(cache_folder() / f"gguf-{name}-{sha256[:16]}-v{VERSION}", file, sha256, key)


def converted_as(
    folder: Path, file: Path, sha256: str, key: str, check: Callable[[Path], None] = lambda _: None
) -> Path:
    """As `converted`, in a folder of this name.

    Args:
        check: of the converted folder, before others see it.
    """

    def make(scratch: Path) -> None:
        _convert(file, sha256, scratch, key)
        check(scratch / "model")

    return made_once(folder, make)


def file_digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def notices(folder: Path, name: str) -> list[str]:
    """What a user should know of a model folder that was made from a GGUF file; nothing of any other.

    Args:
        name: of the model, as the user gave it.
    """
    if not (folder / FACTS).is_file():
        return []
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    said = []
    if facts["quantised"]:
        said.append(
            f"{name}: the weights in {facts['file']} were quantised ({', '.join(facts['quantised'])}) and are used as "
            "they come out of it: the model is a little worse than the one that it was made from"
        )
    return said + [f"{name}: {facts['file']}: {problem}" for problem in facts["doubts"]]


def _convert(file: Path, sha256: str, scratch: Path, key: str) -> None:
    _need_package(key, file)
    header = read_header(file, key)
    alone, folder = scratch / "alone" / "model.gguf", scratch / "model"
    source = GgufSource(file, key, header, alone)
    _check_kind(source)
    Console(stderr=True).print(f"Converting {file.name} (once, cached)", highlight=False)
    for made in (alone.parent, folder):
        made.mkdir()
    alone.symlink_to(file.resolve())
    write_tokenizer(source, folder)
    _write_weights(source, folder)
    doubts = [f"{name} is not read" for name in unread_keys(header)]
    if (splitting := unknown_splitting(header)) is not None:
        doubts.append(f"{splitting}, so that some text may become other tokens than the model learned from")
    facts = {"file": file.name, "sha256": sha256, "quantised": header.quantised_types(), "doubts": doubts}
    write_json(folder / FACTS, facts)


def _need_package(key: str, file: Path) -> None:
    if find_spec("gguf") is None:
        raise ModelError(
            f"{key}: {file} needs the package gguf, which is not installed",
            "transformers reads GGUF files with it",
            "pip install gguf",
        )


def _check_kind(source: GgufSource) -> None:
    """Refuse, by the header alone, what is not one whole model."""
    if (parts := source.header.metadata.get("split.count", 1)) > 1:
        raise source.refused(
            f"it is one of {parts} parts",
            "transformers reads a GGUF file that is whole",
            "join them with llama.cpp's llama-gguf-split --merge, and name the result",
        )
    if (kind := source.header.metadata.get("general.type", "model")) != "model":
        raise source.refused(f"it holds another thing than a model: {kind}", "the base must be a model", ELSEWHERE)


def _write_weights(source: GgufSource, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    with without_bars():
        config = source.load(AutoConfig.from_pretrained, ELSEWHERE)
        complete_config(config, source)
        options = {"config": config, "dtype": torch.float32, "output_loading_info": True}
        model, loaded = source.load(AutoModelForCausalLM.from_pretrained, ELSEWHERE, **options)
    _check_tensors(model, loaded, source)
    # Else transformers refuses to save the weights, which are quantised no longer.
    model.hf_quantizer, model.is_quantized = None, False
    del model.config.quantization_config
    ends = [source.header.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=list(dict.fromkeys(end for end in ends if end is not None)) or None,
        pad_token_id=config.pad_token_id,
    )
    with without_bars():
        model.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        _without_origin(folder / name)


def _without_origin(path: Path) -> None:
    """Drop where a config comes from, so that the same model has one checksum, whichever version wrote it."""
    saved = json.loads(path.read_text(encoding="utf-8"))
    saved.pop("_model_name_or_path", None)
    # Without a version transformers warns about tokenizers that older ones wrote.
    write_json(path, {**saved, "transformers_version": "5.0.0"})


def _counts(name: str, config: PretrainedConfig) -> bool:
    """Whether a tensor of this name is one of the model's weights."""
    if name == ROPE_FACTORS or (name == "output.weight" and config.tie_word_embeddings):
        return False
    # Blocks behind the last one predict further tokens; transformers' models have none.
    block = re.match(r"blk\.(\d+)\.", name)
    return block is None or int(block[1]) < config.num_hidden_layers


def _check_tensors(model: PreTrainedModel, loaded: Mapping[str, Any], source: GgufSource) -> None:
    """Refuse a model that lacks a tensor of the file, or has one that is not in it."""
    missing = sorted(loaded["missing_keys"]) + sorted(str(key) for key in loaded["mismatched_keys"])
    theirs = sum(tensor.elements for tensor in source.header.tensors if _counts(tensor.name, model.config))
    ours = sum(weight.numel() for weight in model.parameters())
    if missing or theirs != ours:
        found = f"{', '.join(missing[:5])} missing" if missing else f"{theirs} numbers in it, {ours} in the model"
        raise source.refused(
            found,
            "transformers does not read all of it, and the rest of the model would be random or missing",
            ELSEWHERE,
        )


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """transformers' own bars and its warnings about what is checked here, off."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
