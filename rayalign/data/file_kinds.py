"""What a file holds by its first bytes, whatever it is called: others are refused by name, UTF-16 is read. Pure."""

from __future__ import annotations

import codecs
import io
from typing import BinaryIO

from rayalign.errors import DataError

HEAD = 64
"""Bytes that tell the kind."""
_POINTER = "the data itself was not fetched, only a pointer to it"
_KINDS: dict[bytes, tuple[str, str, str]] = {
    b"version https://git-lfs": ("a pointer of git-lfs", _POINTER, "fetch it: git lfs pull"),
    b"/annex/objects/": ("a pointer of git-annex", _POINTER, "fetch it: git annex get"),
    b"<!doctype": ("a page of HTML", "a page was saved in place of the data", "download the file itself"),
    b"<html": ("a page of HTML", "a page was saved in place of the data", "download the file itself"),
    b"\x1f\x8b": ("packed by gzip", "its name does not say so", "let its name end with .gz"),
    b"\x28\xb5\x2f\xfd": ("packed by zstandard", "it cannot be unpacked here", "unpack it: unzstd"),
    b"BZh": ("packed by bzip2", "it cannot be unpacked here", "unpack it: bunzip2"),
    b"\xfd7zXZ": ("packed by xz", "it cannot be unpacked here", "unpack it: unxz"),
    b"PK\x03\x04": ("a ZIP archive (as Excel's files are)", "it cannot be read here", "unpack it, or save it as CSV"),
    b"PAR1": ("Parquet", "its name does not say so", "let its name end with .parquet"),
    b"ARROW1": ("Arrow", "it cannot be read here", "write it as Parquet or JSONL"),
    b"SQLite format 3": ("a SQLite database", "it cannot be read here", "write its table as JSONL or CSV"),
}
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def refuse_other_kinds(head: bytes, path: str, suffix: str) -> None:
    """Raise where a file is not of the kind that its suffix says.

    Raises:
        DataError: it is a pointer to data elsewhere, a web page, packed, or of another kind.
    """
    start = head.lstrip().lower()
    for mark, (kind, why, remedy) in _KINDS.items():
        if (head.startswith(mark) or start.startswith(mark)) and not (mark == b"PAR1" and suffix == ".parquet"):
            raise DataError(f"{path}: {kind}, and no {suffix.removeprefix('.') or 'data'} file", why, remedy)


def as_text(content: bytes) -> str:
    """A small text in the encoding that the mark at its head says, else UTF-8."""
    encoding = next((name for mark, name in _ENCODINGS if content.startswith(mark)), "utf-8-sig")
    return content.decode(encoding, "replace")


def as_utf8(stream: BinaryIO, head: bytes, path: str) -> BinaryIO:
    """The stream itself, or where its first bytes say that it is UTF-16 (Excel, PowerShell) the same text as UTF-8."""
    encoding = next((name for mark, name in _ENCODINGS if head.startswith(mark)), None)
    if encoding is None and len(head) >= 4 and head.count(0) >= len(head) // 3:
        # Without a mark, ASCII tells the order of the bytes.
        encoding = "utf-16-le" if head[1] == 0 and head[0] else "utf-16-be" if head[0] == 0 and head[1] else None
    return stream if encoding is None else io.BufferedReader(_Recoded(stream, encoding, path))


class _Recoded(io.RawIOBase):
    def __init__(self, stream: BinaryIO, encoding: str, path: str) -> None:
        self._stream, self._path, self._encoding = stream, path, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            while not self._ready and (raw := self._stream.read(1 << 16)):
                self._ready = self._decoder.decode(raw).encode("utf-8", "surrogatepass")
            if not self._ready:
                self._decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            why = f"{error.reason}; its first bytes say that it is {self._encoding.upper()}"
            raise DataError(
                f"{self._path}: not a whole {self._encoding.upper()} text", why, "save it as UTF-8"
            ) from None
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count
