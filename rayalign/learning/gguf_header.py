"""What the header of a GGUF file says: its metadata and its tensors, whose sizes are compared with the file's.

Layout: `GGUF`, version, counts; metadata (key, type, value); tensors (name, shape, type, offset); the tensors' bytes.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from rayalign.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
PLAIN_TYPES = ("F32", "F16", "BF16", "F64")
"""Types of tensors that hold the model's own weights, as it was trained or nearly so."""
_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _LIST = 8, 9
_LONGEST = 2**28
"""More entries than any list of a header has: a damaged count ends here, not when memory does."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    name: str
    type: str
    """ggml's name for how its numbers are stored: "F32", "Q4_1"."""
    elements: int
    start: int
    """Its first byte in the file."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    metadata: dict[str, Any]
    """Numbers, texts, and lists of them, by the file's own keys."""
    tensors: list[GgufTensor]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def of_model(self, key: str) -> Any:
        """A value whose key begins with the architecture: `of_model("context_length")`; None where it is missing."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def floats(self, file: Path, name: str) -> list[float] | None:
        """The numbers of a small tensor of type F32; None where the file has no such tensor."""
        for tensor in self.tensors:
            if tensor.name == name and tensor.type == "F32":
                with file.open("rb") as opened:
                    opened.seek(tensor.start)
                    return list(struct.unpack(f"<{tensor.elements}f", opened.read(4 * tensor.elements)))
        return None

    def quantised_types(self) -> list[str]:
        """Types of the tensors that hold fewer bits than the model had, the most frequent first."""
        counts = Counter(tensor.type for tensor in self.tensors if tensor.type not in PLAIN_TYPES)
        return [name for name, _ in counts.most_common()]


def read_header(file: Path, key: str) -> GgufHeader:
    """The header of a GGUF file.

    Args:
        key: where the config names it, for the error.

    Raises:
        ModelError: it is no GGUF file, it is damaged, or it ends before its last tensor does.
    """
    with file.open("rb") as opened:
        if opened.read(4) != MAGIC:
            raise ModelError(
                f"{key}: {file} is no GGUF file",
                "a GGUF file begins with the four letters GGUF",
                f"point {key} at a GGUF file, or at a folder in Hugging Face format",
            )
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Reader(data).header()
            except (struct.error, ValueError, ArithmeticError, LookupError, TypeError, RecursionError) as error:
                raise ModelError(
                    f"{key}: {file} cannot be read as a GGUF file: {error}",
                    "it was cut off or damaged on its way here, or it is of a version that is not known",
                    "fetch it again, and compare its size and checksum with those of its source",
                ) from error


@dataclass(frozen=True, slots=True)
class GgufSource:
    """A GGUF file that is being read."""

    file: Path
    key: str
    """Where the config names it, for errors."""
    header: GgufHeader
    alone: Path
    """A link to it in a folder of its own: transformers also reads what lies beside a file."""

    def load(self, load: Callable[..., Any], remedy: str, **options: object) -> Any:
        """What a `from_pretrained` method of transformers makes of the file.

        Raises:
            ModelError: it raised, which it does with any exception, by what is in the file.
        """
        try:
            return load(self.alone.parent, gguf_file=self.alone.name, **options)
        except Exception as error:
            why = f"transformers: {type(error).__name__}: {error}"
            raise self.refused("cannot be loaded", why, remedy) from error

    def refused(self, found: str, why: str, remedy: str) -> ModelError:
        return ModelError(f"{self.key}: {self.file}, architecture {self.header.architecture}: {found}", why, remedy)


class _Reader:
    """Goes through the bytes of a header once."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 4

    def header(self) -> GgufHeader:
        version = self.number("<I")
        if version not in VERSIONS:
            raise ValueError(f"version {version}, and versions {VERSIONS[0]} and {VERSIONS[1]} can be read")
        tensors, pairs = self.number("<Q"), self.number("<Q")
        metadata = {}
        for _ in range(pairs):
            name = self.text()
            metadata[name] = self.value(self.number("<I"))
        return GgufHeader(metadata, self.tensors(tensors, metadata.get("general.alignment", 32)))

    def tensors(self, count: int, alignment: int) -> list[GgufTensor]:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        found, ends = [], []
        for _ in range(count):
            name = self.text()
            shape = [self.number("<Q") for _ in range(self.number("<I"))]
            kind = GGMLQuantizationType(self.number("<I"))
            offset, elements = self.number("<Q"), prod(shape)
            block, size = GGML_QUANT_SIZES[kind]
            ends.append(offset + -(-elements // block) * size)
            found.append(GgufTensor(name, kind.name, elements, offset))
        begin = -(-self.at // alignment) * alignment
        if begin + max(ends, default=0) > len(self.data):
            raise ValueError(f"it has {len(self.data)} bytes, and its tensors end at byte {begin + max(ends)}")
        return [replace(tensor, start=begin + tensor.start) for tensor in found]

    def number(self, layout: str) -> Any:
        (value,) = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return value

    def text(self) -> str:
        length = self.number("<Q")
        if self.at + length > len(self.data):
            raise ValueError("it ends within its header")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _LIST:
            of, length = self.number("<I"), self.number("<Q")
            if length > _LONGEST:
                raise ValueError(f"a list of {length} entries")
            return [self.value(of) for _ in range(length)]
        if kind not in _NUMBERS:
            raise ValueError(f"a value of type {kind}")
        return self.number(_NUMBERS[kind])
