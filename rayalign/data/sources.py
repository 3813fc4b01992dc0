"""Where datasets come from: files, folders, object stores and the hub, read row by row.

prefs.jsonl  prefs.json  prefs.csv  prefs.tsv  prefs.parquet      all but the last also with .gz
prompts.txt                                            one prompt a line
prefs/                                                 all such files in it and below, in order of their names
prefs/config:test                                      one split of a folder as the hub has it (`data/splits.py`)
s3://bucket/prefs.parquet  gs://bucket/prefs/          any URI of pyarrow.fs or of an installed fsspec package
owner/name@revision:split  hub:owner/name/config       a dataset of the Hugging Face hub; split train if none is named
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from rayalign.data.file_kinds import HEAD, as_text, as_utf8, refuse_other_kinds
from rayalign.data.json_rows import IsRow, json_rows, jsonl_rows
from rayalign.data.splits import choose, configs_in
from rayalign.data.table_rows import BATCH_ROWS, batch_rows, csv_rows, parquet_rows
from rayalign.data.text_rows import text_rows
from rayalign.errors import DataError, RunFolderError
from rayalign.store.files import expanded
from rayalign.store.folder import Folder
from rayalign.store.object_store import is_uri

if TYPE_CHECKING:
    from pyarrow import NativeFile

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
TEXT = ".txt"
"""Read where a file of this kind is named; in a folder it may be anything."""
NOT_ROWS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""Files that the `datasets` library puts beside the data."""
_HUB = re.compile(
    r"(?P<marked>hub:)?(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<config>[\w.-]+))?(?:@(?P<revision>[^:]+))?(?::(?P<split>\S+))?"
)


class SourceRow(NamedTuple):
    file: str
    place: str
    """Where the row stands in the file: "line 7", "row 3"."""
    record: object
    """What stands there, or a `BadRow` where that cannot be read."""

    @property
    def name(self) -> str:
        return f"{self.file}, {self.place}"


def open_source(source: str, is_row: IsRow) -> Iterator[SourceRow]:
    """The rows of a source, one after the other.

    Args:
        source: a file, a folder, a URI, or a hub id (see the module).
        is_row: whether an object that is a whole JSON file is one row (see `json_rows.IsRow`).

    Raises:
        DataError: there is no such source, it cannot be read, or it holds no data files.
    """
    hub = None if is_uri(source) else _hub(source)
    if hub is not None:
        yield from _hub_rows(source, hub)
        return
    for file in source_files(source):
        yield from file_rows(file, is_row)


def source_units(source: str) -> list[str]:
    """What of a source can be read apart: its files, or a hub id as a whole."""
    return [source] if not is_uri(source) and _hub(source) is not None else source_files(source)


def _folder_parts(source: str) -> tuple[str, str | None, str | None]:
    """A folder, and the config and the split that are named behind it: DIR/config:split."""
    match = re.fullmatch(r"([^?]*[^?/:]):([\w.-]+)", source)
    if not match or expanded(source).exists():
        place, split = source, None
    else:
        place, split = match[1], match[2]
    path = expanded(place)
    if is_uri(source):
        return place, None, split
    if not path.exists() and not _known(path.name) and configs_in(_readme(Folder(path.parent))):
        return str(path.parent), path.name, split
    return (place, None, split) if path.is_dir() else (source, None, None)


def _readme(folder: Folder) -> str:
    return as_text((folder / "README.md").find_bytes() or b"")


def _is_there(source: str) -> bool:
    return expanded(_folder_parts(source)[0]).exists()


def locate(source: str, beside: Path) -> str:
    """The source itself; one that is no URI and not in the working directory is looked up in `beside`."""
    path = expanded(source)
    if is_uri(source) or _is_there(source):
        return source
    there = str(beside / path)
    return there if _is_there(there) else source


def source_files(source: str) -> list[str]:
    """The files of a source that is not on the hub: of a folder as the hub has it, those of one split.

    Raises:
        DataError: a folder without data files or in which the split cannot be told, or a store that fails.
    """
    return _chosen_files(source)[0]


def split_note(source: str) -> str:
    """What is said of a folder of which only one split is read; else empty."""
    if not is_uri(source) and _hub(source) is not None:
        return ""
    files, there = _chosen_files(source)
    if len(files) == there:
        return ""
    first = f", {Folder(files[0]).name} first"
    return f"; one split of the folder is read, {len(files)} of {there} files{first} (another: DIR:SPLIT)"


def _chosen_files(source: str) -> tuple[list[str], int]:
    """The files that are read, and how many are there."""
    with _explained(source):
        place, config, split = _folder_parts(source)
        folder = Folder(expanded(place) if not is_uri(place) else place)
        if folder.is_local and not folder.local_path().is_dir():
            folder.local_path().stat()  # what is not there is named as the user typed it
            return [str(folder)], 1
        if not folder.is_local and _known(folder.name):
            return [str(folder)], 1
        names = sorted(name for name in folder.files() if _suffix(name) in SUFFIXES and not _beside(name))
        if not names and not folder.is_local and folder.exists():
            return [str(folder)], 1
        if not names:
            found = f"{source}: no file in it ends with {', '.join(SUFFIXES)}"
            raise DataError(found, "there is nothing to read", "give a data file, or the folder that holds some")
        chosen = choose(names, _readme(folder), config, split, source)
        return [str(folder / name) for name in chosen], len(names)


