"""Which files a Hugging Face model folder consists of: weights that its index names, or `model.safetensors`, no others.

Whatever else lies in the folder (`consolidated.safetensors`, an adapter, shards of an earlier save) is not the model.
Loaders disagree about it: transformers adds the adapter, vLLM reads all `*.safetensors` or only the consolidated one.
So where there is any, everything reads a folder of links to the model's own files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from rayalign.errors import ModelError
from rayalign.records import JsonObject
from rayalign.store.cache import cache_folder, made_once

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What a model folder consists of; nothing else of a hub repository is downloaded or sent to other nodes."""
ELSEWHERE = ("consolidated*", "original/*")
"""What matches these on the hub is the same model in its maker's own format."""
SINGLE, INDEX, CONFIG, ADAPTER_CONFIG = (
    "model.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "adapter_config.json",
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state", "adapter_model")
"""How the names of files begin that a training leaves and that are no model."""
OTHER_FORMATS = ("*.gguf", "*.h5", "*.msgpack", "*.onnx")
LFS = b"version https://git-lfs"
LINKS_LEFT_OUT = ".left_out"
"""File of a folder of links that names what it leaves out."""


def read_config(folder: Path, key: str) -> JsonObject:
    """The folder's `config.json`.

    Raises:
        ModelError: it is missing or no JSON object.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError(f"{key}: {folder} has no config.json", *_no_model(folder, key))
    found = _json(path, key)
    if not isinstance(found, dict):
        raise ModelError(f"{key}: {path} is no JSON object", "it describes no model", "fetch the model again")
    return found


def _json(path: Path, key: str) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        check_fetched([path], key)
        raise ModelError(f"{key}: {path} is not JSON", str(error), "fetch the model again") from None


def _no_model(folder: Path, key: str) -> tuple[str, str]:
    """(why, remedy) of a folder without a model's config or weights, by what it holds instead."""
    if (folder / ADAPTER_CONFIG).is_file():
        found = _json(folder / ADAPTER_CONFIG, key)
        base = found.get("base_model_name_or_path") if isinstance(found, dict) else None
        return (
            f"it is a PEFT adapter of {base or 'a base that it does not name'}",
            f"name {'that base' if base else 'its base'}, or merge the adapter into it and name the result",
        )
    if found := _matching(folder, OTHER_FORMATS):
        return f"it holds {found}, another format", f"point {key} at a Hugging Face folder with safetensors weights"
    if found := _matching(folder, ("consolidated*", "params.json")):
        return f"it holds {found}: its maker's own format", "name the model in Hugging Face format"
    inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
    more = f", such as {folder / inside[0]}" if inside else ""
    return "it is not a Hugging Face model folder", f"point {key} at the folder that holds config.json{more}"


def _matching(folder: Path, patterns: tuple[str, ...]) -> str | None:
    names = (path.name for pattern in patterns for path in sorted(folder.glob(pattern)))
    return next((name for name in names if not name.startswith(NO_WEIGHTS)), None)


def check_fetched(paths: Sequence[Path], key: str) -> None:
    """Refuse what git has not fetched yet: a few lines that stand for the file.

    Raises:
        ModelError: a file is such a pointer.
    """
    for path in paths:
        with path.open("rb") as file:
            if file.read(len(LFS)) == LFS:
                raise ModelError(
                    f"{key}: {path} is a pointer of git-lfs",
                    "the file itself has not been fetched",
                    "run `git lfs pull` in that folder, or fetch the model by its hub id",
                )


def weight_files(folder: Path, key: str) -> list[Path]:
    """The files that hold the model's weights: those of the index, or `model.safetensors`.

    Raises:
        ModelError: there are none, or the index names one that is not there.
    """
    named = _indexed(folder, key) if (folder / INDEX).is_file() else [SINGLE]
    missing = [name for name in named if not (folder / name).is_file()]
    if missing and named == [SINGLE]:
        raise ModelError(f"{key}: {folder} has no {SINGLE}", *_no_weights(folder, key))
    if missing:
        whole = f", or remove the index if {SINGLE} is the model" if (folder / SINGLE).is_file() else ""
        raise ModelError(
            f"{key}: {folder} lacks {', '.join(missing[:3])}{' ...' if missing[3:] else ''}",
            f"its {INDEX} names {len(named)} files, {len(missing)} of which are not there",
            f"fetch the model again{whole}",
        )
    return [folder / name for name in named]


def _indexed(folder: Path, key: str) -> list[str]:
    index = _json(folder / INDEX, key)
    named = index.get("weight_map") if isinstance(index, dict) else None
    files = sorted(set(named.values())) if isinstance(named, dict) and all(map(_is_name, named.values())) else []
    if not files:
        raise ModelError(
            f"{key}: {folder / INDEX} is no index of weights",
            "its weight_map must give a *.safetensors file of the same folder for each weight",
            "fetch the model again, or save it again with save_pretrained",
        )
    return files


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.endswith(".safetensors") and Path(value).name == value


def _no_weights(folder: Path, key: str) -> tuple[str, str]:
    """(why, remedy) of a folder with a config and no weights that can be read."""
    if (folder / ADAPTER_CONFIG).is_file():
        return _no_model(folder, key)
    if found := _matching(folder, PICKLES):
        return (
            f"its weights are pickled ({found}): reading them may run code, and a run reads safetensors only",
            "convert it once: AutoModelForCausalLM.from_pretrained(IT).save_pretrained(NEW), and its tokenizer too",
        )
    if found := _matching(folder, ("*.safetensors",)):
        return f"{found} is not named by an index", f"rename it to {SINGLE} if it is the whole model"
    if _matching(folder, OTHER_FORMATS):
        return _no_model(folder, key)
    return (
        "it holds no weights in safetensors format",
        "fetch the model again; if its makers give pickled weights only, convert them with save_pretrained",
    )


def model_files(folder: Path) -> list[Path]:
    """The files of a model, sorted by name; where none is named as its weights, all that could be."""
    beside = _beside(folder)
    return [path for path in candidates(folder) if path.name not in beside]


def candidates(folder: Path) -> list[Path]:
    """All files of a folder that could be a model's, sorted by name."""
    return sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})


