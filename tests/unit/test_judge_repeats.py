"""A judge that is asked several times about the same held-out answers: asked anew, stored apart, measured together."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayalign.config.run import RunConfig
from rayalign.evaluation.repeats import repeat_facts, repeated_mean
from rayalign.evaluation.statistics import clustered_mean
from rayalign.loop.repeats import evaluation_rows
from rayalign.loop.round import Run
from rayalign.loop.run import run_rounds
from rayalign.records import Prompt, Repeat, Sample, SampledShard, Score, ScoredSample, ScoredShard
from rayalign.scoring.scorers import Scorers
from rayalign.scoring.services.cache import ScoreCache, repeated
from rayalign.scoring.sources import ScorerSource
from tests.fakes import FakeScorer, Fuse, Killed, make_config, make_run
from tests.unit.judge_cases import judge, prompt, samples


def test_a_repeat_is_asked_again_with_another_seed_and_kept_apart(tmp_path: Path) -> None:
    """Three times two answers are six calls; asked for once more, the cache has all of them."""
    replies = iter(range(1, 10))
    scorer, transport = judge("rating", lambda messages: {"rating": next(replies)}, cache=ScoreCache(tmp_path))
    owner = prompt()

    def ratings(number: int) -> list[float | None]:
        with repeated(number):
            return [score.reward for score in scorer.score([owner, owner], samples(owner, "cat", "dog"))]

    first = [ratings(number) for number in range(3)]
    assert len({reward for some in first for reward in some}) == 6
    assert [ratings(number) for number in range(3)] == first
    assert len(transport.sent) == 6 and len(set(transport.seeds)) == 6
    scorer.close()


def test_a_repeat_leaves_the_scores_of_other_scorers(tmp_path: Path) -> None:
    """The rule is not asked again: its scores are those of the rows, whatever they say; the demo judge is."""
    from rayalign.demo.rules import demo_rule
    from rayalign.scoring.sources import SourceReaders, read_sources
    from tests.unit.test_scorer_backends import PROMPT, no_model

    config = make_config(scoring=[{"type": "rule", "function": "demo"}, {"type": "judge", "transport": "demo"}])
    sources: list[ScorerSource] = read_sources(config.scoring, tmp_path, SourceReaders(no_model, demo_rule))
    scorers = Scorers(config.scorer_settings, sources)
    owner = Prompt("p", PROMPT["messages"], [1], metadata=PROMPT["metadata"])
    sample = Sample("p", 0, "cat, dog.", [5], [-1.0], "stop", 0, 0)
    (row,) = scorers.score([owner], [sample])
    known = dataclasses.replace(row, scores=[Score("rule:demo", "1", "ok", 0.125), Score("judge:demo", "1", "error")])
    (again,) = scorers.score([owner], [sample], repeat=Repeat(1, [known]))
    assert again.scores[0] == known.scores[0] and again.reward == 0.125
    assert again.scores[1].verdict == row.scores[1].verdict is not None
    scorers.close()


class NoisyJudge(FakeScorer):
    """A rule of reward 0, and a judge whose reward depends on the answer and on which time it is asked."""

    def __init__(self, fuse: Fuse) -> None:
        super().__init__(fuse)
        self.asked: list[int] = []

    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        for item in sampled:
            self.fuse.tick()
            number = item.repeat.number if item.repeat is not None else 0
            if item.repeat is not None:
                assert [row.sample for row in item.repeat.rows] == item.samples
                self.asked.append(number)
            rewards = [self.reward(sample, number) for sample in item.samples]
            rows = [
                ScoredSample(
                    sample,
                    [Score("rule:demo", "1", "ok", 0.0), Score("remote:judge.example/f", "1", "ok", reward)],
                    reward,
                )
                for sample, reward in zip(item.samples, rewards, strict=True)
            ]
            yield ScoredShard(item.shard, rows)

    @staticmethod
    def reward(sample: Sample, number: int) -> float:
        return float(sample.seed % 11 + (sample.seed * (number + 3)) % 7)


def start(root: Path, repeats: int = 3, fuse: Fuse | None = None) -> Run:
    config: RunConfig = make_config(
        run={"name": "fake", "rounds": 2},
        scoring=[
            {"type": "rule", "function": "demo", "weight": 0.0},
            {"type": "remote", "url": "http://judge.example/f", "version": "1"},
        ],
        evaluation={"responses": 2, "judge_repeats": repeats},
    )
    fuse = fuse or Fuse()
    run = make_run(root, config, fuse)
    scorer = NoisyJudge(fuse)
    parts = dataclasses.replace(run.parts, scorer=scorer)
    evaluator: Any = run.parts.evaluator
    evaluator._scorer = evaluator._trust._scorer = evaluator._trust._anchors._scorer = scorer
    return dataclasses.replace(run, parts=parts)


def test_repeats_are_stored_and_measured_together(tmp_path: Path) -> None:
    """40 prompts x 2 answers x 3 times; the mean reward is that of all 240 replies."""
    run = start(tmp_path)
    run_rounds(run)
    round_dir = run.run_dir.round(1)
    rows_RN = evaluation_rows(round_dir)
    assert [len(rows) for rows in rows_RN] == [80, 80, 80]
    assert {"repeat1-00000", "repeat1-00001", "repeat2-00001"} <= set(round_dir.commits())
    every = [NoisyJudge.reward(row.sample, number) for number, rows in enumerate(rows_RN) for row in rows]
    report = round_dir.report()
    assert report is not None
    mean = report["metrics"]["mean_reward"]
    assert (mean["value"], mean["n"]) == (pytest.approx(statistics.fmean(every)), 80)
    assert report["metrics"]["mean_reward/remote:judge.example/f"] == mean
    assert report["metrics"]["win_rate/round_0"]["n"] == 40 * 4 * 3
    facts = report["trust"]["repeats"]["remote:judge.example/f"]
    assert facts["answers"] == 80 and len(facts["means"]) == 3 and facts["spread"] > 0.5
    assert set(report["trust"]["repeats"]) == {"remote:judge.example/f"}
    assert run.parts.scorer.asked == [1, 1, 2, 2] * 3
    assert "repeats" not in _plain(tmp_path / "plain")["trust"]


def _plain(root: Path) -> dict[str, Any]:
    run = start(root, repeats=1)
    run_rounds(run)
    assert run.parts.scorer.asked == []
    report = run.run_dir.round(1).report()
    assert report is not None
    return report


@pytest.mark.parametrize("ticks", range(2, 28, 2))
def test_killed_anywhere_asks_only_for_what_is_missing(tmp_path: Path, ticks: int) -> None:
    killed = start(tmp_path / "killed", fuse=Fuse(ticks))
    with pytest.raises(Killed):
        run_rounds(killed)
    resumed = start(tmp_path / "killed")
    run_rounds(resumed)
    whole = start(tmp_path / "whole")
    run_rounds(whole)
    for index in (0, 1, 2):
        left, right = (one.run_dir.round(index).report() for one in (resumed, whole))
        assert left is not None and right is not None
        assert (left["metrics"], left["trust"]) == (right["metrics"], right["trust"])
    asked = len(killed.parts.scorer.asked) + len(resumed.parts.scorer.asked)
    assert asked <= len(whole.parts.scorer.asked) + 1, "a shard in flight at most"


def test_repeats_without_a_judge_are_refused() -> None:
    with pytest.raises(ValueError, match="judge_repeats 2: no scorer of this run is a judge or a service"):
        make_config(evaluation={"judge_repeats": 2})


def test_mean_over_repeats_by_hand() -> None:
    """a: 1 and 3; b: 5 and missing; c: missing twice. (2 + 5) / 2, over two answers."""
    metric = repeated_mean([[1.0, 5.0, None], [3.0, None, None]], ["a", "b", "c"], seed=0)
    assert (metric.value, metric.n) == (3.5, 2)


def test_noise_of_single_replies_adds_nothing_and_common_noise_does() -> None:
    """Replies that differ by as much for every answer tell of no common noise beyond it; where the second repeat gives
    1 more to each of 40 answers, the interval must hold what a third might give."""
    prompts = [str(place) for place in range(40)]
    once = np.random.default_rng(0).normal(size=40)
    shaken = once + np.where(np.arange(40) % 2, 0.5, -0.5)
    alone = clustered_mean(((once + shaken) / 2).tolist(), prompts, seed=0).ci95
    assert repeated_mean([once.tolist(), shaken.tolist()], prompts, seed=0).ci95 == alone
    shifted = repeated_mean([once.tolist(), (once + 1).tolist()], prompts, seed=0).ci95
    # Variance of the mean between two repeats that differ by 1: 1/2 / 2; t(1) = 12.7 where it is nearly all.
    assert np.ptp(shifted) > 2 * 4 * 0.5


def test_facts_by_hand() -> None:
    """Answer 0: 1, 3, standard deviation sqrt(2); answer 1: 2, 2; answer 2 lacks its second reward."""

    def rows(*rewards: float | None) -> list[ScoredSample]:
        made = []
        for index, reward in enumerate(rewards):
            score = Score("judge", "1", "ok" if reward is not None else "error", reward)
            made.append(ScoredSample(Sample("p", index, "", [], [], "stop", 0, 0), [score], reward))
        return made

    facts = repeat_facts([rows(1.0, 2.0, 5.0), rows(3.0, 2.0, None)], ["judge", "other"])
    assert facts == {"judge": {"answers": 2, "means": [1.5, 2.5], "spread": pytest.approx(2**0.5 / 2), "changed": 0.5}}
