"""Folders as the hub has them: one split of one config is read, said, and refused where it cannot be told."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pytest

from rayalign.data import sources
from rayalign.data.loading import load_dataset_rows
from rayalign.data.prompts import load_prompt_rows
from rayalign.data.sources import locate
from rayalign.data.splits import choose
from rayalign.errors import DataError

README = """---
license: mit
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: [main/test-*]
  default: true
- config_name: hard
  data_files: {train: "x/**/t*.jsonl", dev: x/d.jsonl}
- config_name: plain
  data_files: x/d.jsonl
- config_name: placed
  data_dir: y
---
# Data
"""
FILES = ["main/train-00000-of-00002.jsonl", "main/train-00001-of-00002.jsonl", "main/test-00000-of-00001.jsonl",
         "x/a/t1.jsonl", "x/t2.jsonl", "x/d.jsonl", "y/train.jsonl", "y/test.jsonl"]  # fmt: skip


def folder(root: Path, *names: str, readme: str = "") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps({"prompt": name}) + "\n")
    if readme:
        (root / "README.md").write_text(readme)
    return root


def prompts(source: str) -> list[str]:
    return [row.messages[0]["content"] for row in load_prompt_rows(source).rows]


@pytest.mark.parametrize(
    ("behind", "files"),
    [
        ("", FILES[:2]),
        (":train", FILES[:2]),
        (":test", FILES[2:3]),
        ("/hard", FILES[3:5]),
        ("/hard:dev", FILES[5:6]),
        ("/hard:validation", FILES[5:6]),
        ("/plain", FILES[5:6]),
        ("/placed", FILES[6:7]),
        ("/placed:test", FILES[7:8]),
        ("/main", FILES[:2]),
        ("/y:test", FILES[7:8]),
        ("/x/d.jsonl", FILES[5:6]),
    ],
)
def test_configs_of_a_readme(behind: str, files: list[str], tmp_path: Path) -> None:
    source = f"{folder(tmp_path, *FILES, readme=README)}{behind}"
    assert prompts(source) == files
    assert [row.messages[0]["content"] for row in load_dataset_rows(source).rows] == files
    assert len(sources.source_units(source)) == len(files)


@pytest.mark.parametrize(
    ("names", "split", "chosen"),
    [
        (["a.jsonl", "b/c.jsonl"], None, ["a.jsonl", "b/c.jsonl"]),
        (["train.jsonl", "test.jsonl"], None, ["train.jsonl"]),
        (["train.jsonl", "test.jsonl"], "test", ["test.jsonl"]),
        (["train_1.jsonl", "train_2.jsonl", "dev.jsonl"], None, ["train_1.jsonl", "train_2.jsonl"]),
        (["train/a.jsonl", "train/b.jsonl", "test/a.jsonl"], None, ["train/a.jsonl", "train/b.jsonl"]),
        (["prefs_train.jsonl", "prefs_val.jsonl"], None, ["prefs_train.jsonl"]),
        (["train_a.jsonl", "train_b.jsonl"], None, ["train_a.jsonl", "train_b.jsonl"]),
        (["train.jsonl", "more.jsonl"], None, ["train.jsonl", "more.jsonl"]),
        (["more.jsonl", "test.jsonl"], None, ["more.jsonl"]),
        (["test.jsonl"], None, ["test.jsonl"]),
        (["my_test_data.jsonl", "my_train_data.jsonl"], None, ["my_train_data.jsonl"]),
        (["my_test_data.jsonl", "my_train_data.jsonl"], "test", ["my_test_data.jsonl"]),
        (["my.test.jsonl.gz", "my.train.jsonl.gz"], None, ["my.train.jsonl.gz"]),
        (["a-val2x/d.jsonl", "a/d.jsonl"], None, ["a/d.jsonl"]),
        (["my-test-00000-of-00001.parquet", "my-train-00000-of-00001.parquet"], None,
         ["my-train-00000-of-00001.parquet"]),
        (["a-1-of-2.jsonl", "a-2-of-2.jsonl", "12-of-13/b.jsonl"], None,
         ["a-1-of-2.jsonl", "a-2-of-2.jsonl", "12-of-13/b.jsonl"]),
        (["train-00000-of-00001.parquet", "test-00000-of-00002.parquet"], None, ["train-00000-of-00001.parquet"]),
        (["test_1.jsonl", "test_2.jsonl"], None, ["test_1.jsonl", "test_2.jsonl"]),
        (["latest.jsonl", "contest.jsonl"], None, ["latest.jsonl", "contest.jsonl"]),
        (["data/sft-00000-of-00002.parquet", "data/sft-00001-of-00002.parquet"], None,
         ["data/sft-00000-of-00002.parquet", "data/sft-00001-of-00002.parquet"]),
        (["data/train_sft-00000-of-00001.parquet", "data/test_sft-00000-of-00001.parquet"], None,
         ["data/train_sft-00000-of-00001.parquet"]),
        (["data/train_a-00000-of-00001.parquet", "data/train_b-00000-of-00001.parquet"], "train_b",
         ["data/train_b-00000-of-00001.parquet"]),
    ],
)  # fmt: skip
def test_splits_by_the_names_of_files(names: list[str], split: str | None, chosen: list[str]) -> None:
    assert choose(names, "# No configs", None, split, "here") == chosen


@pytest.mark.parametrize(
    ("names", "readme", "behind", "words"),
    [
        (["train_a-00000-of-00001.jsonl", "train_b-00000-of-00001.jsonl"], "", "", "{}:train_a, or"),
        (["test.jsonl", "dev.jsonl"], "", "", "the splits validation, test"),
        (["train.jsonl", "test.jsonl", "more.jsonl"], "", "", "and some of none"),
        (["train.jsonl", "test.jsonl"], "", ":dev", "no split dev"),
        (["a.jsonl"], "", ":dev", "no split dev"),
        (FILES, README.replace("  default: true\n", ""), "", "4 configs, none of them the default"),
        (FILES, README.replace("  default: true\n", ""), "", "name one: {}/main"),
        (FILES, README, ":nope", "its files are of the splits train, test"),
        (["z.jsonl", "w.jsonl"], README, "", "no file in it is of split train of config main"),
        (["z.jsonl", "w.jsonl"], README, ":test", "match none of the files"),
        (["z.jsonl", "main/test-1.jsonl"], README, "", "no file in it is of split train of config main"),
        (["main/train-1.jsonl", "w.jsonl"], README, ":dev", "{}:train, or"),
        (["z.jsonl", "w.jsonl"], README, "/placed", "of config placed"),
        (FILES, README, "/fr", "the configs of its README.md are main, hard, plain, placed"),
        (FILES, README, "/fr:test", "name one: {}/main"),
        (FILES, README.replace("license: mit", "license: 'mit"), "", "is not YAML"),
        (["train-00000-of-00003.jsonl", "train-00002-of-00003.jsonl"], "", "", "missing: train-00001-of-00003.jsonl"),
        (["train-00000-of-00002.jsonl"], "", "", "missing: train-00001-of-00002.jsonl"),
        (["d/my-train-00001-of-00002-0ab1.jsonl"], "", ":train", "missing: d/my-train-00000-of-00002.jsonl"),
        (["part-1-of-3.jsonl", "part-3-of-3.jsonl"], "", "", "missing: part-2-of-3.jsonl"),
        (["x_0000_of_0009.jsonl"], "", "", "x_0001_of_0009.jsonl, x_0002_of_0009.jsonl, x_0003_of_0009.jsonl and 5"),
        (["main/train-00000-of-00002.jsonl", "w.jsonl"], README, "", "missing: main/train-00001-of-00002.jsonl"),
    ],
)
def test_a_split_that_cannot_be_told_is_refused(
    names: list[str], readme: str, behind: str, words: str, tmp_path: Path
) -> None:
    source = f"{folder(tmp_path, *names, readme=readme)}{behind}"
    with pytest.raises(DataError) as caught:
        prompts(source)
    assert words.format(tmp_path) in str(caught.value)
    assert all((caught.value.found, caught.value.why, caught.value.remedy))


@pytest.mark.parametrize(
    ("patterns", "matched"),
    [
        ('"*.jsonl"', ["train.jsonl"]),
        ("./train.jsonl", ["train.jsonl"]),
        ('"**"', ["old/a/b.jsonl", "old/train.jsonl", "train.jsonl"]),
        ('"**/train*"', ["old/train.jsonl", "train.jsonl"]),
        ('"*/*.jsonl"', ["old/train.jsonl"]),
        ('"o?d/*"', ["old/train.jsonl"]),
        ("[old/, train.jsonl]", ["old/a/b.jsonl", "old/train.jsonl", "train.jsonl"]),
        ("{train: ./old/a}", ["old/a/b.jsonl"]),
        ("old/**/[ab].jsonl", ["old/a/b.jsonl"]),
    ],
)
def test_patterns_of_a_readme(patterns: str, matched: list[str]) -> None:
    names = ["old/a/b.jsonl", "old/train.jsonl", "train.jsonl"]
    readme = f"---\nconfigs:\n- data_dir:\n  data_files: {patterns}\n---\n"
    assert choose(names, readme, None, None, "here") == matched


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_readme_of_any_encoding(encoding: str, end: str, tmp_path: Path) -> None:
    folder(tmp_path, *FILES)
    (tmp_path / "README.md").write_bytes(README.replace("\n", end).encode(encoding))
    assert prompts(str(tmp_path)) == FILES[:2]
    assert prompts(f"{tmp_path}/hard:dev") == FILES[5:6]


def test_what_is_not_in_a_folder_is_not_looked_up_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "a" / "b", *FILES, readme=README)
    folder(tmp_path / "a" / "c", "train.jsonl")
    monkeypatch.chdir(tmp_path)
    assert [sources._hub(name) for name in ("a/b/fr", "a/b/fr:test", "a/c/fr", "a/c/fr:test")] == [None] * 4
    assert sources._hub("hub:a/c/fr") is not None
    with pytest.raises(DataError, match="no file or config fr"):
        prompts("a/b/fr")
    with pytest.raises(DataError, match="No such file"):
        prompts("a/c/fr")


def test_what_is_read_is_said(tmp_path: Path) -> None:
    source = str(folder(tmp_path / "d", "train.jsonl", "test.jsonl"))
    said = "one split of the folder is read, 1 of 2 files, train.jsonl first (another: DIR:SPLIT)"
    assert load_prompt_rows(source).found.reason.endswith(said)
    assert load_dataset_rows(source).reason.endswith(said)
    assert "split" not in load_prompt_rows(str(folder(tmp_path / "e", "a.jsonl", "b.jsonl"))).found.reason


def test_a_folder_that_is_named_like_one_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "owner" / "name", "train.jsonl", "test.jsonl")
    assert locate("name:test", tmp_path / "owner") == str(tmp_path / "owner" / "name:test")
    monkeypatch.chdir(tmp_path)
    assert prompts("owner/name:test") == ["test.jsonl"]
    assert locate("owner/name:test", tmp_path / "x") == "owner/name:test"
    assert sources._hub("owner/other:test") is not None


def test_a_folder_in_a_store() -> None:
    store = fsspec.filesystem("memory")
    for name in FILES:
        store.pipe(f"/hub/{name}", json.dumps({"prompt": name}).encode())
    store.pipe("/hub/README.md", README.encode())
    assert prompts("memory://hub") == FILES[:2]
    assert prompts("memory://hub:test") == FILES[2:3]
    assert prompts("memory://hub/y:test") == FILES[7:8]
