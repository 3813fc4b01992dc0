"""The page of whole run folders: what is stored is read, what is damaged is named, and all else is shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rayalign.dashboard.held_out import read_held_out
from rayalign.dashboard.page import write_report
from rayalign.dashboard.run_files import read_run
from rayalign.loop.run import run_rounds
from rayalign.store.event_log import EventLog
from rayalign.store.run_dir import RunDir
from tests.fakes import make_run
from tests.unit.test_report import Page


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three rounds of fakes, with 40 held-out prompts in two shards."""
    root = tmp_path_factory.mktemp("run") / "fake"
    run_rounds(make_run(root))
    with EventLog(root / "metrics.jsonl") as log:
        log.write("start", attempt=0)
        for index in range(4):
            log.write("stage", round=index, stage="sample", seconds=2.0 + index, items=40, tokens=100)
        log.write("stage", round=0, stage="start actors", seconds=60.0)
    return root


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "fake"))


def written(folder: Path) -> Page:
    parsed = Page(Path(str(write_report(folder))).read_text("utf-8"))
    parsed.assert_inert()
    return parsed


def test_stored_answers_are_read_as_they_were_written(folder: Path) -> None:
    round_dir = RunDir(folder).round(2)
    found, problems = read_held_out(round_dir)
    rows = [row for shard in round_dir.shards("evaluation") for row in round_dir.read_shard("evaluation", shard) or []]
    assert found is not None and problems == []
    assert found.rewards_PK.shape == (40, 2) and sorted(found.prompts) == list(found.prompts)
    for row in rows:
        place = found.prompts.index(row.sample.prompt_id), row.sample.index
        assert found.tokens_PK[place] == len(row.sample.token_ids)
        assert found.rewards_PK[place] == row.reward or (row.reward is None and np.isnan(found.rewards_PK[place]))


def test_whole_run(folder: Path) -> None:
    parsed = written(folder)
    assert {"chart-rewards-0", "chart-rewards-1", "chart-rewards-2", "chart-work-0", "chart-sync-0"} <= set(
        parsed.charts
    )
    assert "Problems" not in parsed.text and "on 40 held-out prompts" in parsed.text
    assert [row["y"] for row in parsed.rows("chart-work-0")] == [2.0, 3.0, 4.0, 5.0]
    assert "seconds by stage; the start took 60 s more" in parsed.text


def test_win_rates_are_those_of_the_reports(folder: Path) -> None:
    """The matrix is computed from the stored answers, the report's by the run."""
    last = json.loads((folder / "rounds/0003/report.json").read_text())["metrics"]
    cells = {(row["y"], row["x"]): row["v"] for row in written(folder).charts["chart-rewards-1"]["data"]["values"]}
    assert cells[3, 0] == pytest.approx(last["win_rate/round_0"]["value"], abs=1e-4)
    assert cells[3, 2] == pytest.approx(last["win_rate/previous"]["value"], abs=1e-4)
    assert len(cells) == 12 and cells[0, 3] == pytest.approx(1 - cells[3, 0], abs=1e-4)


def cut_off(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes()[:100])


