"""A folder that is local or a prefix of an object store, behind one small class.

On a local disk a file is written under a temporary name, flushed, renamed, and its folder flushed. On an object store
one put makes the whole object visible or nothing; there are no folders, only names with slashes.
"""

from __future__ import annotations

import copy
import hashlib
import os
import posixpath
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from rayalign.errors import RunFolderError, full_disk
from rayalign.store.conditional import conditional
from rayalign.store.object_store import explain, is_uri, open_filesystem, refuse_credentials

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import FileSystem, FileType

PIECE = 1 << 20


class Folder:
    """A folder, or a file in one. Only the location is pickled; the file system is made where it is used.

    Args:
        location: a local path, or a URI that `pyarrow.fs` or fsspec understands. Options in a URI's query
            (`s3://bucket/runs?endpoint_override=http://host:9000`) belong to the store and stay at the end.

    Raises:
        RunFolderError: the URI holds credentials.
    """

    def __init__(self, location: str | os.PathLike[str] | Folder) -> None:
        text = str(location)
        self._query = ""
        if text.startswith("file://"):
            text = urlsplit(text).path
        if is_uri(text):
            refuse_credentials(text)
            if not urlsplit(text).netloc:
                raise RunFolderError(f"run folder {text}", "the URI names no bucket", "write s3://bucket/prefix")
            text, _, self._query = text.partition("?")
            text = text.rstrip("/")
        self._base = text
        self._fence: Callable[[], object] | None = location._fence if isinstance(location, Folder) else None

    def fenced(self, check: Callable[[], object]) -> Folder:
        """The same folder for the one process that may write there. Where a file is there already, `check` is called
        before it is written over; it raises where this process no longer may. On S3 no other writer can come between.
        """
        fenced = copy.copy(self)
        fenced._fence = check
        return fenced

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_fence": None}

    def __truediv__(self, name: str) -> Folder:
        joined = copy.copy(self)
        joined._fence = self._fence
        joined._base = f"{self._base}/{name}" if not self.is_local else str(Path(self._base) / name)
        return joined

    def __str__(self) -> str:
        return f"{self._base}?{self._query}" if self._query else self._base

    def __repr__(self) -> str:
        return f"Folder({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def name(self) -> str:
        return posixpath.basename(self._base)

    @property
    def is_local(self) -> bool:
        return not is_uri(self._base)

    def local_path(self) -> Path:
        if not self.is_local:
            raise ValueError(f"{self} is on an object store and has no local path")
        return Path(self._base)

    def filesystem_and_path(self) -> tuple[FileSystem, str]:
        """What pyarrow wants: a file system, and the path in it."""
        root, _, rest = self._base.partition("://")
        if self.is_local:
            from pyarrow.fs import LocalFileSystem

            return LocalFileSystem(), str(Path(self._base).absolute())
        bucket, slash, key = rest.partition("/")
        with self.explained():
            filesystem, base = open_filesystem(f"{root}://{bucket}", self._query)
        return filesystem, f"{base}{slash}{key}"

    # -- content

    def read_bytes(self) -> bytes:
        """The whole file.

        Raises:
            FileNotFoundError: there is none.
            RunFolderError: the store cannot be used.
        """
        if self.is_local:
            return self.local_path().read_bytes()
        filesystem, path = self.filesystem_and_path()
        with self.explained(), filesystem.open_input_stream(path) as stream:
            return stream.read()

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def find_bytes(self) -> bytes | None:
        """The whole file; None where there is none."""
        try:
            return self.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def find_text(self) -> str | None:
        content = self.find_bytes()
        return None if content is None else content.decode()

    def write_bytes(self, content: bytes) -> None:
        """Write atomically and durably."""
        with self.writing() as file:
            file.write(content)

    @contextmanager
    def writing(self) -> Iterator[IO[bytes]]:
        """A binary file to write in pieces. It appears whole when the block ends, on a local disk also durably; where
        the block ends by an exception, not at all.

        Raises:
            StoreError: the disk is full.
            RunFolderError: the store cannot be used.
        """
        if self.is_local:
            with _writing_local(self.local_path()) as file:
                yield file
            return
        from pyarrow.fs import LocalFileSystem, copy_files

        filesystem, path = self.filesystem_and_path()
        # An output stream of the store would be closed by an exception too, and show what was written until then.
        with tempfile.NamedTemporaryFile(prefix="rayalign-") as file:
            yield file
            file.flush()
            if self._fence is not None and self._put_fenced(file, self._fence):
                return
            with self.explained():
                copy_files(file.name, path, source_filesystem=LocalFileSystem(), destination_filesystem=filesystem)

    def _put_fenced(self, file: IO[bytes], fence: Callable[[], object]) -> bool:
        """Put a file where there is none, or over one that nobody changes meanwhile; False where the store cannot."""
        there = conditional(self)
        if there is None:
            return False
        try:
            done = there.put(file, over=None)
            while done is None:
                tag = there.tag()
                fence()
                done = there.put(file, over=tag)
        except NotImplementedError:
            return False
        return True

    @contextmanager
    def reading(self) -> Iterator[NativeFile]:
        """A binary file to read and seek in.

        Raises:
            FileNotFoundError: there is none.
        """
        filesystem, path = self.filesystem_and_path()
        with self.explained(), filesystem.open_input_file(path) as file:
            yield file

    def sha256(self) -> str | None:
        """Digest of the whole file, read in pieces; None where there is no file."""
        digest = hashlib.sha256()
        try:
            with self.reading() as file:
                while piece := file.read(PIECE):
                    digest.update(piece)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return digest.hexdigest()

    def exists(self) -> bool:
        """Whether a file is here; on a local disk also whether a folder is."""
        if self.is_local:
            return self.local_path().exists()
        return self._type().name == "File"

    def names(self) -> list[str]:
        """What lies directly below, sorted; nothing where there is no such folder."""
        if self.is_local:
            path = self.local_path()
            return sorted(os.listdir(path)) if path.is_dir() else []
        from pyarrow.fs import FileSelector

        filesystem, path = self.filesystem_and_path()
        with self.explained():
            found = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
        return sorted({info.base_name for info in found if info.base_name})

    def files(self) -> Iterator[str]:
        """All files below, as relative paths, sorted within each folder."""
        for name in self.names():
            child = self / name
            if child.local_path().is_dir() if self.is_local else child._type().name == "Directory":
                yield from (f"{name}/{below}" for below in child.files())
            else:
                yield name

    def delete(self) -> None:
        """Remove this file, if it is there."""
        if self.is_local:
            self.local_path().unlink(missing_ok=True)
            return
        filesystem, path = self.filesystem_and_path()
        try:
            with self.explained():
                filesystem.delete_file(path)
        except FileNotFoundError:
            return

    def move(self, target: Folder) -> None:
        """Give this file another name, on an object store by way of a copy; nothing where it is not there."""
        if self.is_local:
            target.local_path().parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                self.local_path().rename(target.local_path())
            return
        if (content := self.find_bytes()) is not None:
            target.write_bytes(content)
            self.delete()

    def _type(self) -> FileType:
        filesystem, path = self.filesystem_and_path()
        with self.explained():
            return filesystem.get_file_info(path).type

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what a store's client raises into errors with a remedy; a file that is not there stays as it is."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, RunFolderError):
            raise
        except (OSError, ValueError, ImportError) as error:
            if self.is_local:
                raise
            raise explain(str(self), error) from error


@contextmanager
def _writing_local(path: Path) -> Iterator[IO[bytes]]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if full := full_disk(error, path):
            raise full from error
        raise
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
