"""The held-out prompts that a run keeps in its folder, and who shows their text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rayalign
from rayalign.commands.show import show
from rayalign.errors import RunFolderError
from rayalign.records import Prompt
from rayalign.store.folder import Folder
from rayalign.store.held_out import HELD_OUT, read_held_out, write_held_out
from rayalign.store.run_dir import RunDir
from tests.object_store import ObjectStore
from tests.unit.answer_query_cases import APPLE, PROMPTS
from tests.unit.answer_runs import make_run_folder, table_prompts

EXAMPLE = [
    Prompt("b", [{"role": "user", "content": "zwei\x00é"}], [1, 2], "target", {"a": [1, None]}),
    Prompt("a", [{"role": "system", "content": ""}, {"role": "user", "content": "eins"}], []),
]


def test_what_is_written_is_read_in_its_order(tmp_path: Path) -> None:
    write_held_out(tmp_path, EXAMPLE)
    assert read_held_out(tmp_path) == EXAMPLE


def test_on_an_object_store(object_store: ObjectStore) -> None:
    place = Folder(object_store.uri("held-out"))
    assert read_held_out(place) == []
    write_held_out(place, EXAMPLE)
    assert read_held_out(place) == EXAMPLE


def test_a_resume_does_not_write_it_again(tmp_path: Path) -> None:
    write_held_out(tmp_path, EXAMPLE)
    before = (tmp_path / HELD_OUT).stat()
    write_held_out(tmp_path, EXAMPLE[:1])
    assert (tmp_path / HELD_OUT).stat() == before and read_held_out(tmp_path) == EXAMPLE


def test_an_older_folder_has_none(tmp_path: Path) -> None:
    assert read_held_out(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"no table", b"PAR1PAR1"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / HELD_OUT).write_bytes(content)
    with pytest.raises(RunFolderError, match=HELD_OUT):
        read_held_out(tmp_path)


def test_a_start_that_was_refused_leaves_none(tmp_path: Path) -> None:
    run_dir = make_run_folder(tmp_path / "run", answers=())
    run_dir.forget()
    assert not (tmp_path / "run" / HELD_OUT).exists()
    write_held_out(tmp_path / "run", EXAMPLE)
    RunDir(tmp_path / "run").refuse_foreign({HELD_OUT})


def test_show_and_load_samples_know_the_texts(tmp_path: Path) -> None:
    place = str(make_run_folder(tmp_path / "run").root)
    rows = json.loads(show(place, 1, None, None, as_json=True, samples="evaluation"))["prompts"]
    assert {row["id"]: row["text"] for row in rows} == {one: facts["text"] for one, facts in PROMPTS.items()}
    assert "Name a fruit." in show(place, 1, APPLE, None, as_json=False, samples="evaluation")
    assert "Name a fruit." in show(place, 1, None, None, as_json=False, compare=0)
    found = rayalign.load_samples(place)
    assert {row.prompt_id: row.prompt for row in found.itertuples()} == {one.id: one.text for one in table_prompts()}
