"""What a stranger gets wrong, by `run` and by `run --dry-run`: the same words, exit 2, and nothing slow was started."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tiny_run import make_base

ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "configs" / "quickstart.yaml")
OFFLINE = str(ROOT / "configs" / "dpo_offline.yaml")
PLACE = "PLACE"


@dataclass(frozen=True)
class Mistake:
    """Settings over a config, and what the error says. PLACE is a folder of the test's."""

    settings: tuple[str, ...]
    said: tuple[str, ...]
    config: str = QUICKSTART


MISTAKES = {
    "run.dir below a file": Mistake((f"run.dir={PLACE}/file/below",), ("run.dir: ", "/file is no folder")),
    "run.dir is a file": Mistake((f"run.dir={PLACE}/file",), ("run.dir: ", "cannot be made")),
    "run.dir of an unknown user": Mistake(("run.dir=~nobody-here/runs",), ("run.dir: ~nobody-here", "whole path")),
    "a classifier as base": Mistake((f"model.base={PLACE}/classifier",), ("BertForSequenceClassification",)),
    "base of an unknown user": Mistake(("model.base=~nobody-here/m",), ("model.base: '~nobody-here/m'",)),
    "all prompts too long": Mistake(("prompts.max_tokens=1",), ("prompts.max_tokens = 1: no prompt",)),
    "rows with only text": Mistake((f"prompts.source={PLACE}/text.jsonl",), ("prompts.field: text",)),
    "rows with only own": Mistake((f"prompts.source={PLACE}/own.jsonl",), ("prompts.field",)),
    "blank .txt": Mistake((f"prompts.source={PLACE}/blank.txt",), ("blank.txt",)),
    "missing rule file": Mistake(("scoring.0.function=nowhere.py:score",), ("scoring.function: nowhere.py",)),
    "rule of an unknown user": Mistake(("scoring.0.function=~nobody-here/r.py:score",), ("~nobody-here/r.py",)),
    "missing source": Mistake(("prompts.source=no/such/prompts.jsonl",), ("no/such/prompts.jsonl'",)),
    "source of an unknown user": Mistake(("prompts.source=~nobody-here/x.jsonl",), ("'~nobody-here/x.jsonl'",)),
    "foreign files": Mistake((f"run.dir={PLACE}", "run.name=foreign"), ("holds thesis.txt",)),
    "no reference answers": Mistake(
        ("objective={type: spin}", f"prompts.source={PLACE}/plain.jsonl"), ("objective.type spin works",)
    ),
    "a kind of constraint that is not there": Mistake(
        ("scoring=[{type: constraints}]", f"prompts.source={PLACE}/wanted.jsonl"),
        ("wanted.jsonl, line 2: constraints.0.kind is 'wordz'", "did you mean words?"),
    ),
    "no constraints": Mistake(
        ("scoring=[{type: constraints}]", f"prompts.source={PLACE}/plain.jsonl"), ("and no prompt has one",)
    ),
    "own columns": Mistake((f"samples.source={PLACE}/pairs.jsonl",), ("samples.fields",), OFFLINE),
}


def make_place(folder: Path) -> None:
    (folder / "file").write_text("x")
    (folder / "classifier").mkdir()
    (folder / "classifier" / "config.json").write_text(json.dumps({"architectures": ["BertForSequenceClassification"]}))
    (folder / "text.jsonl").write_text('{"text": "Name animals."}\n{"text": "Name fruits."}\n')
    (folder / "own.jsonl").write_text('{"frage": "Name animals."}\n{"frage": "Name fruits."}\n')
    (folder / "plain.jsonl").write_text("".join(f'{{"prompt": "Name w{i}."}}\n' for i in range(200)))
    wanted = [{"prompt": f"Name {k}.", "constraints": [{"kind": k, "at_most": 3}]} for k in ("words", "wordz")]
    (folder / "wanted.jsonl").write_text("\n".join(map(json.dumps, wanted)))
    (folder / "blank.txt").write_text("\n  \n\n")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "thesis.txt").write_text("mine")
    pairs = [{"frage": f"Name w{i}.", "good": "w1", "bad": "w2"} for i in range(4)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))


def command(mistake: Mistake, place: Path, base: Path, *options: str) -> list[str]:
    settings = [f"model.base={base}", f"run.dir={place}/runs", *mistake.settings]
    return ["run", mistake.config, *(w for s in settings for w in ("--set", s.replace(PLACE, str(place)))), *options]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], dict]:
    """How each command ended, by name and whether it was a dry run; all in one process, as imports take seconds."""
    place = tmp_path_factory.mktemp("place")
    base = make_base(tmp_path_factory.mktemp("base"), context=2048)
    make_place(place)
    keys = [(name, dry) for name in MISTAKES for dry in (True, False)]
    commands = [command(MISTAKES[name], place, base, *(["--dry-run"] if dry else [])) for name, dry in keys]
    (place / "commands.json").write_text(json.dumps(commands))
    program = [sys.executable, "-m", "tests.unit.error_list", str(place / "commands.json"), str(place / "ended.json")]
    subprocess.run(program, cwd=ROOT, check=True, capture_output=True, timeout=300)
    found = dict(zip(keys, json.loads((place / "ended.json").read_text()), strict=True))
    # None of them left anything behind that a mended config would not fit.
    assert not list(place.glob("**/config.yaml")) and not list(place.glob("**/rounds"))
    assert [path.name for path in (place / "foreign").iterdir()] == ["thesis.txt"]
    return found


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_by_the_run_and_by_its_dry_run(ended: dict, name: str) -> None:
    dry, real = ended[name, True], ended[name, False]
    assert dry["code"] == real["code"] == 2, real["said"]
    assert dry["said"] == real["said"]
    assert real["said"].startswith("error: ") and "Traceback" not in real["said"]
    assert "\n  why:    " in real["said"] and "\n  remedy: " in real["said"]
    assert all(words in real["said"] for words in MISTAKES[name].said), real["said"]


def test_nothing_slow_was_imported_for_any_of_them(ended: dict) -> None:
    """Ray, vLLM and DeepSpeed take most of the seconds of a start."""
    assert {key: one["slow"] for key, one in ended.items() if one["slow"]} == {}
