"""Runs beside each other."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from rayalign import cli
from rayalign.commands.compare import compare, compare_command, comparison_tables
from rayalign.dashboard.answers import AnswerStore
from rayalign.records import Prompt, Sample, ScoredSample
from rayalign.store.run_dir import RunDir
from rayalign.store.saved_run import SavedRun
from tests.fakes import make_config
from tests.unit.answer_runs import add_round, make_run_folder, user


def a_run(root: Path, prompts: range, gain: float, **settings: dict) -> SavedRun:
    """One evaluated round; rewards are a prompt's own, plus `gain`."""
    asked = [Prompt(f"{place:016x}", [user(f"prompt {place}")], [1]) for place in prompts]
    run_dir = make_run_folder(root, (), asked)
    run_dir.save_config(make_config(**{"run": {"name": "fake", "rounds": 1}, **settings}).to_dict())
    rows = []
    for place, one in zip(prompts, asked, strict=True):
        chance = random.Random(place)
        for index in range(2):
            sample = Sample(one.id, index, "text", [1], [-1.0], "stop", 0, 0)
            rows.append(ScoredSample(sample, [], chance.random() + gain * (1 + 0.01 * (place % 7))))
    add_round(run_dir, 0, rows)
    report = {"metrics": {"mean_reward": {"value": 0.5 + gain, "n": 9, "ci95": [0.4 + gain, 0.6 + gain]}}}
    (root / "rounds/0000/report.json").write_text(json.dumps(report))
    return SavedRun.at(root)


def stores(*runs: SavedRun) -> dict[str, AnswerStore]:
    return {run.name: AnswerStore(run) for run in runs}


def test_shared_prompts_are_paired(tmp_path: Path) -> None:
    """60 of 80: prompts 20 to 79. Every one is .25 or a little more higher in the second run."""
    found = compare(stores(a_run(tmp_path / "a", range(80), 0.0), a_run(tmp_path / "b", range(20, 100), 0.25)))
    (pair,) = found["paired"]
    assert (pair["runs"], pair["rounds"], pair["n"], pair["better"], pair["worse"]) == (["a", "b"], [0, 0], 60, 60, 0)
    assert pair["difference"]["value"] == pytest.approx(0.2575, abs=0.001)
    assert pair["verdict"] == "better" and pair["p"] < 1e-6


def test_few_prompts_give_no_verdict(tmp_path: Path) -> None:
    found = compare(stores(a_run(tmp_path / "a", range(29), 0.0), a_run(tmp_path / "b", range(29), 0.5)))
    assert found["paired"][0]["verdict"] == "few"


def test_no_shared_prompt(tmp_path: Path) -> None:
    found = compare(stores(a_run(tmp_path / "a", range(9), 0.0), a_run(tmp_path / "b", range(50, 59), 0.5)))
    assert found["paired"] == []


def test_settings_curves_and_notes(tmp_path: Path) -> None:
    other = {"training": {"learning_rate": 0.5}, "scoring": [{"type": "rule", "function": "demo", "weight": 2.0}]}
    runs = stores(a_run(tmp_path / "a", range(9), 0.0), a_run(tmp_path / "b", range(9), 0.5, **other))
    found = compare(runs)
    assert found["config"]["training.learning_rate"]["b"] == 0.5 and "run.name" not in found["config"]
    assert found["curves"] == {"mean_reward": {"a": [[0.0, 0.5, 0.4, 0.6]], "b": [[0.0, 1.0, 0.9, 1.1]]}}
    assert found["notes"][0].startswith("The runs have different scoring settings")
    titles = [table.title for table in comparison_tables(found)]
    assert titles == ["On the held-out prompts that two runs share", "Settings that differ", "mean reward"]
    assert json.loads(json.dumps(found, allow_nan=False))["curves"] == found["curves"]


def test_a_run_without_rounds(tmp_path: Path) -> None:
    empty = make_run_folder(tmp_path / "a", ())
    found = compare(stores(SavedRun.at(empty.root), a_run(tmp_path / "b", range(9), 0.5)))
    assert found["runs"][0] == {"name": "a", "rounds": 0, "headline": ""} and found["paired"] == []


def test_a_damaged_report_is_left_out(tmp_path: Path) -> None:
    a, b = (a_run(tmp_path / name, range(9), 0.0) for name in "ab")
    (tmp_path / "a/rounds/0000/report.json").write_text("[")
    assert list(compare(stores(a, b))["curves"]["mean_reward"]) == ["b"]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x/run", "y/run"):
        a_run(tmp_path / name, range(40), 0.0)
    places = [str(tmp_path / "x/run"), str(tmp_path / "y/run")]
    assert cli.exit_code(["compare", *places]) == 0
    said = capsys.readouterr().out
    assert f"{places[1]} (round 0) against {places[0]} (round 0)" in said and "no clear difference" in said
    assert json.loads(compare_command(places, as_json=True))["runs"][0]["name"] == places[0]


def test_one_run_is_no_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(RunDir(a_run(tmp_path / "a", range(3), 0.0).run_dir.root).root)
    assert cli.exit_code(["compare", place, place]) == 2
    assert cli.exit_code(["compare", place, str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
