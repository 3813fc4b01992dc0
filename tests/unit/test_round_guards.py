"""`guards`: what a run does by itself where a round shows that it goes wrong, with the loop's hand-written parts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from rayalign.config.guards import Guard
from rayalign.config.run import RunConfig
from rayalign.errors import GuardError
from rayalign.evaluation.watch import Seen, found_by
from rayalign.loop.round import Run
from rayalign.loop.run import run_rounds
from tests import graded_run
from tests.fakes import Fuse, Killed, make_config
from tests.graded_run import parents, sampled_by

FALLS = (0.0, 1.0, -3.0, 0.5, 0.5, -3.0, 0.5)
"""Quality of each round's adapter: rounds 2 and 5 are far worse than round 0."""
start = partial(graded_run.start, quality=FALLS)


def config_of(guards: list[dict[str, Any]] | None, rounds: int = 4, **changes: Any) -> RunConfig:
    sections: dict[str, Any] = {
        "run": {"name": "fake", "rounds": rounds},
        "prompts": {"source": "demo", "per_round": 8, "holdout": 24},
        "evaluation": {"responses": 2, "canaries": 0, "anchors": 0},
    }
    given = {} if guards is None else {"guards": guards}
    return make_config(**{**sections, **given, **changes})


def guards(run: Run) -> list[dict[str, Any] | None]:
    return [(one.report() or {}).get("guards") for one in run.run_dir.rounds()[1:]]


def test_a_far_worse_round_stops_a_run_that_says_nothing_of_guards(tmp_path: Path) -> None:
    config = config_of(None)
    with pytest.raises(GuardError, match=r"round 2: mean_reward is .* below round 0's") as stopped:
        run_rounds(start(tmp_path, config))
    assert stopped.value.exit_code == 3 and "round 1's adapter" in stopped.value.remedy
    run = start(tmp_path, config)
    run_rounds(run)
    assert parents(run) == [0, 1, 1, 3], "the same command goes on from the best round"
    assert sampled_by(run, 3) == {1}
    assert [facts and [one["did"] for one in facts["fired"]] for facts in guards(run)] == [
        None,
        ["stopped"],
        None,
        None,
    ]


@pytest.mark.parametrize("quality", [(0.0, 0.1, -0.05, 0.2, 0.3), (0.0, 0.0, 0.0, 0.0, 0.0)])
def test_a_round_that_is_a_little_worse_goes_on(tmp_path: Path, quality: Sequence[float]) -> None:
    run = start(tmp_path, config_of(None), quality=quality)
    run_rounds(run)
    assert parents(run) == [0, 1, 2, 3] and guards(run) == [None] * 4


def test_a_rollback_starts_from_the_best_round_in_smaller_steps(tmp_path: Path) -> None:
    guard = {"type": "worse", "action": "rollback", "times": 2, "step": 0.25}
    run = start(tmp_path, config_of([guard], rounds=6))
    run_rounds(run)
    assert parents(run) == [0, 1, 1, 3, 4, 1]
    assert run.parts.learner.rates == [1.0, 1.0, 0.25, 0.25, 0.25, 0.0625]
    assert sampled_by(run, 3) == {1} and sampled_by(run, 6) == {1}


def test_rolled_back_too_often_it_stops(tmp_path: Path) -> None:
    guard = {"type": "worse", "action": "rollback", "times": 1}
    config = config_of([guard], rounds=6)
    with pytest.raises(GuardError, match="round 5"):
        run_rounds(start(tmp_path, config))


def test_a_warning_changes_nothing(tmp_path: Path) -> None:
    run = start(tmp_path, config_of([{"type": "worse", "action": "warn"}]))
    run_rounds(run)
    assert parents(run) == [0, 1, 2, 3] and run.parts.learner.rates == [1.0] * 4
    assert [facts and facts["fired"][0]["did"] for facts in guards(run)] == [None, "warned", None, None]


