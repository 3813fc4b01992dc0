"""The headline's verdict and the alarms: when they speak, what they say, and when they are silent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rayalign.dashboard.alarms import KINDS, page_alarms
from rayalign.dashboard.headline import headline, summary
from rayalign.dashboard.held_out import HeldOut
from rayalign.dashboard.readings import reading
from rayalign.dashboard.verdicts import ENOUGH_PROMPTS, Verdict, verdict

ENOUGH = {"evaluation": {"responses": 4}}


def metric(value: float, half: float = 0.05, n: int = 400) -> dict[str, Any]:
    return {"value": value, "n": n, "ci95": [value - half, value + half]}


def judged(rounds: list[dict[str, Any]], held_out: list[HeldOut] | None = None, config: Any = ENOUGH) -> Any:
    """(verdict, alarms by kind, tiles by label) of rounds 0, 1, ..."""
    numbered = list(enumerate(rounds))
    readings = [
        (index, {name: found for name, one in report["metrics"].items() if (found := reading(one))})
        for index, report in numbered
        if report.get("metrics")
    ]
    found = verdict(numbered, readings, held_out or [], config)
    alarms = {alarm.kind: alarm.seen for alarm in page_alarms(numbered, readings, found)}
    named = {kind: alarms[KINDS[kind]] for kind in KINDS if KINDS[kind] in alarms}
    return found, named, {tile.label: tile for tile in headline(found, readings, rounds)}


def rates(*values: float, n: int = 400, half: float = 0.05) -> list[dict[str, Any]]:
    return [{"metrics": {"pass_rate": metric(value, half, n)}} for value in values]


@pytest.mark.parametrize(
    ("last", "word"), [(0.6, "better"), (0.4, "worse"), (0.55, "none"), (0.45, "none"), (0.575, "better")]
)
def test_without_a_test_both_intervals_are_joined(last: float, word: str) -> None:
    """Half widths of .05 each give .05 * sqrt 2 = .0707 for the difference."""
    found, _, _ = judged(rates(0.5, last))
    assert found.word == word and found.how == "estimated from both intervals"
    low, high = found.interval
    assert (low, high) == pytest.approx((last - 0.5 - 0.0707, last - 0.5 + 0.0707), abs=1e-4)


def compared(word: str, metric_name: str = "pass_rate", baseline: int = 0) -> dict[str, Any]:
    difference = {"value": 0.02, "n": 100, "ci95": [0.01, 0.03]}
    return {"round_0": {"round": baseline, "metric": metric_name, "n": 100, "difference": difference, "p": 0.01,
                        "p_holm": 0.0123, "test": "wilcoxon", "verdict": word}}  # fmt: skip


def test_the_runs_own_test_comes_first() -> None:
    """The intervals alone would see no difference."""
    rounds = rates(0.5, 0.52)
    rounds[1]["comparisons"] = compared("better")
    found, _, tiles = judged(rounds)
    assert (found.word, found.interval) == ("better", (0.01, 0.03))
    tile = tiles["pass rate on 100 held-out prompts"]
    assert tile.verdict == "significantly better" and tile.tone == "good"
    assert tile.how == "paired wilcoxon over prompts, p = 0.012 (Holm)"
    assert summary(found) == "The model got better: pass rate 50.0% in round 0, 52.0% in round 1."


@pytest.mark.parametrize(
    "other",
    [compared("better", "mean_reward"), compared("better", baseline=3), compared("sure"), {"round_0": 3}, [], None,
     {"round_0": {"round": 0, "metric": "pass_rate", "verdict": "better", "difference": {"value": "much"}}}],
)  # fmt: skip
def test_a_test_of_something_else_is_not_taken(other: Any) -> None:
    rounds = rates(0.5, 0.52)
    rounds[1]["comparisons"] = other
    assert judged(rounds)[0].how == "estimated from both intervals"


def stored(index: int, rewards_P: np.ndarray) -> HeldOut:
    prompts = tuple(f"{place:04d}" for place in range(len(rewards_P)))
    return HeldOut(index, prompts, rewards_P[:, None], np.ones((len(rewards_P), 1)))


def test_stored_rewards_are_paired_by_prompt() -> None:
    """Prompts differ by much and each gains .1 ± .01: paired it is clear, by the intervals of the means it is not."""
    rng = np.random.default_rng(0)
    before = rng.normal(0, 1, 100)
    after = before + 0.1 + rng.choice([-0.01, 0.01], 100)
    rounds = [{"metrics": {"mean_reward": metric(value, 0.2)}} for value in (before.mean(), after.mean())]
    found, _, _ = judged(rounds, [stored(0, before), stored(1, after)])
    assert found.word == "better" and found.prompts == 100
    assert found.interval == pytest.approx((0.1 - 0.00196, 0.1 + 0.00196), abs=2e-3)
    assert judged(rounds)[0].word == "none"


@pytest.mark.parametrize(("prompts", "word"), [(ENOUGH_PROMPTS - 1, "few"), (ENOUGH_PROMPTS, "worse")])
def test_no_verdict_on_few_prompts(prompts: int, word: str) -> None:
    """Four answers to each prompt: 116 answers are 29 prompts."""
    found, alarms, tiles = judged([one | {"metrics": one["metrics"] | {"win_rate/round_0": metric(0.2)}}
                                   for one in rates(0.9, 0.1, n=4 * prompts)])  # fmt: skip
    assert found.word == word and found.prompts == prompts
    assert ("worse" in alarms, "collapse" in alarms) == (word == "worse", word == "worse")
    win = tiles["win rate vs round 0"]
    assert (win.tone == "plain") == (word == "few") == ("few" in win.verdict)
    assert ("No verdict, 29 held-out prompts are fewer than 30" in summary(found)) == (word == "few")


@pytest.mark.parametrize(("answers", "prompts"), [(10, 10), (29, 29), (30, None)])
def test_without_the_number_of_answers_only_few_are_known_to_be_few(answers: int, prompts: int | None) -> None:
    assert judged(rates(0.5, 0.9, n=answers), config={})[0].prompts == prompts


def test_a_collapse_blames_the_model_first() -> None:
    rounds = rates(0.477, 0.6, 0.0, half=0.03)
    rounds[2]["trust"] = {"alarms": ["rule:demo gives every answer the same: 0, 512 times"]}
    _, alarms, tiles = judged(rounds)
    assert list(alarms) == ["worse", "collapse", "constant"]
    assert alarms["worse"] == ((2, "pass rate 0.0%, in round 0 47.7%"),)
    assert alarms["collapse"] == ((2, "pass rate 0.0%, in round 1 it was 60.0%"),)
    assert tiles["best round"].value == "1"


def test_every_alarm_says_what_it_means_and_what_to_do() -> None:
    for kind in KINDS.values():
        assert kind.title and kind.meaning.endswith(".") and kind.remedy.endswith(".")


SAID = {
    "canaries": "judge:a puts canaries above the median answer: empty on 5 of 8 prompts",
    "drift": "judge:a drifts: its scores of 16 fixed answers moved by 0.5 on average since round 0; their ...",
    "gap": "rm rises while rule falls: the model learns to please the scorer alone",
    "constant": "rule gives every answer the same: 0, 8 times",
    "failures": "judge:a gave none of 10 answers a score; most often error: HTTP 503",
    "other": "something that a later version says",
}


@pytest.mark.parametrize("kind", list(SAID))
def test_alarms_of_the_run_are_told_by_kind(kind: str) -> None:
    _, alarms, _ = judged([{"trust": {"alarms": [SAID[kind]]}}])
    assert alarms == {kind: ((0, SAID[kind]),)}


def test_the_runs_own_alarms_are_those_that_the_page_knows() -> None:
    """Made by the code that makes them in a run."""
    from rayalign.evaluation.alarms import alarms

    counts = {"answers": 10, "status": {"ok": 8}, "reasons": {}, "aspects": {}, "cost": 0.0}
    failed = {"answers": 10, "status": {"error": 10}, "reasons": {"error: HTTP 503": 10}}
    down, up = metric(-1.0), metric(1.0)
    trust: dict[str, Any] = {
        "gold": "rule",
        "scorers": {"a": {**counts, "always": 0.0}, "b": failed},
        "canaries": {"scorers": {"c": {"empty": {"beat": 5, "compared": 8, "alarm": True}}}},
        "drift": {"since": 0, "scorers": {"d": {"alarm": True, "compared": 16, "mean_change": 0.5, "spread": 0.1}}},
        "gap": {"e": {"proxy": up, "gold": down}},
    }
    _, found, _ = judged([{"trust": {"alarms": [*alarms(trust), *alarms({"canaries": {"failed": "no reply"}})]}}])
    assert {kind: len(seen) for kind, seen in found.items()} == {
        "constant": 1, "failures": 2, "canaries": 1, "drift": 1, "gap": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "first", "last", "half", "kind"),
    [
        ("duplicate_rate", 0.1, 0.6, 0.05, "same"), ("duplicate_rate", 0.1, 0.4, 0.05, None),
        ("duplicate_rate", 0.55, 0.7, 0.05, None), ("distinct_2", 0.4, 0.1, 0.02, "same"),
        ("distinct_2", 0.4, 0.3, 0.02, None), ("truncation_rate", 0.0, 0.2, 0.02, "truncation"),
        ("truncation_rate", 0.0, 0.05, 0.02, None), ("truncation_rate", 0.0, 0.2, 0.2, None),
        ("length_tokens", 20, 40, 2, "length"), ("length_tokens", 40, 20, 2, "length"),
        ("length_tokens", 20, 25, 2, None), ("length_tokens", 20, 40, 20, None), ("length_tokens", 0, 0, 0, None),
    ],
)  # fmt: skip
def test_changes_of_behaviour(name: str, first: float, last: float, half: float, kind: str | None) -> None:
    """Large ones, whose intervals do not overlap."""
    _, alarms, _ = judged([{"metrics": {name: metric(value, half)}} for value in (first, last)])
    assert list(alarms) == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("report", "kind"),
    [
        ({"scores": {"ok": 90, "error": 6, "timeout": 4}}, "failures"), ({"scores": {"ok": 91, "error": 9}}, None),
        ({"scores": {"ok": 50, "abstain": 50}}, None), ({"scores": {"ok": "many"}}, None),
        ({"groups": {"kept": 40, "dropped": {"equal_rewards": 50, "no_reward": 10}}}, "dropped"),
        ({"groups": {"kept": 60, "dropped": {"equal_rewards": 40}}}, None),
        ({"groups": {"kept": 1, "dropped": {"equal_rewards": 5}}}, None),
        ({"gate": {"metric": "pass_rate", "did": "restored", "best_round": 0}}, "gate"),
        ({"gate": {"metric": "pass_rate", "did": "stopped", "best_round": 0}}, "gate"),
        ({"gate": {"metric": "pass_rate", "did": "kept", "best_round": 0, "worse": True}}, None),
    ],
)  # fmt: skip
def test_alarms_of_single_rounds(report: dict[str, Any], kind: str | None) -> None:
    _, alarms, _ = judged([report])
    assert list(alarms) == ([kind] if kind else [])


def test_gate_is_told_in_the_headline() -> None:
    gate = {"metric": "pass_rate", "action": "restore_best", "best_round": 0, "did": "kept"}
    rounds = [one | {"round": index, "gate": gate} for index, one in enumerate(rates(0.5, 0.5, 0.2))]
    assert judged(rounds)[2]["publish gate"].verdict == "every round passed"
    rounds[2]["gate"] = {**gate, "did": "restored"}
    tile = judged(rounds)[2]["publish gate"]
    assert (tile.value, tile.verdict) == ("2 of 3", "a round was held back")
    assert tile.detail == "by pass_rate, action restore_best; round 2: restored, best 0"


def test_one_round_is_not_compared() -> None:
    found, alarms, tiles = judged(rates(0.5))
    assert isinstance(found, Verdict) and not found.rounds_differ
    assert summary(found) == "" and not alarms and "best round" not in tiles
