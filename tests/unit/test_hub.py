"""Pushing an export with the real client to a hub on this machine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from rayalign import cli
from rayalign.commands.hub import push
from rayalign.errors import ExportError
from rayalign.records import ADAPTER_WEIGHTS
from tests.hub_server import Hub
from tests.processes import free_port
from tests.tiny_run import make_base, make_saved_run

# The client's own way to send a file, which its HTTP library calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
TOKEN = "hf_secretsecretsecret"


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user of HF_TOKEN; the server speaks LFS, not Xet."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub(TOKEN) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ADAPTER_WEIGHTS).write_bytes(b"weights" * 100)
    (tmp_path / "README.md").write_text("---\nlibrary_name: peft\n---\n")
    return tmp_path


def push_it(folder: Path, *, update: bool = False, public: bool = False, hub_id: str = "me/tiny") -> str:
    return push(folder, hub_id, "round 1", update=update, public=public)


def test_every_file_arrives(hub: Hub, folder: Path) -> None:
    assert push_it(folder) == f"{hub.url}/me/tiny"
    assert hub.repos["me/tiny"] == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert hub.private == {"me/tiny": True}
    assert len(hub.uploads) == 1
    push_it(folder, public=True, hub_id="me/open")
    assert hub.private["me/open"] is False


def test_repository_that_exists_is_updated_only_when_asked(hub: Hub, folder: Path) -> None:
    push_it(folder)
    (folder / "README.md").write_text("---\nlibrary_name: peft\n---\nmore\n")
    with pytest.raises(ExportError, match=r"such a repository already(.|\n)*--update"):
        push_it(folder)
    assert b"more" not in hub.repos["me/tiny"]["README.md"]
    push_it(folder, update=True)
    assert b"more" in hub.repos["me/tiny"]["README.md"]


def test_refused(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrong")
    with pytest.raises(ExportError, match=r"refused \(401\)(.|\n)*Invalid username(.|\n)*set HF_TOKEN") as caught:
        push_it(folder)
    assert "hf_wrong" not in str(caught.value)
    with pytest.raises(ExportError, match="not a hub id"):
        push_it(folder, hub_id="a/b/c")


def test_upload_that_fails_half_way(hub: Hub, folder: Path) -> None:
    hub.refuse["/api/models/me/tiny/commit/main"] = 500
    with pytest.raises(ExportError, match=r"the hub answers 500(.|\n)*stays in(.|\n)*--update"):
        push_it(folder)
    hub.refuse.clear()
    push_it(folder, update=True)
    assert set(hub.repos["me/tiny"]) == {path.name for path in folder.iterdir()}


def test_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(ExportError, match=rf"cannot reach http://127\.0\.0\.1:{port}(.|\n)*stays in(.|\n)*HF_ENDPOINT"):
        push_it(folder)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ExportError, match="cannot reach"):
        push_it(folder)


def test_export_with_push_from_the_command_line(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder as base is no model id, so the card on the hub has no such field; the token is nowhere."""
    run = make_saved_run(tmp_path / "tiny", make_base(tmp_path / "base"))
    command = ["export", str(run.root), "--to", str(tmp_path / "a"), "--push", "me/tiny"]
    assert cli.exit_code(command) == 0
    captured = capsys.readouterr()
    assert f"pushed: {hub.url}/me/tiny" in captured.out
    committed = hub.repos["me/tiny"]
    kept = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert {name for name in kept if committed[name] != kept[name]} == {"adapter_config.json", "export.json"}
    assert committed.keys() == kept.keys()
    assert not any(str(tmp_path).encode() in content for content in committed.values())
    assert b"\nbase_model" not in committed["README.md"] and b"PeftModel.from_pretrained(base, 'me/tiny')" in \
        committed["README.md"]  # fmt: skip
    assert cli.exit_code(command) == 2
    assert cli.exit_code([*command, "--update"]) == 0
    captured_again = capsys.readouterr()
    everything = captured.out + captured.err + captured_again.out + captured_again.err
    assert TOKEN not in everything and not any(TOKEN.encode() in content for content in committed.values())
    assert cli.exit_code(["export", str(run.root), "--to", str(tmp_path / "b"), "--public"]) == 2


def test_a_pushed_adapter_is_loaded_where_its_base_is(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By plain PEFT, and by `chat`, which asks for the base; the export that stays here still knows it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = make_base(tmp_path / "base")
    run = make_saved_run(tmp_path / "tiny", base)
    assert cli.exit_code(["export", str(run.root), "--to", str(tmp_path / "a"), "--push", "me/tiny"]) == 0
    there = tmp_path / "there"
    there.mkdir()
    for name, content in hub.repos["me/tiny"].items():
        (there / name).write_bytes(content)
    assert PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(there)).peft_config
    capsys.readouterr()
    answers = []
    for folder, options in ((tmp_path / "a", []), (there, ["--base", str(base)])):
        monkeypatch.setattr("sys.stdin", io.StringIO("w1 w2\n"))
        assert cli.exit_code(["chat", str(folder), "--temperature", "0", *options]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] != ""
    assert cli.exit_code(["chat", str(there)]) == 2
    error = capsys.readouterr().err
    assert "names no base model" in error and "--base" in error
