"""What a run says of settings that are far from what works, and that it says nothing of the shipped ones."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.file import load_config, load_config_of
from rayalign.config.guidance import (
    LEARNING_RATES,
    left_remark,
    peak_rate,
    rate_remark,
    reward_remarks,
    stage_remarks,
    start_remarks,
)
from rayalign.config.run import RunConfig
from rayalign.config.stages import AllConfig, StageConfig
from rayalign.dashboard.training import training_charts
from rayalign.loop.run import run_rounds
from rayalign.records import Groups
from tests.fakes import Killed, make_config, make_run

CONFIGS = Path(__file__).parents[2] / "configs"
DOCS = Path(__file__).parents[2] / "docs" / "config.md"
DEMO, SMOLLM2 = 600_000, 134_500_000
SIZES = {"smollm2.yaml": (SMOLLM2, 680)}
"""Of configs whose base is not the demo model: parameters, prompts to train on."""
STAGES = {"demo_all.yaml", "sft_demo.yaml", "reward_model_demo.yaml"}
ROUNDS = sorted(path for path in CONFIGS.glob("*.yaml") if path.name not in STAGES)


def remarks(parameters: int = DEMO, prompts: int = 2000, **changes: Any) -> list[str]:
    """For a round of 256 prompts in steps of 8."""
    return list(start_remarks(make_config(**{"prompts": {"source": "demo"}, **changes}), parameters, prompts))


@pytest.mark.parametrize("path", ROUNDS, ids=lambda path: path.name)
def test_the_shipped_configs_are_said_nothing_of(path: Path) -> None:
    assert list(start_remarks(load_config(path), *SIZES.get(path.name, (DEMO, 2000)))) == []


def test_classes_follow_each_other() -> None:
    """Larger models and whole weights learn with less, and what is usual is neither low nor high."""
    for one, larger in itertools.pairwise(LEARNING_RATES):
        assert one.below < larger.below and one.lora.usual > larger.lora.usual and one.full.usual > larger.full.usual
    for one in LEARNING_RATES:
        assert one.full.usual < one.lora.usual
        assert all(rates.low < rates.usual < rates.high for rates in (one.lora, one.full))
    assert LEARNING_RATES[-1].below == float("inf")


def test_the_documented_table_is_the_one_used() -> None:
    rows = re.findall(r"^\| (?:fewer than (\w+)|more) \| (.*) \| (.*) \|$", DOCS.read_text(), re.MULTILINE)
    units = {"M": 1e6, "B": 1e9}
    cells = [[[float(n) for n in re.findall(r"\d\.\de-\d", cell)] for cell in row[1:]] for row in rows]
    assert [float(size[:-1]) * units[size[-1]] if size else float("inf") for size, *_ in rows] == [
        one.below for one in LEARNING_RATES
    ]
    assert cells == [[[rates.usual, rates.low, rates.high] for rates in (one.lora, one.full)] for one in LEARNING_RATES]


@pytest.mark.parametrize(
    ("parameters", "rate", "full"),
    [
        (SMOLLM2, 2e-4, False),  # as published, or in docs/log.md
        (7_000_000_000, 5e-6, False),
        (13_000_000_000, 4e-4, False),
        (7_000_000_000, 5e-7, True),
        (47_000_000_000, 5e-7, True),
        (DEMO, 1e-4, True),
    ],
)
def test_published_rates_are_not_far_off(parameters: int, rate: float, full: bool) -> None:
    assert rate_remark(rate, parameters, full=full) is None


@pytest.mark.parametrize(
    ("parameters", "changes", "said"),
    [
        (SMOLLM2, {}, "training.learning_rate 3.0e-3 is high for an adapter of a model of 134M parameters, .*5.0e-4"),
        (500_000_000, {"learning_rate": 1e-3}, "1.0e-3 is high .* 500M parameters, .*1.0e-4 is usual"),
        (7_240_000_000, {}, "3.0e-3 is high .* 7.24B parameters, .*5.0e-5 is usual"),
        (SMOLLM2, {"learning_rate": 1e-6}, "1.0e-6 is low for an adapter .*hardly learns.*5.0e-4 is usual"),
        (DEMO, {"learning_rate": 0.1}, "1.0e-1 is high for an adapter of a model of 600k parameters"),
        (SMOLLM2, {"learning_rate": {"start": 1e-4, "end": 9e-3, "rounds": 2}}, "7.2e-3 is high"),
    ],
)
def test_a_rate_that_is_far_off_is_told_with_the_usual_one(parameters: int, changes: dict[str, Any], said: str) -> None:
    """The schedule's second round: 9e-3 times round_decay 0.8."""
    (remark,) = remarks(parameters, training=changes)
    assert re.search(said, remark) and "\n" not in remark


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_all_weights_want_far_less(quantization: str) -> None:
    """The same rate, for an adapter (over weights of four bits too) and for all weights."""
    training = {"learning_rate": 3e-4}
    assert remarks(SMOLLM2, training=training, model={"base": "m", "quantization": quantization}) == []
    (remark,) = remarks(SMOLLM2, training=training, model={"base": "m", "full": True})
    assert "3.0e-4 is high for all weights" in remark and "5.0e-6 is usual" in remark


