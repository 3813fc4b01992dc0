"""From the config to backends and one reward per answer: every type is wired, and the scores stay as given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.actors.scorer import ScorerActor
from rayalign.config.scoring import Scoring
from rayalign.demo import world
from rayalign.demo.rules import demo_rule
from rayalign.records import Prompt, Sample, ScoredSample
from rayalign.scoring.sources import SourceReaders, read_sources
from tests.fakes import make_config

RULE = "def score(prompt, response): return None if response == 'skip' else float(len(response))\n"
PROMPT = world.prompts()[0]
DEMO = {"type": "rule", "function": "demo"}


def no_model(section: Scoring) -> tuple[Path, str]:
    raise AssertionError(f"the model of {section.name} was asked for")


@pytest.fixture
def rule(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "length.py").write_text(RULE)
    return {"type": "rule", "function": f"{tmp_path}/length.py:score"}


def actor_of(tmp_path: Path, scoring: list[dict[str, Any]], **sections: Any) -> Iterator[ScorerActor]:
    config = make_config(scoring=scoring, **sections)
    sources = read_sources(config.scoring, tmp_path, SourceReaders(no_model, demo_rule))
    actor = ScorerActor("scorer-0", config, sources, [None] * len(sources), str(tmp_path / "no_such_folder"))
    yield actor
    actor.close()


def score(tmp_path: Path, scoring: list[dict[str, Any]], texts: list[str], **sections: Any) -> list[ScoredSample]:
    """Scores of answers to two prompts in turn."""
    metadata = {
        **PROMPT["metadata"],
        "answer": "cat",
        "tests": ["assert True"],
        "wanted": [{"kind": "words", "exactly": 2}],
    }
    prompts = [Prompt(name, PROMPT["messages"], [1], metadata=metadata) for name in ("even", "odd")]
    samples = [Sample(("even", "odd")[i % 2], i // 2, text, [5], [-1.0], "stop", 0, 0) for i, text in enumerate(texts)]
    (rows,) = [actor.score(prompts, samples) for actor in actor_of(tmp_path, scoring, **sections)]
    return rows


def test_every_local_type_is_wired(tmp_path: Path, rule: dict[str, Any]) -> None:
    scoring = [
        DEMO,
        {**rule, "timeout_s": 120.0},
        {"type": "answer", "weight": 2.0},
        {"type": "constraints", "field": "wanted"},
        {"type": "unit_test", "network": "host", "timeout_s": 120},
        {"type": "judge", "transport": "demo"},
    ]
    (row,) = score(tmp_path, scoring, ["cat"])
    demo, isolated, answer, constraints, tests, judge = row.scores
    assert demo.reward == world.score(PROMPT["messages"][0]["content"], "cat", PROMPT["metadata"])
    assert (isolated.reward, answer.reward, judge.verdict) == (3.0, 0.0, "flawed")
    assert constraints.reward == 0.0 and constraints.aspects == {"constraints": 1.0, "broken/words": 1.0}
    assert (tests.status, tests.reward) == ("ok", 0.0)
    assert row.reward == pytest.approx((demo.reward or 0.0) + 3.0)


def test_the_default_config_gives_what_the_rule_gives(tmp_path: Path) -> None:
    """One rule of weight 1: the reward is the rule's number, bit for bit, in the order of the answers."""
    texts = ["cat, dog, owl.", "", "a cat and a dog", "1. cat\n2. dog", "x" * 500, "cat", "dog, cat"]
    rows = score(tmp_path, [DEMO], texts)
    instruction, metadata = PROMPT["messages"][0]["content"], PROMPT["metadata"]
    expected = [world.score(instruction, text, metadata) for text in texts]
    assert [row.reward for row in rows] == [row.scores[0].reward for row in rows] == expected
    assert [row.sample.text for row in rows] == texts
    assert {row.scores[0].scorer_version for row in rows} == {demo_rule("score").version}


def test_the_demo_rule_runs_isolated_too(tmp_path: Path) -> None:
    (plain,), (isolated,) = (score(tmp_path, [{**DEMO, **more}], ["cat"]) for more in ({}, {"timeout_s": 120.0}))
    assert plain.scores[0].reward == isolated.scores[0].reward is not None
    assert plain.scores[0].scorer_version == isolated.scores[0].scorer_version


def test_calibration_is_within_the_prompt_and_leaves_the_score_alone(tmp_path: Path, rule: dict[str, Any]) -> None:
    """Lengths 1 3 of `even` and 2 8 of `odd`: each prompt's longer answer ranks 1."""
    rows = score(tmp_path, [{**rule, "calibration": "rank"}], ["a", "bb", "ccc", "dddddddd"])
    assert [row.reward for row in rows] == [0.0, 0.0, 1.0, 1.0]
    assert [row.scores[0].reward for row in rows] == [1.0, 2.0, 3.0, 8.0]


def test_a_fitted_line(tmp_path: Path, rule: dict[str, Any]) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"raw": 0, "target": 1}\n{"raw": 10, "target": 0}\n')
    section = {**rule, "calibration": {"type": "linear", "file": "pairs.jsonl"}}
    (row,) = score(tmp_path, [section], ["four"])
    assert row.reward == pytest.approx(0.6)
    assert row.scores[0].reward == 4.0


@pytest.mark.parametrize(
    ("combine", "reward"),
    [({}, 7.0), ({"type": "weighted_mean"}, 3.5), ({"type": "min"}, 3.0), ({"type": "mean_minus_std", "k": 2.0}, 2.5)],
)
def test_ways_to_combine(tmp_path: Path, rule: dict[str, Any], combine: dict[str, Any], reward: float) -> None:
    """3 and 4: sum 7, mean 3.5, standard deviation 0.5."""
    (tmp_path / "more.py").write_text("def score(prompt, response): return len(response) + 1.0\n")
    other = {"type": "rule", "function": f"{tmp_path}/more.py:score"}
    (row,) = score(tmp_path, [rule, other], ["abc"], combine=combine)
    assert row.reward == reward


def test_missing_stays_missing(tmp_path: Path, rule: dict[str, Any]) -> None:
    for kind in ("none", "rank", "zscore"):
        rows = score(tmp_path, [{**rule, "calibration": kind}, DEMO], ["skip", "b", "ccc", "dd"])
        assert rows[0].reward is None
        assert all(row.reward is not None for row in rows[1:])
        assert rows[0].scores[0].status == "abstain"