def _beside(folder: Path) -> set[str]:
    """Names of files that are not the model and that a loader could take for it."""
    try:
        named = {path.name for path in weight_files(folder, "")}
    except ModelError:
        return set()
    names = {path.name for path in candidates(folder)}
    foreign = {name for name in names if name.endswith(".safetensors") and name not in named}
    foreign |= {name for name in names if name.endswith(".safetensors.index.json") and name != INDEX}
    foreign |= names & {ADAPTER_CONFIG}
    return foreign | (names & {"params.json"} if any(name.startswith("consolidated") for name in foreign) else set())


def without_others(folder: Path, key: str) -> Path:
    """The folder itself if it holds nothing but a model, else one of links to the model's files, made once.

    Raises:
        ModelError: the links cannot be made.
    """
    beside = _beside(folder)
    if not beside:
        return folder
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in candidates(folder)]
    digest = hashlib.sha256(json.dumps([str(folder), facts]).encode()).hexdigest()[:16]

    def link(scratch: Path) -> None:
        links = scratch / "model"
        links.mkdir()
        for path in [*model_files(folder), *(path for path in folder.iterdir() if _is_module(path))]:
            (links / path.name).symlink_to(path.absolute())
        (links / LINKS_LEFT_OUT).write_text(json.dumps(sorted(beside)))

    try:
        return made_once(cache_folder() / "linked" / f"{folder.name}-{digest}", link)
    except ModelError as error:
        raise ModelError(
            f"{key}: {folder} holds {sorted(beside)[0]} beside the model, and no folder of links can be made",
            error.found,
            f"move {', '.join(sorted(beside))} away, or {error.remedy}",
        ) from error


def _is_module(path: Path) -> bool:
    """Whether a folder is a module of sentence-transformers: 1_Pooling, 2_Normalize, ..."""
    return path.is_dir() and re.fullmatch(r"\d+_\w+", path.name) is not None


def left_out(folder: Path) -> list[str]:
    """What a folder of links leaves out; nothing of any other folder."""
    path = folder / LINKS_LEFT_OUT
    return json.loads(path.read_text()) if path.is_file() else []
