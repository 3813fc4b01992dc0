"""Model folders: finding and reading them, what they consist of, and their checksums.

torch and transformers are imported where they are used: processes that only look for a folder start ten seconds sooner.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayalign.config.model import LoraSection
from rayalign.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What a model folder consists of; nothing else of a hub repository is downloaded or sent to other nodes."""


def resolve_model(base: str, key: str = "model.base") -> Path:
    """Local folder of a model: the folder itself, or the snapshot of a hub id (downloaded if it is not here).

    Args:
        key: where the config names it, for the error.

    Raises:
        ModelError: no such folder and no such model on the hub, or the hub cannot be reached.
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise ModelError(
                f"{key}: {base} has no config.json",
                "it is not a Hugging Face model folder",
                f"point {key} at the folder that holds config.json",
            )
        return folder.resolve()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(base, allow_patterns=list(MODEL_FILES)))
    except Exception as error:
        raise ModelError(
            f"{key}: {base!r} cannot be loaded",
            f"there is no such folder, and as a hub id it failed: {first_line(error)}",
            "give an existing Hugging Face model folder, a hub id that you may read, or `demo`",
        ) from error


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return load_with(AutoTokenizer, folder)


def context_length(folder: Path) -> int | None:
    """Longest sequence that the model's config allows, in tokens; None where it does not say."""
    from transformers import AutoConfig

    return getattr(load_with(AutoConfig, folder), "max_position_embeddings", None)


def be_quiet() -> None:
    """No bars and no remarks of the model libraries on the terminal, for commands whose output is their own."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def has_rotary_positions(folder: Path) -> bool:
    """Whether positions are computed, so that they do not end; a learned table does."""
    from transformers import AutoConfig

    config = load_with(AutoConfig, folder)
    return any(getattr(config, name, None) for name in ("rope_parameters", "rope_scaling", "rope_theta"))


def load_with(auto_class: Any, folder: Path, **kwargs: Any) -> Any:
    """`from_pretrained` of one of transformers' Auto classes.

    Raises:
        ModelError: the folder does not hold what the class wants.
    """
    try:
        return auto_class.from_pretrained(folder, **kwargs)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model.base: {folder} cannot be loaded",
            first_line(error),
            "check that the folder holds a causal language model and its tokenizer",
        ) from error


def first_line(error: Exception) -> str:
    """Some errors of the hub's client have no message at all."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def adapted_modules(folder: Path, section: LoraSection) -> list[str]:
    """Names of the linear modules that get LoRA weights: those of the config, or all but the output head.

    Raises:
        ModelError: the config names a module that the model does not have.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(load_with(AutoConfig, folder))
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    if section.targets == "all-linear":
        return sorted(linear)
    if missing := sorted(set(section.targets) - linear):
        raise ModelError(
            f"model.lora.targets: {', '.join(missing)}",
            "the model has no such linear module",
            f"choose from {', '.join(sorted(linear))}",
        )
    return sorted(section.targets)


def file_digests(folder: Path, patterns: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each file of a model folder that matches one of the patterns, by name."""
    digests = {}
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def digest_model(digests: dict[str, str]) -> str:
    """One SHA-256 for what makes the model: names and contents of its weight and config files."""
    digest = hashlib.sha256()
    for name in sorted(digests):
        if name.endswith(".safetensors") or name == "config.json":
            digest.update(name.encode())
            digest.update(bytes.fromhex(digests[name]))
    return digest.hexdigest()


def hash_model(folder: Path) -> str:
    """SHA-256 over the names and contents of the weight and config files."""
    return digest_model(file_digests(folder, ("*.safetensors", "config.json")))


def hash_folder(folder: Path) -> str:
    """SHA-256 over the names and contents of all files of a model, its tokenizer and chat template included."""
    return hashlib.sha256(json.dumps(file_digests(folder, MODEL_FILES), sort_keys=True).encode()).hexdigest()
