"""Folders: the same behaviour on a local disk and on an object store, and what is said when the store fails."""

from __future__ import annotations

import http.server
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayalign.errors import RunFolderError, StoreError
from rayalign.store.folder import Folder
from rayalign.store.object_store import is_uri
from tests.object_store import ObjectStore, s3_uri
from tests.processes import free_port


def test_what_is_written_is_read(folder: Folder) -> None:
    file = folder / "a" / "b.txt"
    assert (file.exists(), file.find_bytes(), file.find_text()) == (False, None, None)
    with pytest.raises(FileNotFoundError):
        file.read_bytes()
    file.write_bytes("größer".encode())
    file.write_bytes("größe".encode())
    assert file.exists()
    assert file.read_text() == file.find_text() == "größe"
    assert file.name == "b.txt"


def test_a_file_whose_writing_breaks_off_is_not_there(folder: Folder) -> None:
    file = folder / "a.json"
    for before in (None, b"whole"):
        if before:
            file.write_bytes(before)
        with pytest.raises(KeyboardInterrupt), file.writing() as stream:
            stream.write(b"{" * 3_000_000)
            raise KeyboardInterrupt
        assert file.find_bytes() == before
    assert folder.names() == ["a.json"]


def test_names_and_files(folder: Folder) -> None:
    for name in ("b/2.txt", "b/1.txt", "a.txt", "b/c/d.txt"):
        (folder / name).write_bytes(b"x")
    assert folder.names() == ["a.txt", "b"]
    assert (folder / "b").names() == ["1.txt", "2.txt", "c"]
    assert sorted(folder.files()) == ["a.txt", "b/1.txt", "b/2.txt", "b/c/d.txt"]
    assert (folder / "nothing").names() == []


def test_delete(folder: Folder) -> None:
    (folder / "x").write_bytes(b"")
    for _ in range(2):
        (folder / "x").delete()
        assert not (folder / "x").exists()


def test_pickled_by_location(folder: Folder) -> None:
    (folder / "x").write_bytes(b"1")
    copy = pickle.loads(pickle.dumps(folder))
    assert copy == folder
    assert hash(copy) == hash(folder)
    assert (copy / "x").read_bytes() == b"1"


def test_pyarrow_reads_it(folder: Folder) -> None:
    (folder / "x" / "y").write_bytes(b"123")
    filesystem, path = folder.filesystem_and_path()
    assert filesystem.open_input_stream(f"{path}/x/y").read() == b"123"
    assert pickle.loads(pickle.dumps(filesystem)).get_file_info(f"{path}/x/y").size == 3


def test_what_a_location_is() -> None:
    remote = Folder("s3://bucket/runs/?region=x") / "name"
    assert str(remote) == "s3://bucket/runs/name?region=x"
    assert not remote.is_local
    with pytest.raises(ValueError, match="no local path"):
        remote.local_path()
    assert Folder("file:///tmp/x").local_path() == Path("/tmp/x")
    assert (Folder("runs") / "x").local_path() == Path("runs/x")
    assert not is_uri("C:/x") and not is_uri("runs/a:b") and is_uri("gs://b")


def test_fsspec_takes_what_pyarrow_does_not_know() -> None:
    folder = Folder("memory://place/runs")
    (folder / "a" / "b").write_bytes(b"x")
    assert (folder / "a" / "b").read_bytes() == b"x"
    assert folder.names() == ["a"]


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAEXAMPLE:hidden-word@bucket/runs",
        "s3://hidden-word@bucket/runs",
        "gs://user:hidden-word@bucket/runs",
        "s3://bucket/runs?secret_key=hidden-word",
        "abfs://container/runs?account_key=hidden-word",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(RunFolderError, match="credentials") as caught:
        Folder(uri)
    assert "hidden-word" not in str(caught.value)
    assert "environment variables" in caught.value.remedy


@pytest.mark.parametrize("uri", ["s3://", "s3:///runs", "gs://?region=x"])
def test_a_uri_without_a_bucket(uri: str) -> None:
    with pytest.raises(RunFolderError, match="no bucket"):
        Folder(uri)


@pytest.mark.parametrize("uri", ["nonsense://bucket/runs", "s3://bucket/runs?colour=red&region=x"])
def test_what_no_file_system_understands(uri: str) -> None:
    with pytest.raises(RunFolderError) as caught:
        (Folder(uri) / "x").read_bytes()
    assert caught.value.exit_code == 2
    assert caught.value.why and caught.value.remedy


def test_no_such_bucket(object_store: ObjectStore) -> None:
    with pytest.raises(RunFolderError, match="no such bucket") as caught:
        (Folder(object_store.uri("runs", bucket="absent")) / "x").write_bytes(b"1")
    assert caught.value.exit_code == 2


def test_store_that_cannot_be_reached(object_store: ObjectStore) -> None:
    """Nothing listens on the port: said within 15 s, and resumable, for the network may come back."""
    file = Folder(s3_uri("bucket/runs", free_port())) / "x"
    started = time.monotonic()
    for action in (file.read_bytes, file.exists, lambda: file.write_bytes(b"1")):
        with pytest.raises(StoreError, match="cannot be reached") as caught:
            action()
        assert caught.value.exit_code == 3
    assert time.monotonic() - started < 15


def test_endpoint_from_the_environment(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{object_store.port}/")
    object_store.make_bucket("elsewhere")
    (Folder("s3://elsewhere/runs") / "x").write_bytes(b"1")
    assert Folder("s3://elsewhere/runs").names() == ["x"]


@pytest.fixture
def closed_store() -> Iterator[int]:
    """Port of a store that answers 403 to everything."""

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_missing_permission(closed_store: int, object_store: ObjectStore) -> None:
    folder = Folder(s3_uri("bucket/runs", closed_store))
    file = folder / "x"
    for action in (file.read_bytes, file.exists, folder.names, file.delete, lambda: file.write_bytes(b"1")):
        with pytest.raises(RunFolderError, match="credentials") as caught:
            action()
        assert caught.value.exit_code == 2
        assert "AWS_ACCESS_KEY_ID" in caught.value.remedy
