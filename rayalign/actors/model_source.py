"""The base model on every node that needs it, without a shared file system.

The driver names a folder and the checksum of every file in it. An actor on another node uses the same path if the same
files stand there, else its own copy in the cache, which it fetches from the driver's node in pieces.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import ray
from filelock import FileLock
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayalign.actors.cluster import Cluster
from rayalign.errors import ModelError
from rayalign.learning.folders import digest_model, file_digests
from rayalign.records import ADAPTER_WEIGHTS, AdapterFiles
from rayalign.store.model_files import candidates, model_files

PIECE_BYTES = 64 * 2**20
PIECE_TIMEOUT_S = 120
_found: dict[str, Path] = {}
"""What this process found, by the model's checksum."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model folder on the driver's node, as other nodes are told of it."""

    folder: str
    digests: dict[str, str]
    """SHA-256 of each file, by name; empty on the run's own Ray, which has no other node."""
    sizes: dict[str, int]
    node_id: str
    """The driver's node."""

    @classmethod
    def of(cls, folder: Path, cluster: Cluster) -> ModelSource:
        digests = file_digests(model_files(folder)) if cluster.shared else {}
        sizes = {name: (folder / name).stat().st_size for name in digests}
        return cls(str(folder), digests, sizes, ray.get_runtime_context().get_node_id())


def local_folder(source: ModelSource) -> Path:
    """A folder of this node with exactly the source's files.

    Raises:
        ModelError: a fetched file is not what the driver has.
    """
    folder = Path(source.folder)
    if ray.get_runtime_context().get_node_id() == source.node_id:
        return folder
    key = digest_model(source.digests)
    # A task asks for every shard, and the answer takes hashing the whole model.
    if key not in _found:
        _found[key] = folder if _same(folder, source) else _cached(source, key[:16])
    return _found[key]


def _cached(source: ModelSource, name: str) -> Path:
    cached = _cache() / name
    cached.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{cached}.lock"):
        if not _same(cached, source):
            _fetch(source, cached)
    return cached


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "rayalign" / "models"


def _same(folder: Path, source: ModelSource) -> bool:
    """Whether a folder has the source's files and no others that a loader could take for the model."""
    return folder.is_dir() and file_digests(candidates(folder)) == source.digests


def _fetch(source: ModelSource, target: Path) -> None:
    """Copy all files into a folder beside `target`, check them, and rename it."""
    there = NodeAffinitySchedulingStrategy(source.node_id, soft=False)
    read = ray.remote(_read_piece).options(num_cpus=0, scheduling_strategy=there, max_retries=3)
    half = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    try:
        for name, size in source.sizes.items():
            digest = hashlib.sha256()
            with (half / name).open("wb") as file:
                for start in range(0, size, PIECE_BYTES):
                    path = os.path.join(source.folder, name)
                    piece = ray.get(read.remote(path, start), timeout=PIECE_TIMEOUT_S)
                    digest.update(piece)
                    file.write(piece)
            if digest.hexdigest() != source.digests[name]:
                raise ModelError(
                    f"{name} of {source.folder} arrived with another checksum on this node",
                    "the folder changed while the run started",
                    "leave it alone and start again",
                )
        shutil.rmtree(target, ignore_errors=True)
        half.rename(target)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _read_piece(path: str, start: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(PIECE_BYTES)


def write_adapter(folder: Path, files: AdapterFiles) -> str:
    """Write the files and return the checksum of the weights as read back from the disk."""
    folder.mkdir(parents=True)
    for name, content in files.files.items():
        (folder / name).write_bytes(content)
    return hashlib.sha256((folder / ADAPTER_WEIGHTS).read_bytes()).hexdigest()
