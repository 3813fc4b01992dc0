"""Which charts a run's reports and events give, and from which numbers."""

from __future__ import annotations

from typing import Any

from rayalign.dashboard.curves import behaviour_charts, benchmark_charts, quality_charts
from rayalign.dashboard.readings import Reading
from rayalign.dashboard.round_tables import benchmark_tables
from rayalign.dashboard.scores import score_charts
from rayalign.dashboard.training import training_charts
from rayalign.dashboard.work import pool_charts, sync_charts, time_charts
from tests.unit.test_charts import there
from tests.unit.test_replica_tables import ALONE, CHANGED, event
from tests.unit.test_report import metric, trusted


def values(chart: Any) -> list[dict[str, Any]]:
    return there(chart).spec["data"]["values"]


def by_title(charts: list[Any]) -> dict[str, Any]:
    return {chart.title: chart for chart in charts}


def test_every_metric_is_in_one_chart() -> None:
    names = {
        "pass_rate", "pass_rate/greedy", "mean_reward", "mean_reward/a", "mean_reward/b", "mean_reward/greedy",
        "win_rate/round_0", "win_rate/target", "equal_length_win_rate/round_0", "kl_base", "length_tokens",
        "truncation_rate", "distinct_2", "duplicate_rate", "something/new",
    }  # fmt: skip
    readings = [(index, dict.fromkeys(names, Reading(0.5, (0.4, 0.6)))) for index in range(2)]
    charts = by_title([*quality_charts(readings), *behaviour_charts(readings)])
    assert list(charts)[:4] == ["Pass rate", "Mean reward", "Reward by scorer", "Win rate"]
    assert charts["Reward by scorer"].legend == ("reward a", "reward b")
    assert charts["Pass rate"].legend == ("pass rate", "pass rate, greedy")
    assert sum(max(1, len(chart.legend)) for chart in charts.values()) == len(names)
    assert "something/new" in charts


def benchmarked(index: int) -> dict[str, Any]:
    strict, turn = metric(0.25 * index), metric(5.0 + index)
    return {
        "instructions": {"metrics": {"strict": strict, "loose": metric(0.5), "score": turn}, "facts": {"prompts": 50}}
    }


def test_benchmarks_are_curves_and_tables() -> None:
    """A metric of another scale is in the table only, and the chart says so."""
    rounds = [(0, {"benchmarks": benchmarked(0)}), (1, {}), (2, {"benchmarks": benchmarked(2)})]
    chart = by_title(benchmark_charts(rounds))["instructions"]
    assert [(row["s"], row["x"], row["y"]) for row in values(chart)] == [
        ("strict", 0, 0.0), ("strict", 2, 0.5), ("loose", 0, 0.5), ("loose", 2, 0.5)
    ]  # fmt: skip
    assert chart.note == "benchmark; 1 more metrics in its table" and chart.latest == "50.0%"
    (table,) = benchmark_tables(rounds)
    assert table.columns == ["strict", "loose", "score", "prompts"]
    assert table.rows[1] == (
        2,
        [("50.0%", "[45.0, 55.0]"), ("50.0%", "[45.0, 55.0]"), ("7.000", "[6.950, 7.050]"), ("50", "")],
    )


def test_damaged_benchmarks_are_left_out() -> None:
    odd: list[Any] = [None, 3, {"a": 3}, {"a": {"metrics": 3}}, {"a": {"metrics": {"m": {"value": "high"}}}}]
    rounds = [(index, {"benchmarks": one}) for index, one in enumerate(odd)]
    assert benchmark_charts(rounds) == [] and benchmark_tables(rounds) == []


def stage(index: int, name: str, seconds: float) -> dict[str, Any]:
    return event(1, "stage", round=index, stage=name, seconds=seconds, items=1, tokens=0)