def test_the_peak_of_all_rounds() -> None:
    schedule = {"type": "constant", "round_decay": 0.5}
    assert peak_rate(make_config(training={"learning_rate": 4e-4, "schedule": schedule})) == 4e-4


@pytest.mark.parametrize(
    ("prompts", "changes", "said"),
    [
        (
            2000,
            {"training": {"group_batch": 64}},
            "at most 4 optimizer steps .*\\(64\\), raise prompts.per_round",
        ),
        (7, {"training": {"group_batch": 1}}, "hardly move a model: give more prompts, or raise training.epochs$"),
        (56, {}, "at most 7 optimizer steps .*\\(8\\), give more prompts, or raise training.epochs"),
    ],
)
def test_few_steps_name_the_keys_that_make_more(prompts: int, changes: dict[str, Any], said: str) -> None:
    (remark,) = remarks(prompts=prompts, **changes)
    assert re.search(said, remark)
    assert remarks(prompts=64) == [] and remarks(prompts=56, training={"epochs": 2}) == []


def test_groups_that_were_dropped_leave_few_steps() -> None:
    training = make_config().training
    assert left_remark(training, 57, 199) is None, "eight steps"
    assert left_remark(training, 40, 8) is None, "six were planned, which was said at the start"
    found = left_remark(training, 16, 240)
    assert found is not None and found.startswith("240 of 256 groups were dropped, 2 optimizer steps are left")
    assert "training.group_batch (8)" in found and "training.epochs" in found


def of_rewards(config: RunConfig, spread: float, share: float, levels: float = 3) -> list[str]:
    stats = {"reward_spread": spread, "reward_levels": levels, "best_share/nca": share, "best_share/info_nca": share}
    return list(reward_remarks(config, 1, stats))


def test_ratings_at_the_default_alpha_are_said_to_be_best_takes_all() -> None:
    (remark,) = of_rewards(make_config(), 1.234, 0.99993)
    assert remark == (
        "the rewards of a prompt have a standard deviation of 1.23, and objective.alpha is 0.1: the best answers have "
        "99.99% of the weight, nearly all; set objective.alpha: auto, or near 1.2"
    )
    assert of_rewards(make_config(), 1.234, 1.0, levels=2) == [], "right or wrong: the right ones should have all"
    assert of_rewards(make_config(objective={"type": "nca", "alpha": 1.0}), 1.234, 0.6) == []
    assert of_rewards(make_config(objective={"type": "nca", "alpha": "auto"}), 1.234, 0.6) == []
    assert of_rewards(make_config(), 0.5, 0.999) == [], "the largest deviation of rewards between 0 and 1"


def test_rewards_that_alpha_flattens() -> None:
    (remark,) = of_rewards(make_config(), 0.004, 0.26)
    assert "26.00% of the weight, hardly more than others; set objective.alpha: auto, or near 0.004" in remark


def test_each_objective_of_several_is_named_by_its_key() -> None:
    both = [{"type": "nca", "alpha": 2.0}, {"type": "info_nca", "alpha": {"start": 0.1, "end": 1.0, "rounds": 2}}]
    (remark,) = of_rewards(make_config(objective=both), 3.0, 0.97)
    assert "objective.1.alpha is 0.1" in remark and "set objective.1.alpha: auto" in remark


def test_a_round_of_equal_rewards() -> None:
    (remark,) = reward_remarks(make_config(), 1, {"reward_spread": 0.0})
    assert remark.startswith("no prompt has answers of different rewards")
    assert list(reward_remarks(make_config(), 1, {})) == [], "of objectives without rewards nothing was measured"