def away(path: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()

    return remove


def flipped(path: str) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        content = bytearray((folder / path).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / path).write_bytes(content)

    return flip


SHARD = "rounds/0002/evaluation/{}/00001.parquet"
NAMED = "round 2, evaluation shard 1: its"
DAMAGES = {
    "scores cut off": (cut_off(SHARD.format("scores")), f"{NAMED} scores are not what was committed"),
    "a bit of the samples": (flipped(SHARD.format("samples")), f"{NAMED} samples are not what was committed"),
    "a file away": (away(SHARD.format("samples")), f"{NAMED} commit is there, but its samples are missing"),
    "report cut off": (cut_off("rounds/0002/report.json"), "round 2: report.json is missing or not what was committed"),
    "round away": (away("rounds/0002"), "round 2 is missing: its folder is not there"),
    "commit cut off": (cut_off("rounds/0002/COMMIT.json"), "round 2 has no COMMIT.json that can be read"),
}  # fmt: skip


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damaged_files_are_named_and_the_rest_is_shown(folder: Path, damage: str) -> None:
    harm, said = DAMAGES[damage]
    harm(folder)
    parsed = written(folder)
    assert said in parsed.text and parsed.text.count("Problems") == 1
    assert {0, 1, 3} <= {row["x"] for row in parsed.rows("chart-quality-0")}
    assert "chart-rewards-0" in parsed.charts and "Held-out metrics" in parsed.text


def test_a_damaged_shard_leaves_the_other_one(folder: Path) -> None:
    away(SHARD.format("scores"))(folder)
    found = read_run(RunDir(folder))
    assert [len(one.prompts) for one in found.held_out] == [40, 40, 32, 40]


def test_scores_of_other_answers_are_not_taken(folder: Path) -> None:
    """Both files are whole and their commit has their hashes, but they are not of the same answers."""
    scores = folder / "rounds/0002/evaluation/scores"
    shutil.copy(scores / "00001.parquet", scores / "00000.parquet")
    commit_path = folder / "rounds/0002/COMMIT.json"
    commit = json.loads(commit_path.read_text())
    new = RunDir(folder).round(2).describe("evaluation/scores/00000.parquet")
    commit["commits"]["evaluation-00000"]["files"] |= new
    commit_path.write_text(json.dumps(commit))
    found, problems = read_held_out(RunDir(folder).round(2))
    assert problems == ["round 2, evaluation shard 0: its samples and its scores are not of the same answers"]
    assert found is not None and len(found.prompts) == 8


@pytest.mark.parametrize("files", [{}, {"evaluation/odd/00000.parquet": {}}, {"x": 3}, {"evaluation/scores/x": "y"}, 3])
def test_odd_commits_are_named(folder: Path, files: object) -> None:
    path = folder / "rounds/0001/COMMIT.json"
    commit = json.loads(path.read_text())
    commit["commits"]["evaluation-00000"]["files"] = files
    path.write_text(json.dumps(commit))
    found, problems = read_held_out(RunDir(folder).round(1))
    assert len(problems) == 1 and "round 1, evaluation shard 0" in problems[0]
    assert found is not None and len(found.prompts) == 8


def test_run_without_held_out_prompts(folder: Path) -> None:
    """No evaluation at all: training and times are shown, and no verdict."""
    for round_dir in RunDir(folder).rounds():
        path = round_dir.root.local_path()
        shutil.rmtree(path / "evaluation")
        report = json.loads((path / "report.json").read_text()) | {"metrics": {}}
        round_dir.commit("report", round_dir.write("report.json", json.dumps(report).encode()))
        commit = json.loads((path / "COMMIT.json").read_text())
        commit["commits"] = {name: one for name, one in commit["commits"].items() if "evaluation" not in name}
        (path / "COMMIT.json").write_text(json.dumps(commit))
    parsed = written(folder)
    assert "Problems" not in parsed.text and "chart-training-0" in parsed.charts
    assert not any(name.startswith(("chart-quality", "chart-rewards")) for name in parsed.charts)


def test_one_round(folder: Path) -> None:
    for index in (1, 2, 3):
        shutil.rmtree(folder / f"rounds/000{index}")
    parsed = written(folder)
    assert "0 of 3 rounds" in parsed.text and "chart-rewards-0" in parsed.charts
    assert "chart-rewards-1" in parsed.charts, "length against reward"
    assert "Which round beats which" not in parsed.text


def test_begun_run(folder: Path) -> None:
    """What a crashed run has of its first round is not a round yet."""
    shutil.rmtree(folder / "rounds")
    assert "No rounds yet" in written(folder).text


def test_benchmarks_by_hand_are_beside_those_of_the_run(folder: Path) -> None:
    for index, content in (
        (1, '{"type": "rating", "metrics": {"score": {"value": 7.0, "n": 9, "ci95": [6, 8]}}}'),
        (2, "{"),
    ):
        place = folder / f"benchmarks/rating/round-000{index}"
        place.mkdir(parents=True)
        (place / "result.json").write_text(content)
    parsed = written(folder)
    assert [(row["s"], row["x"], row["y"]) for row in parsed.rows("chart-benchmarks-0")] == [("score", 1, 7.0)]
    assert "Benchmark rating, by hand" in parsed.text
    assert "round 2: rating/result.json cannot be read" in parsed.text