def test_time_is_the_logs_and_adds_up_over_attempts() -> None:
    events = [
        stage(0, "start actors", 60.0), stage(1, "sample", 4.0), stage(1, "update", 9.0), stage(1, "sample", 2.0),
        stage(0, "evaluate", 1.0), event(2, "stage", round="odd", stage="x", seconds=5.0),
    ]  # fmt: skip
    reports = [(1, {"stages": {"sample": {"seconds": 2.0, "tokens": 100}, "update": {"seconds": 9.0, "tokens": 50}}})]
    charts = by_title(time_charts(reports, events))
    assert [(row["x"], row["s"], row["y"]) for row in values(charts["Time per round"])] == [
        (0, "update", 0.0), (0, "sample", 0.0), (0, "evaluate", 1.0),
        (1, "update", 9.0), (1, "sample", 6.0), (1, "evaluate", 0.0),
    ]  # fmt: skip
    assert charts["Time per round"].note == "seconds by stage; the start took 60 s more"
    assert charts["Tokens per round"].legend == ("update", "sample"), "in the order, and colours, of the other chart"
    without_log = by_title(time_charts(reports, []))["Time per round"]
    assert [(row["s"], row["y"]) for row in values(without_log)] == [("sample", 2.0), ("update", 9.0)]


def test_pools_and_replicas() -> None:
    """The generator's replicas: one joins at 4 s, one at 9, one is lost at 20, back at 33, one goes at 55."""
    assert pool_charts(ALONE) == [] and pool_charts([]) == []
    charts = by_title(pool_charts(CHANGED))
    busy = [(round(row["x"], 3), row["y"]) for row in values(charts["Pools at work"])]
    assert busy == [(round(40 / 60, 3), 0.98), (round(50 / 60, 3), 1.0)]
    steps = [(round(60 * row["x"]), row["y"]) for row in values(charts["Replicas"]) if row["s"] == "generator"]
    assert steps == [(4, 1), (9, 1), (9, 2), (20, 2), (20, 1), (33, 1), (33, 2), (55, 2), (55, 1), (55, 1)]


def test_sync_is_shown_against_what_is_allowed() -> None:
    proofs = [(index, {"sync": {"canary_gap": 0.001, "base_gap": 0.002, "moved": 0.5 * index}}) for index in range(2)]
    (chart,) = sync_charts(proofs, {"sync": {"tolerance": 0.01}})
    assert {(row["s"], row["x"]): row["y"] for row in values(chart)} == {
        ("difference", 0): 0.001, ("difference", 1): 0.001, ("allowed", 0): 0.012, ("allowed", 1): 0.012,
        ("what the adapter moves", 0): 0.0, ("what the adapter moves", 1): 0.5,
    }  # fmt: skip
    assert there(sync_charts(proofs, {})[0]).legend == ("difference", "what the adapter moves")
    assert sync_charts([(0, {"sync": {"gap": 1.0}})], {}) == []


def test_scorers_agree_and_fail() -> None:
    charts = by_title(score_charts([(0, {"trust": trusted()}), (1, {}), (2, {"trust": trusted()})]))
    assert list(charts) == [
        "Reward against truth", "Agreement of scorers", "Scorers against truth", "Reward and length",
        "Answers without a score",
    ]  # fmt: skip
    assert [row["y"] for row in values(charts["Agreement of scorers"])] == [0.625, 0.625]
    assert [(row["s"], row["y"]) for row in values(charts["Answers without a score"])] == [
        ("reward_model:demo: error", 2.0), ("reward_model:demo: error", 2.0)
    ]  # fmt: skip


def test_what_became_of_the_prompts() -> None:
    groups = [
        {"kept": 250, "dropped": {"equal_rewards": 6}},
        {"kept": 200, "dropped": {"no_reward": 50}},
        {"kept": "x"},
    ]
    chart = by_title(training_charts([(index, {"groups": one}) for index, one in enumerate(groups)]))
    rows = values(chart["What became of the prompts"])
    assert [row["y"] for row in rows] == [250, 6, 0, 200, 0, 50, 0, 0, 0]
    assert chart["What became of the prompts"].legend == ("trained on", "dropped: equal rewards", "dropped: no reward")
