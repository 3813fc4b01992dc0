"""`measure` on three answers to two prompts, every number counted by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rayalign.evaluation.metrics import distinct_2, measure
from rayalign.records import Metric, Sample, Score, ScoredSample


def sample(prompt: str, index: int, token_ids: list[int], text: str = "", finish: Any = "stop") -> Sample:
    return Sample(prompt, index, text or f"{prompt}{index}", token_ids, [0.0] * len(token_ids), finish, 1, 0)


def row(
    prompt: str, index: int, reward: float | None, scores: list[Score] | None = None, **fields: Any
) -> ScoredSample:
    return ScoredSample(sample(prompt, index, fields.pop("token_ids", [1, 2, 3]), **fields), scores or [], reward)


def score(reward: float | None, status: Any = "ok", scorer: str = "rule:demo") -> Score:
    return Score(scorer=scorer, scorer_version="1", status=status, reward=reward)


def measured(rows: list[ScoredSample], rules: set[str] | None = None, **given: Any) -> dict[str, Metric]:
    return measure(rows, given.get("kl_sums"), given.get("baselines", {}), rules or set(), seed=0)


def test_rewards_are_means_over_the_answers_that_have_one() -> None:
    """Combined: (1 + 0) / 2, the missing one left out. rm: (0.5 + 0.25) / 2, the timeout's stray 9 ignored."""
    rows = [
        row("a", 0, 1.0, [score(0.5, scorer="rm")]),
        row("a", 1, None, [score(9.0, "timeout", "rm")]),
        row("b", 0, 0.0, [score(0.25, scorer="rm"), score(None, scorer="judge")]),
    ]
    metrics = measured(rows)
    assert (metrics["mean_reward"].value, metrics["mean_reward"].n) == (0.5, 2)
    assert (metrics["mean_reward/rm"].value, metrics["mean_reward/rm"].n) == (0.375, 2)
    assert "mean_reward/judge" not in metrics


def test_pass_rate_counts_scores_of_exactly_one() -> None:
    """1 passes, 0.99 and 0 do not, the timeout and the answer without a rule score are left out: 1 of 3."""
    rows = [
        row("a", 0, 1.0, [score(1.0)]),
        row("a", 1, 1.0, [score(0.99)]),
        row("b", 0, 0.0, [score(0.0), score(1.0, scorer="rm")]),
        row("b", 1, 0.0, [score(1.0, "timeout")]),
        row("c", 0, 1.0, [score(1.0, scorer="rm")]),
    ]
    metric = measured(rows, {"rule:demo"})["pass_rate"]
    assert (metric.value, metric.n) == (pytest.approx(1 / 3), 3)
    assert "pass_rate" not in measured(rows)


def test_several_rules_must_all_be_met() -> None:
    """Both met; one broken; one unknown (left out); one abstains and so has no say: 2 of 3."""
    rules = {"rule:demo", "rule:other"}
    rows = [
        row("a", 0, 1.0, [score(1.0), score(1.0, scorer="rule:other")]),
        row("a", 1, 1.0, [score(1.0), score(0.0, scorer="rule:other")]),
        row("a", 2, 1.0, [score(1.0), score(None, "error", "rule:other")]),
        row("a", 3, 1.0, [score(1.0), score(None, "abstain", "rule:other")]),
    ]
    metric = measured(rows, rules)["pass_rate"]
    assert (metric.value, metric.n) == (pytest.approx(2 / 3), 3)


def test_lengths_truncation_and_duplicates() -> None:
    """Lengths 2, 4, 3, 3: mean 3. One of four was cut off. Only a/1 repeats an answer to its own prompt."""
    rows = [
        row("a", 0, None, text="same", token_ids=[1, 2]),
        row("a", 1, None, text="same", token_ids=[1, 2, 3, 4], finish="length"),
        row("b", 0, None, text="same"),
        row("b", 1, None, text="other"),
    ]
    metrics = measured(rows)
    assert metrics["length_tokens"].value == 3.0
    assert metrics["truncation_rate"].value == 0.25
    assert metrics["duplicate_rate"].value == 0.25
    assert {metrics[name].n for name in ("length_tokens", "truncation_rate", "duplicate_rate")} == {4}
    assert "mean_reward" not in metrics


def test_kl_is_the_mean_of_the_sums_clustered_by_prompt() -> None:
    """(1 + 3 + 2) / 3 = 2. Resamples of {a: 1, 3; b: 2} all have mean 2; answers as clusters would vary."""
    rows = [row("a", 0, None), row("a", 1, None), row("b", 0, None)]
    kl = measured(rows, kl_sums={("a", 0): 1.0, ("a", 1): 3.0, ("b", 0): 2.0})["kl_base"]
    assert (kl.value, kl.n, kl.ci95) == (2.0, 3, (2.0, 2.0))
    assert "kl_base" not in measured(rows)
    assert "kl_base" not in measured(rows, kl_sums={})