@pytest.mark.parametrize("ticks", [9, 17, 24, 31])
def test_killed_anywhere_and_resumed_it_decides_the_same(tmp_path: Path, ticks: int) -> None:
    config = config_of([{"type": "worse", "action": "rollback"}])
    whole = start(tmp_path / "whole", config)
    run_rounds(whole)
    with pytest.raises(Killed):
        run_rounds(start(tmp_path / "run", config, fuse=Fuse(ticks)))
    run = start(tmp_path / "run", config)
    run_rounds(run)
    assert (parents(run), guards(run)) == (parents(whole), guards(whole))


def test_stopped_beside_the_next_rounds_sampling_what_that_has_begun_is_set_aside(tmp_path: Path) -> None:
    config = config_of(None, loop={"evaluate_beside": True})
    with pytest.raises(GuardError, match="round 2"):
        run_rounds(start(tmp_path, config))
    run = start(tmp_path, config)
    assert run.run_dir.round(3).sampler() == 2
    run_rounds(run)
    assert parents(run) == [0, 1, 1, 3] and sampled_by(run, 3) == {1}
    assert list((tmp_path / "set_aside").rglob("prompts.parquet"))


def test_where_the_gate_goes_back_the_run_does_not_stop_too(tmp_path: Path) -> None:
    run = start(tmp_path, config_of(None, evaluation={"responses": 2, "canaries": 0, "anchors": 0, "gate": {}}))
    run_rounds(run)
    assert parents(run) == [0, 1, 1, 1] and guards(run) == [None] * 4


def metric(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "n": 9, "ci95": [value if low is None else low, value if high is None else high]}


def worse(difference: float, p: float = 1e-6, **others: Any) -> dict[str, Any]:
    against = {"round": 0, "metric": "pass_rate", "difference": metric(difference), "p": p, **others}
    return {"comparisons": {"round_0": against}}


def best(difference: float, p: float) -> dict[str, Any]:
    return {"comparisons": {"best": {"difference": metric(difference), "p_holm": p}}}


def gap(proxy: tuple[float, float], gold: tuple[float, float]) -> dict[str, Any]:
    return {"trust": {"gold": "truth", "gap": {"judge": {"proxy": metric(0, *proxy), "gold": metric(0, *gold)}}}}


LONG = [{"metrics": {"length_tokens": metric(10.0), "distinct_2": metric(0.8)}}]
LOSSES = [{"training": {"loss": loss}} for loss in (0.5, 0.7, 0.4)]
NO_GAIN = [best(0.2, 0.01), best(0.1, 0.4), best(-0.1, 0.3)]


