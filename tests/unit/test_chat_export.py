"""`rayalign chat` on an export: it answers as the run does, and never as the base."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from rayalign import cli
from rayalign.commands.chat import chat
from rayalign.commands.export import export
from rayalign.errors import ModelError, RayalignError, RunFolderError
from rayalign.records import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from rayalign.store.run_dir import RunDir
from tests.tiny_run import make_base, make_saved_run

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def saved(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    sampling = {"responses": 2, "max_tokens": 5}
    return make_saved_run(tmp_path_factory.mktemp("runs") / "tiny", base, sampling=sampling)


@pytest.fixture(scope="module")
def adapter(saved: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(str(saved.root), tmp_path_factory.mktemp("exports") / "a", say=lambda text: None)


def talk(place: Path | str, **options: Any) -> tuple[list[str], str]:
    """(answers to two turns, what was said beside them)."""
    said: list[str] = []
    out = io.StringIO()
    settings = {"round_index": None, "base": None, "temperature": 0.0, "max_tokens": None, **options}
    chat(str(place), **settings, source=io.StringIO("w1 w2\nw3\n"), out=out, say=said.append)
    return out.getvalue().splitlines(), "\n".join(said)


def test_an_adapter_answers_as_its_round(saved: RunDir, adapter: Path, base: Path) -> None:
    """With the run's settings of sampling, which the export knows."""
    answers, said = talk(adapter)
    assert answers == talk(saved.root)[0] != talk(saved.root, round_index=0)[0]
    assert f"tiny, round 1: adapter of checksum {saved.round(1).commit_facts()['adapter_sha256']}" in said  # type: ignore
    assert f"exported to {adapter}\nbase model: {base}" in said and said.endswith("(cut at --max-tokens)")
    assert all(len(answer.split()) <= 5 for answer in answers)
    assert talk(adapter, round_index=1)[0] == answers


@pytest.mark.parametrize("full", [False, True], ids=["merged", "full"])
def test_a_whole_model_answers_as_its_round(full: bool, base: Path, tmp_path: Path) -> None:
    model = {"base": str(base), "full": True} if full else {"base": str(base), "lora": {"r": 8, "alpha": 16}}
    run = make_saved_run(tmp_path / "runs" / "tiny", base, model=model)
    export(str(run.root), tmp_path / "m", merge=True, say=lambda text: None)
    assert talk(tmp_path / "m")[0] == talk(run.root)[0] != talk(run.root, round_index=0)[0]
    with pytest.raises(ModelError, match="nothing is added to a base"):
        talk(tmp_path / "m", base=str(base))


@pytest.mark.parametrize("template", ["zephyr", "none"])
def test_the_template_is_the_runs(template: str, base: Path, tmp_path: Path) -> None:
    run = make_saved_run(tmp_path / "runs" / "tiny", base, prompts={"source": "demo", "template": template})
    for name, merge in (("a", False), ("m", True)):
        export(str(run.root), tmp_path / name, merge=merge, say=lambda text: None)
        answers, said = talk(tmp_path / name, max_tokens=4)
        assert answers == talk(run.root, max_tokens=4)[0]
        assert ("sees each message alone" in said) == (template == "none")


def test_an_export_that_does_not_say_its_settings(adapter: Path, saved: RunDir, tmp_path: Path) -> None:
    old = Path(shutil.copytree(adapter, tmp_path / "old"))
    record = json.loads((old / "export.json").read_text())
    del record["chat"]
    (old / "export.json").write_text(json.dumps(record))
    assert talk(old, max_tokens=5)[0] == talk(saved.root)[0]


def test_a_base_that_moved_and_another_one(adapter: Path, base: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(base, tmp_path / "moved")
    assert talk(adapter, base=str(moved))[0] == talk(adapter)[0]
    with pytest.raises(ModelError, match="its adapters fit no other"):
        talk(adapter, base=str(make_base(tmp_path / "other", context=32)))
    record = json.loads((adapter / "export.json").read_text())
    gone = Path(shutil.copytree(adapter, tmp_path / "gone"))
    (gone / "export.json").write_text(json.dumps({**record, "base_model": str(tmp_path / "nowhere")}))
    with pytest.raises(ModelError, match="nowhere"):
        talk(gone)


def _change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / ADAPTER_WEIGHTS).unlink(), "adapter_model.safetensors is missing"),
        (lambda folder: _change(folder / ADAPTER_WEIGHTS), "adapter_model.safetensors is not as it was exported"),
        (lambda folder: _change(folder / ADAPTER_CONFIG), "adapter_config.json is not as it was exported"),
        (lambda folder: (folder / "export.json").write_text("{"), "export.json cannot be read"),
        (lambda folder: (folder / "export.json").write_text("[]"), "export.json cannot be read"),
        (lambda folder: (folder / "export.json").write_text('{"run": "x"}'), "does not say round, merged, adapter"),
        (lambda folder: _forget_files(folder), "is not the adapter that it names"),
        (lambda folder: (folder / "export.json").unlink(), "no export of rayalign"),
    ],
)
def test_damaged_exports_are_refused(damage: Any, words: str, adapter: Path, tmp_path: Path) -> None:
    """Nothing is answered, by the base least of all."""
    copied = Path(shutil.copytree(adapter, tmp_path / "a"))
    damage(copied)
    with pytest.raises(RunFolderError, match=words):
        talk(copied)


def _forget_files(folder: Path) -> None:
    record = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps({**record, "files": {}}))


@pytest.mark.parametrize("asked", [0, 2, "best"])
def test_an_export_has_one_round(asked: object, adapter: Path) -> None:
    with pytest.raises(RunFolderError, match=f"--round {asked}: .* is an export of round 1"):
        talk(adapter, round_index=asked)


def test_what_is_neither_run_nor_export(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunFolderError, match=r"has config\.json, but no export\.json"):
        talk(base)
    assert cli.exit_code(["chat", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_the_card_may_be_edited(adapter: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(adapter, tmp_path / "a"))
    (copied / "README.md").write_text("my own words")
    assert talk(copied)[0] == talk(adapter)[0]


def test_the_base_is_not_what_one_gets_unasked(saved: RunDir, tmp_path: Path) -> None:
    """Of a run of which only round 0 is finished."""
    run = RunDir(shutil.copytree(saved.root.local_path(), tmp_path / "tiny"))
    (run.round(1).root / "COMMIT.json").delete()
    with pytest.raises(RayalignError, match="round 0 alone is finished"):
        talk(run.root)
    assert talk(run.root, round_index=0)[0]
