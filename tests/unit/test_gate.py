"""Comparisons with earlier rounds, and what the gate does where one is worse, with the loop's hand-written parts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.run import RunConfig
from rayalign.errors import GuardError
from rayalign.evaluation.paired import gate_level, holm
from rayalign.loop.gate import built_upon
from rayalign.loop.round import Run
from rayalign.loop.run import run_rounds
from tests import graded_run
from tests.fakes import Fuse, Killed, make_config, make_run
from tests.graded_run import parents, sampled_by

UP_AND_DOWN = (0.0, 1.0, -1.0, 0.5, 0.0)
"""Quality of each round's adapter: round 2 is the worse one."""
start = partial(graded_run.start, quality=UP_AND_DOWN)


def gated(action: str | None, metric: str = "mean_reward", rounds: int = 3, **evaluation: Any) -> RunConfig:
    gate = None if action is None else {"metric": metric, "action": action}
    sections = {"evaluation": {"responses": 2, "gate": gate, **evaluation}, "guards": []}
    return make_config(run={"name": "fake", "rounds": rounds}, **sections)


def reports(run: Run) -> list[dict[str, Any]]:
    return [report for one in run.run_dir.rounds() if (report := one.report()) is not None]


def commits(run: Run) -> list[dict[str, Any]]:
    """Of every round, what its adapter and its decision say."""
    found = [one.commit_facts() for one in run.run_dir.rounds()]
    return [{name: one["commits"].get(name) for name in ("adapter", "gate")} for one in found if one is not None]


def test_comparisons_with_round_0_previous_and_best(tmp_path: Path) -> None:
    """Round 3 is worse than round 1, the best, and better than rounds 0 and 2."""
    run = start(tmp_path, gated(None))
    run_rounds(run)
    zero, one, two, three = reports(run)
    assert "comparisons" not in zero and "gate" not in one
    assert {name: found["round"] for name, found in one["comparisons"].items()} == {
        "round_0": 0,
        "previous": 0,
        "best": 0,
    }
    found = three["comparisons"]
    assert {name: (one["round"], one["verdict"]) for name, one in found.items()} == {
        "round_0": (0, "better"),
        "previous": (2, "better"),
        "best": (1, "worse"),
    }
    assert {one["metric"] for one in found.values()} == {"mean_reward"}
    assert (found["best"]["n"], found["best"]["test"], found["best"]["among"]) == (40, "wilcoxon", 3)
    difference = found["previous"]["difference"]
    values = [report["metrics"]["mean_reward"]["value"] for report in (two, three)]
    assert difference["value"] == pytest.approx(values[1] - values[0])
    assert difference["n"] == 40 and difference["ci95"][0] < difference["value"] < difference["ci95"][1]


def test_p_values_are_corrected_over_the_rounds_so_far(tmp_path: Path) -> None:
    """Holm over three rounds; the best of i rounds counts i times."""
    run = start(tmp_path, gated(None), quality=(0.0, 0.0, 0.02, 0.3))
    run_rounds(run)
    _, *later = [report.get("comparisons") for report in reports(run)]
    for name in ("round_0", "previous", "best"):
        times = [min(1.0, one[name]["p"] * one[name]["among"]) for one in later]
        assert [one[name]["p_holm"] for one in later] == pytest.approx([holm(times[: i + 1])[-1] for i in range(3)])
    assert later[2]["round_0"]["p_holm"] == pytest.approx(3 * later[2]["round_0"]["p"]) != 0


def test_keep_builds_on_the_worse_round_and_says_so(tmp_path: Path) -> None:
    run = start(tmp_path, gated("keep"))
    run_rounds(run)
    assert parents(run) == [0, 1, 2]
    gate = reports(run)[2]["gate"]
    assert (gate["metric"], gate["action"], gate["best_round"], gate["worse"], gate["did"]) == (
        "mean_reward",
        "keep",
        1,
        True,
        "kept",
    )
    assert gate["level"] == gate_level(3) and gate["p"] < 1e-6
    assert [line for line in run.parts.reporter.said if "GATE" in line and line.startswith("round 2 ")]