def test_the_first_round_says_it_before_its_update(tmp_path: Path) -> None:
    """Rewards of 1 to 10 at alpha .1; once for a run, and again by a process that resumes it."""
    run = make_run(tmp_path)
    run.parts.scorer.reward_of = lambda sample: float(sum(sample.token_ids[:1]))
    run_rounds(run)
    said = [line for line in run.parts.reporter.said if "best answers" in line]
    assert len(said) == 1 and said[0].startswith("round 1 · the rewards of a prompt")
    stats = run.run_dir.round(2).committed("groups")["groups"]["stats"]
    assert stats["best_share/nca"] > 0.99 and stats["reward_spread"] > 1
    assert run.run_dir.round(2).report()["groups"]["stats"] == stats


def test_auto_is_said_in_every_round(tmp_path: Path) -> None:
    run = make_run(tmp_path, make_config(objective={"type": "nca", "alpha": "auto"}))
    run.parts.scorer.reward_of = lambda sample: float(sum(sample.token_ids[:1]))
    run_rounds(run)
    spreads = [run.run_dir.round(r).committed("groups")["groups"]["stats"]["reward_spread"] for r in (1, 2, 3)]
    said = [line for line in run.parts.reporter.said if "alpha" in line]
    assert said == [
        f"round {r} · nca: alpha {spread:.3g}, from the rewards' spread within a prompt"
        for r, spread in zip((1, 2, 3), spreads, strict=True)
    ]


def of_stage(parameters: int, steps: int, model: dict[str, Any], **training: Any) -> list[str]:
    config = StageConfig.model_validate(
        {"model": {"base": "m", **model}, "data": {"source": "s"}, "training": training}
    )
    return list(stage_remarks(config, parameters, steps))


def test_what_is_said_of_a_stage() -> None:
    assert of_stage(7_000_000_000, 100, {}) == [] == of_stage(DEMO, 8, {"quantization": "nf4"}), "the default rate"
    (rate,) = of_stage(7_000_000_000, 100, {}, learning_rate=2e-3)
    assert rate.startswith("training.learning_rate 2.0e-3 is high for an adapter of a model of 7B parameters")
    assert of_stage(DEMO, 100, {"full": True}, learning_rate=2e-3) == []
    (steps,) = of_stage(DEMO, 7, {})
    assert steps.startswith("7 optimizer steps in all") and "training.batch (16)" in steps


@pytest.mark.parametrize("name", ["sft_demo.yaml", "reward_model_demo.yaml"])
def test_the_shipped_stages_are_said_nothing_of(name: str) -> None:
    assert list(stage_remarks(load_config_of(StageConfig, CONFIGS / name), DEMO, 100)) == []


def test_the_rounds_of_all_stages_are_said_nothing_of() -> None:
    rounds = load_config_of(AllConfig, CONFIGS / "demo_all.yaml").rounds
    assert list(start_remarks(rounds, DEMO, 2000)) == []


def test_resumed_with_auto_before_the_update(tmp_path: Path) -> None:
    """The remark's remedy: the groups that are there are measured again, and what is then committed stays."""
    fixed = make_run(tmp_path)
    killed = pytest.MonkeyPatch()
    spreads = []

    def die(*_: Any) -> None:
        raise Killed

    with killed.context() as patch, pytest.raises(Killed):
        patch.setattr(fixed.parts.learner, "update", die)
        run_rounds(fixed)
    assert "best_share/nca" in fixed.run_dir.round(1).committed("groups")["groups"]["stats"]
    for _ in range(2):
        auto = make_run(tmp_path, make_config(objective={"type": "nca", "alpha": "auto"}))

        def note(index: int, groups: Groups, *_: Any) -> None:
            spreads.append((index, groups.stats["reward_spread"]))
            raise Killed

        with killed.context() as patch, pytest.raises(Killed):
            patch.setattr(auto.parts.learner, "update", note)
            run_rounds(auto)
        committed = auto.run_dir.round(1).committed("groups")
        assert committed["settings"]["objective"]["alpha"] == "auto"
        assert "best_share/nca" not in committed["groups"]["stats"]
    assert spreads[0] == spreads[1] == (1, committed["groups"]["stats"]["reward_spread"])


def test_the_page_has_a_chart_of_an_alpha_that_the_rewards_set() -> None:
    charts = training_charts([(1, {"training": {"alpha": 0.25}}), (2, {"training": {"alpha": 0.125}})])
    assert [(chart.title, chart.latest) for chart in charts] == [("Alpha", "0.125")]
    assert training_charts([(1, {"training": {}})]) == []
