"""Model folders: finding and reading them, what they consist of, and their checksums.

torch and transformers are imported where they are used: processes that only look for a folder start ten seconds sooner.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rayalign.errors import ModelError
from rayalign.learning.gguf import converted, find_gguf
from rayalign.store.files import expanded
from rayalign.store.model_files import CONFIG, ELSEWHERE, MODEL_FILES, model_files, read_config, without_others
from rayalign.store.pretrained import load_pretrained

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

T = TypeVar("T")


def resolve_model(base: str, key: str = "model.base") -> Path:
    """Local folder of a model: the folder itself, what a GGUF file is converted to, or the snapshot of a hub id
    (downloaded if it is not here).

    Where other weights lie beside the model, it is a folder of links to the model's own files.

    Args:
        key: where the config names it, for the error.

    Raises:
        ModelError: no such folder and no such model on the hub, or the hub cannot be reached.
    """
    folder = expanded(base)
    if (file := find_gguf(folder, key)) is not None:
        return converted(file.resolve(), key)
    if folder.is_dir():
        read_config(folder, key)
        return without_others(folder.resolve(), key)
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(base, allow_patterns=list(MODEL_FILES), ignore_patterns=list(ELSEWHERE))
    except Exception as error:
        raise _not_found(base, key, error) from error
    return without_others(Path(found), key)


def resolve_config(base: str, key: str = "model.base") -> Path:
    """A folder with a model's `config.json`, and of a hub id with no more than that. Arguments and errors as
    `resolve_model`."""
    folder = Path(base).expanduser()
    if folder.exists() or find_gguf(folder, key) is not None:
        return resolve_model(base, key)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(base, CONFIG)).parent
    except Exception as error:
        raise _not_found(base, key, error) from error


def _not_found(base: str, key: str, error: Exception) -> ModelError:
    return ModelError(
        f"{key}: {base!r} cannot be loaded",
        f"there is no such folder, and as a hub id it failed: {first_line(error)}",
        "give an existing Hugging Face model folder, a GGUF file, a hub id that you may read, `demo` or `smollm2`",
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return _load(AutoTokenizer.from_pretrained, folder)


def load_config(folder: Path) -> PretrainedConfig:
    from transformers import AutoConfig

    return _load(AutoConfig.from_pretrained, folder)


def load_model(auto_class: type[_BaseAutoModelClass], folder: Path, **options: object) -> PreTrainedModel:
    """The model in the folder, by one of transformers' Auto classes.

    Raises:
        ModelError: the folder does not hold what the class wants.
    """
    return _load(auto_class.from_pretrained, folder, **options)


def context_length(folder: Path) -> int | None:
    """Longest sequence that the model's config allows, in tokens; None where it does not say."""
    return getattr(load_config(folder), "max_position_embeddings", None)


def be_quiet() -> None:
    """No bars and no remarks of the model libraries on the terminal, for commands whose output is their own."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def has_rotary_positions(folder: Path) -> bool:
    """Whether positions are computed, so that they do not end; a learned table does."""
    config = load_config(folder)
    return any(getattr(config, name, None) for name in ("rope_parameters", "rope_scaling", "rope_theta"))


def _load(load: Callable[..., T], folder: Path, **options: object) -> T:
    remedy = "check that the folder holds a causal language model and its tokenizer"
    return load_pretrained(load, folder, key="model.base", why=first_line, remedy=remedy, **options)


def first_line(error: Exception) -> str:
    """An error's class and the first line of its text; some errors of the hub's client have no text at all."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def file_digests(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of each file, by name."""
    digests = {}
    for path in paths:
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def digest_model(digests: dict[str, str]) -> str:
    """One SHA-256 for what makes the model: names and contents of its weight and config files."""
    digest = hashlib.sha256()
    for name in sorted(digests):
        if is_digested(name):
            digest.update(name.encode())
            digest.update(bytes.fromhex(digests[name]))
    return digest.hexdigest()


def hash_model(folder: Path) -> str:
    """SHA-256 over the names and contents of the weight and config files."""
    return digest_model(file_digests([path for path in model_files(folder) if is_digested(path.name)]))


def is_digested(name: str) -> bool:
    """Whether a file of a model decides what it is: its weights and its config."""
    return name.endswith(".safetensors") or name == "config.json"


def hash_folder(folder: Path) -> str:
    """SHA-256 over the names and contents of all files of a model, its tokenizer and chat template included."""
    return hashlib.sha256(json.dumps(file_digests(model_files(folder)), sort_keys=True).encode()).hexdigest()