def test_restore_best_starts_the_next_round_from_the_best(tmp_path: Path) -> None:
    """Rounds 3 and 4 start from round 1, served with proof; round 3 is better than round 2 and worse than the best."""
    run = start(tmp_path, gated("restore_best", rounds=4))
    run_rounds(run)
    assert parents(run) == [0, 1, 1, 1]
    assert run.parts.generator.loads == [0, 1, 2, 1, 3, 1, 4]
    assert [sampled_by(run, index) for index in (1, 2, 3, 4)] == [{0}, {1}, {1}, {1}]
    said = [line.partition("; ")[2] for line in run.parts.reporter.said if "GATE" in line]
    goes_back = "the next round starts from round 1"
    assert said == [goes_back, goes_back, "a next round would start from round 1"]
    facts = [report.get("gate") for report in reports(run)]
    assert [(one["best_round"], one["worse"], one["did"], one["next"]) for one in facts[1:]] == [
        (0, False, "kept", 1),
        (1, True, "restored", 1),
        (1, True, "restored", 1),
        (1, True, "restored", 1),
    ]
    proofs = [fields["version"] for kind, fields in run.parts.reporter.events if kind == "sync"]
    assert proofs == [0, 1, 1], "the base, and twice the restored adapter"


def test_the_base_is_restored_too(tmp_path: Path) -> None:
    run = start(tmp_path, gated("restore_best"), quality=(1.0, 0.0, 2.0, 2.0))
    run_rounds(run)
    assert parents(run) == [0, 0, 2]
    assert run.parts.generator.loads == [0, 1, 0, 2, 3]
    assert sampled_by(run, 2) == {0}
    whole = start(tmp_path / "other", gated("keep", rounds=1))
    run_rounds(whole)
    assert run.run_dir.round(2).adapter() != whole.run_dir.round(1).adapter()


def test_rounds_that_are_no_worse_are_built_upon(tmp_path: Path) -> None:
    run = start(tmp_path, gated("restore_best"), quality=(0.0,) * 4)
    run_rounds(run)
    assert parents(run) == [0, 1, 2]
    assert [report["gate"]["did"] for report in reports(run)[1:]] == ["kept"] * 3
    assert not [line for line in run.parts.reporter.said if "GATE" in line]


def test_stop_ends_the_run_and_a_resume_goes_on_from_the_best(tmp_path: Path) -> None:
    config = gated("stop")
    run = start(tmp_path, config)
    with pytest.raises(GuardError, match="round 2 is worse than round 1 by mean_reward") as caught:
        run_rounds(run)
    assert caught.value.exit_code == 3 and "from round 1's adapter" in caught.value.remedy
    assert [one.index for one in run.run_dir.rounds()] == [0, 1, 2]
    assert reports(run)[2]["gate"]["did"] == "stopped"
    resumed = start(tmp_path, config)
    with pytest.raises(GuardError, match="round 3 is worse"):
        run_rounds(resumed)
    assert parents(resumed) == [0, 1, 1]
    assert resumed.parts.generator.loads == [0, 1, 3]
    run_rounds(start(tmp_path, config))


def test_a_fork_without_the_gate_builds_on_its_last_round(tmp_path: Path) -> None:
    run = start(tmp_path, gated("restore_best", rounds=2))
    run_rounds(run)
    assert built_upon(gated("restore_best"), run.run_dir, 2) == 1
    assert built_upon(gated("stop"), run.run_dir, 2) == 1
    assert built_upon(gated("keep"), run.run_dir, 2) == built_upon(gated(None), run.run_dir, 2) == 2


@pytest.mark.parametrize("quality", [UP_AND_DOWN, (1.0, 0.0, 2.0, 0.0, 1.0)], ids=["restores 1", "restores the base"])
@pytest.mark.parametrize("ticks", range(12, 53, 3))
def test_killed_anywhere_and_resumed_gives_the_same_rounds(
    tmp_path: Path, whole_runs: dict[Any, Run], ticks: int, quality: Sequence[float]
) -> None:
    config = gated("restore_best")
    killed = start(tmp_path, config, Fuse(ticks), quality=quality)
    with pytest.raises(Killed):
        run_rounds(killed)
    resumed = start(tmp_path, config, quality=quality)
    run_rounds(resumed)
    whole = whole_runs[quality]
    assert commits(resumed) == commits(whole)
    for section in ("comparisons", "gate", "metrics"):
        assert [one.get(section) for one in reports(resumed)] == [one.get(section) for one in reports(whole)]