def test_win_rates_are_named_after_their_baselines() -> None:
    rows = [row("a", 0, 1.0), row("b", 0, 0.0)]
    worse, better = [row("a", 0, 0.0), row("b", 0, -1.0)], [row("a", 0, 2.0), row("b", 0, None)]
    metrics = measured(rows, baselines={"round_0": worse, "previous": better, "none": [row("z", 0, 1.0)]})
    assert metrics["win_rate/round_0"].value == 1.0
    assert (metrics["win_rate/previous"].value, metrics["win_rate/previous"].n) == (0.0, 1)
    assert "win_rate/none" not in metrics


def test_distinct_2_counts_bigrams_within_answers() -> None:
    """a: (1,2) (2,1) (1,2); b: (1,2); c: one token, none. 2 distinct of 4. (3 of 5 if answers were glued.)"""
    samples = [sample("a", 0, [1, 2, 1, 2]), sample("b", 0, [1, 2]), sample("c", 0, [7])]
    metric = distinct_2(samples, seed=0)
    assert metric is not None
    assert (metric.value, metric.n) == (0.5, 3)
    assert distinct_2([sample("a", 0, [1]), sample("b", 0, [])], seed=0) is None


def test_distinct_2_interval_holds_the_value_where_plain_resampling_would_not() -> None:
    """All bigrams differ: leaving out any prompt leaves 1.0, so there is no spread. Plain resampling gives ~0.63."""
    samples = [sample(f"p{index}", 0, [2 * index, 2 * index + 1]) for index in range(50)]
    assert distinct_2(samples, seed=0) == Metric(1.0, 50, (1.0, 1.0))


def test_distinct_2_interval_is_that_of_the_pseudo_values() -> None:
    """Prompts: a (1,2); b (1,2) (3,4). Value 2/3. Without a: 1; without b: 1. Pseudo-values 2 * 2/3 - 1 = 1/3 each.

    No spread, so the interval is the value. With c (1,2) (1,2): value 2/5, without a 2/4, without b 1/3, without c
    2/3; pseudo-values 6/5 - 1 = 1/5, 6/5 - 2/3 = 8/15, 6/5 - 4/3 = -2/15, mean 1/5. Three drawn prompts all b
    (odds 1/27 > 2.5 %) or all c bound it: 2/5 + 1/3 and 2/5 - 1/3.
    """
    samples = [sample("a", 0, [1, 2]), sample("b", 0, [1, 2]), sample("b", 1, [3, 4])]
    two = distinct_2(samples, seed=0)
    assert two is not None
    assert two.value == pytest.approx(2 / 3)
    assert two.ci95 == pytest.approx((2 / 3, 2 / 3))
    three = distinct_2([*samples, sample("c", 0, [1, 2]), sample("c", 1, [1, 2])], seed=0)
    assert three is not None
    assert three.value == pytest.approx(2 / 5)
    assert three.ci95 == pytest.approx((2 / 5 - 1 / 3, 2 / 5 + 1 / 3))


def test_measure_names_exactly_the_metrics_of_the_design() -> None:
    rows = [row("a", 0, 1.0, [score(1.0)]), row("b", 0, 0.0, [score(0.0)])]
    metrics = measured(rows, {"rule:demo"}, kl_sums={("a", 0): 0.5}, baselines={"round_0": rows, "previous": rows})
    assert set(metrics) == {
        "mean_reward", "mean_reward/rule:demo", "pass_rate", "win_rate/round_0", "win_rate/previous",
        "equal_length_win_rate/round_0", "equal_length_win_rate/previous",
        "kl_base", "length_tokens", "truncation_rate", "distinct_2", "duplicate_rate",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "kl_sums", "found"),
    [
        ([], None, "no answers"),
        ([row("a", 0, 1.0), row("a", 0, 1.0)], None, "answer 0 of prompt a occurs twice"),
        ([row("a", 0, 1.0)], {("b", 0): 1.0}, "KL of answer 0 of prompt b"),
        ([row("a", 0, math.nan)], None, "is nan"),
        ([row("a", 0, 1.0)], {("a", 0): math.nan}, "is nan"),
        ([row("a", 0, 1.0, [score(math.nan)])], None, "rule score of prompt a is NaN"),
    ],
)
def test_refuses(rows: list[ScoredSample], kl_sums: Any, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        measured(rows, {"rule:demo"}, kl_sums=kl_sums)