@pytest.mark.parametrize(
    ("guard", "report", "before", "found"),
    [
        ({"type": "worse"}, worse(-0.3), [], "pass_rate is 0.300 below round 0's, 1.5 of its prompts' standard"),
        ({"type": "worse"}, worse(-0.05), [], None),
        ({"type": "worse"}, worse(-0.3, p=0.1), [], None),
        ({"type": "worse"}, worse(0.3), [], None),
        ({"type": "worse"}, {}, [], None),
        ({"type": "hacking"}, gap((0.1, 0.4), (-0.5, -0.1)), [], "judge rises while truth falls"),
        ({"type": "hacking"}, gap((0.1, 0.4), (-0.5, 0.1)), [], None),
        ({"type": "kl", "above": 5}, {"metrics": {"kl_base": metric(6.0)}}, [], "kl_base is 6.000 nats, above 5"),
        ({"type": "kl", "above": 5}, {"metrics": {"kl_base": metric(4.0)}}, [], None),
        ({"type": "loss"}, {"training": {"loss": 1.6}}, LOSSES, "above 3 times the 0.500"),
        ({"type": "loss"}, {"training": {"loss": float("nan")}}, LOSSES, "the loss is"),
        ({"type": "loss"}, {"training": {"loss": 1.4}}, LOSSES, None),
        ({"type": "length"}, {"metrics": {"length_tokens": metric(21.0)}}, LONG, "2.1 times round 0's"),
        ({"type": "length"}, {"metrics": {"length_tokens": metric(4.0)}}, LONG, "0.4 times round 0's"),
        ({"type": "length"}, {"metrics": {"length_tokens": metric(19.0)}}, LONG, None),
        ({"type": "diversity"}, {"metrics": {"distinct_2": metric(0.28)}}, LONG, "distinct_2 is 35% of round 0's"),
        ({"type": "diversity"}, {"metrics": {"distinct_2": metric(0.5)}}, LONG, None),
        (
            {"type": "canaries"},
            {"trust": {"canaries": {"scorers": {"judge": {"empty": {"alarm": True}}}}}},
            [],
            "judge puts canaries above",
        ),
        ({"type": "canaries"}, {"trust": {"canaries": {"scorers": {"judge": {"empty": {"alarm": False}}}}}}, [], None),
        ({"type": "drift"}, {"trust": {"drift": {"scorers": {"judge": {"alarm": True}}}}}, [], "judge drifts"),
        ({"type": "drift"}, {"trust": {"drift": None}}, [], None),
        (
            {"type": "scores", "above": 0.1},
            {"trust": {"scorers": {"judge": {"status": {"ok": 80, "error": 10, "timeout": 10}}}}},
            [],
            "judge failed on 20.0% of the answers",
        ),
        (
            {"type": "scores", "above": 0.1},
            {"trust": {"scorers": {"judge": {"status": {"ok": 95, "error": 5}}}}},
            [],
            None,
        ),
        ({"type": "no_gain", "rounds": 3}, best(0.0, 1.0), NO_GAIN, "no round of the last 3"),
        ({"type": "no_gain", "rounds": 4}, best(0.0, 1.0), NO_GAIN, None),
        ({"type": "no_gain", "rounds": 3}, best(0.2, 0.001), NO_GAIN, None),
    ],
)
def test_what_guards_find(guard: dict[str, Any], report: dict[str, Any], before: list[Any], found: str | None) -> None:
    made: Any = TypeAdapter(Guard).validate_python(guard)
    words = found_by(made, Seen(report, before, 0.2, 0.01))
    assert (words is None) if found is None else (words is not None and found in words)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"guards": [{"type": "worse"}, {"type": "worse", "action": "warn"}]}, "two of them are on worse"),
        ({"guards": [{"type": "hacking"}]}, "hacking compares the other scorers with the gold one"),
        (
            {"guards": [{"type": "worse", "action": "rollback"}], "loop": {"max_staleness": 1}},
            "action rollback and loop.max_staleness 1",
        ),
        (
            {"guards": [{"type": "worse", "action": "rollback"}], "loop": {"evaluate_beside": True}},
            "evaluate_beside true with guards: worse rolls back",
        ),
        ({"guards": [{"type": "kl"}]}, "above"),
    ],
)
def test_guards_that_do_not_fit_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        make_config(**changes)


@pytest.mark.parametrize(
    ("proxy", "gold", "found"),
    [
        ((0.1, 0.4), (-0.5, -0.1), "judge rises while truth falls, since round 2"),
        ((0.1, 0.4), (-0.5, 0.1), None),
        ((-0.1, 0.4), (-0.5, -0.1), None),
    ],
)
def test_what_was_learned_first_may_be_lost_later(
    proxy: tuple[float, float], gold: tuple[float, float], found: str | None
) -> None:
    """Since round 0 the true scorer has risen still; since the best round it has fallen."""
    report = gap((0.5, 0.9), (0.2, 0.4))
    since = gap(proxy, gold)["trust"]["gap"]
    guard = TypeAdapter(Guard).validate_python({"type": "hacking"})
    assert found_by(guard, Seen(report, [], None, 0.05, 2, since)) == found