@pytest.mark.parametrize("name", ["evaluation", "gate", "report", "COMMIT"])
def test_killed_right_after_a_commit_of_the_worse_round(
    tmp_path: Path, whole_runs: dict[Any, Run], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The commit named is there, and nothing that follows it in round 2."""
    from rayalign.store.round_dir import RoundDir

    commit, finish = RoundDir.commit, RoundDir.finish

    def last_commit(self: RoundDir, made: str, files: Any, **facts: Any) -> None:
        commit(self, made, files, **facts)
        if (self.index, made) == (2, name):
            raise Killed

    def last_finish(self: RoundDir, **facts: Any) -> None:
        finish(self, **facts)
        if self.index == 2 and name == "COMMIT":
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RoundDir, "commit", last_commit)
        patch.setattr(RoundDir, "finish", last_finish)
        run_rounds(start(tmp_path, gated("restore_best")))
    resumed = start(tmp_path, gated("restore_best"))
    run_rounds(resumed)
    assert commits(resumed) == commits(whole_runs[UP_AND_DOWN])


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Run]:
    """Undisturbed runs by the quality of their rounds."""
    runs = {}
    for quality in (UP_AND_DOWN, (1.0, 0.0, 2.0, 0.0, 1.0)):
        runs[quality] = start(tmp_path_factory.mktemp("whole"), gated("restore_best"), quality=quality)
        run_rounds(runs[quality])
    return runs


def test_only_evaluated_rounds_are_compared(tmp_path: Path) -> None:
    """Every second round and the last one: round 2 is worse than the base, so round 3 starts there."""
    run = start(tmp_path, gated("restore_best", every=2), quality=(1.0, 5.0, 0.0, 1.0))
    run_rounds(run)
    assert ["gate" in report for report in reports(run)] == [False, False, True, True]
    assert reports(run)[2]["gate"]["level"] == gate_level(2)
    assert parents(run) == [0, 1, 0]


def test_gate_by_pass_rate(tmp_path: Path) -> None:
    """Rewards of 1 pass: all answers of round 1, none of round 2."""
    run = make_run(tmp_path, gated("restore_best", "pass_rate"))
    run.parts.scorer.reward_of = lambda sample: float(sample.adapter_version == 1)
    run_rounds(run)
    assert parents(run) == [0, 1, 1]
    found = reports(run)[2]["comparisons"]["best"]
    assert (found["metric"], found["test"], found["difference"]["value"]) == ("pass_rate", "sign", -1.0)


@pytest.mark.parametrize(
    ("scoring", "metric", "found"),
    [
        ([], "reward", "no such value per answer; use one of mean_reward, pass_rate, mean_reward/rule:demo"),
        ([], "win_rate/round_0", "no such value"),
        ([{"type": "judge", "transport": "demo"}], "mean_reward/judge:demo", "no such value"),
        ([{"type": "rule", "function": "a.py:f", "weight": -1.0}], "mean_reward/rule:a.py:f", "is a penalty"),
    ],
)
def test_a_gate_on_what_is_not_measured_is_refused(scoring: list[dict[str, Any]], metric: str, found: str) -> None:
    demo = {"type": "rule", "function": "demo"}
    with pytest.raises(ValueError, match=found):
        make_config(scoring=[demo, *scoring], evaluation={"gate": {"metric": metric, "action": "keep"}})


def test_gate_of_each_metric_that_there_is() -> None:
    for metric in ("mean_reward", "mean_reward/rule:demo", "pass_rate"):
        gate = make_config(evaluation={"gate": {"metric": metric}}).evaluation.gate
        assert gate is not None and (gate.metric, gate.action) == (metric, "restore_best")
    with pytest.raises(ValueError, match="metric pass_rate"):
        make_config(scoring=[{"type": "reward_model", "model": "demo"}], evaluation={"gate": {"metric": "pass_rate"}})