def file_rows(file: str, is_row: IsRow) -> Iterator[SourceRow]:
    """The rows of one file, local or on an object store.

    Raises:
        DataError: it cannot be read.
    """
    suffix = _suffix(Folder(file).name)
    with _explained(file), (_parquet if suffix == ".parquet" else _stream)(Folder(file)) as stream:
        head = _head(stream)
        refuse_other_kinds(head, file, suffix)
        yield from (SourceRow(file, place, row) for place, row in _rows(stream, head, file, suffix, is_row))


def _rows(
    stream: BinaryIO | NativeFile, head: bytes, file: str, suffix: str, is_row: IsRow
) -> Iterator[tuple[str, object]]:
    if suffix == ".parquet":
        return parquet_rows(stream, file)
    text = as_utf8(stream, head, file)  # type: ignore[arg-type]
    if suffix in (".jsonl", ".ndjson"):
        return jsonl_rows(text, file, is_row)
    if suffix in (".csv", ".tsv"):
        return csv_rows(text, file, "\t" if suffix == ".tsv" else ",")
    return text_rows(text, file) if suffix == TEXT else json_rows(text, file, is_row)


def _head(stream: BinaryIO | NativeFile) -> bytes:
    """The first bytes, which are read again."""
    if hasattr(stream, "peek"):
        return stream.peek(HEAD)[:HEAD]  # type: ignore[union-attr]
    head = stream.read(HEAD)
    stream.seek(0)
    return head


def _suffix(name: str) -> str:
    return Path(name.removesuffix(".gz")).suffix.lower()


def _known(name: str) -> bool:
    return _suffix(name) in (*SUFFIXES, TEXT)


def _beside(name: str) -> bool:
    parts = Path(name).parts
    return parts[-1] in NOT_ROWS or any(part.startswith((".", "_")) for part in parts)


@contextmanager
def _stream(file: Folder) -> Iterator[BinaryIO]:
    if file.is_local:
        opened = file.local_path().open("rb")
    else:
        filesystem, path = file.filesystem_and_path()
        with file.explained():
            opened = io.BufferedReader(filesystem.open_input_stream(path, compression=None))
    with opened:
        if file.name.endswith(".gz"):
            with gzip.open(opened) as unpacked:
                yield unpacked  # type: ignore[misc]
        else:
            yield opened


@contextmanager
def _parquet(file: Folder) -> Iterator[BinaryIO | NativeFile]:
    if file.is_local:
        with file.local_path().open("rb") as opened:
            yield opened
    else:
        filesystem, path = file.filesystem_and_path()
        with file.explained(), filesystem.open_input_file(path) as opened:
            yield opened


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """What file systems raise, as errors with a remedy."""
    try:
        yield
    except RunFolderError as error:
        found = error.found.removeprefix("run folder ")
        remedy = "check the URI, the network and the store's credentials (AWS_ACCESS_KEY_ID, or the instance role)"
        raise DataError(found, error.why, remedy) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        why = "its name says that it is packed by gzip, and it is not, or not whole"
        raise DataError(f"cannot read {source!r}: {error}", why, "copy or pack it again, or mend its name") from None
    except FileNotFoundError as error:
        why = "it is looked up in the working directory, and what a config names then beside the config"
        raise DataError(f"cannot read {source!r}: {error.strerror}", why, "check the name of the source") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"cannot read {source!r}: {reason}", remedy="check the name of the source") from None


def _hub(source: str) -> dict[str, str | None] | None:
    """The parts of a hub id; None for anything else."""
    match = _HUB.fullmatch(source)
    if match is None:
        return None
    parts = match.groupdict()
    name, config = str(parts["name"]), parts["config"]
    in_folder = config is not None and expanded(name).is_dir()
    local = parts["marked"] is None and (in_folder or _is_there(source) or _known(config or name))
    return None if local else parts


def _hub_rows(source: str, parts: dict[str, str | None]) -> Iterator[SourceRow]:
    import datasets

    name, split = str(parts["name"]), parts["split"] or "train"
    try:
        rows = datasets.load_dataset(name, parts["config"], revision=parts["revision"], split=split)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise DataError(
            f"{source}: {name} (split {split}) cannot be had from the hub",
            f"there is no such file or folder, and as a hub id it failed: {type(error).__name__}: {lines[0]}",
            "check the id, revision and split; without a network, copy the dataset where there is one "
            f"(`hf download --repo-type dataset {name} --local-dir DIR`) and give DIR, or set HF_HOME to a cache that "
            "holds it",
        ) from error
    # As Arrow's tables: nothing is decoded (images), and what cannot be read is one bad row, as in a file.
    batches = rows.with_format("arrow").iter(batch_size=BATCH_ROWS)
    records = (record for batch in batches for record in batch_rows(batch))
    for number, record in enumerate(records, 1):
        yield SourceRow(source.removeprefix("hub:"), f"row {number}", record)
