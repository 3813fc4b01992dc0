"""Answers of which generators or scorers die: without a score, in no group and in no metric, and counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rayalign.actors.calls import Assembly, cut, unanswered
from rayalign.loop.run import run_rounds
from rayalign.loop.sampling import sampling_plan
from rayalign.records import (
    NOT_SAMPLED,
    Adapter,
    SampledShard,
    SamplingPlan,
    ScoredSample,
    ScoredShard,
    Shard,
)
from rayalign.scoring.rules.file import RuleSource
from rayalign.scoring.scorers import Scorers
from rayalign.scoring.sources import ScorerSource
from rayalign.store.run_dir import RunDir
from rayalign.store.verify import findings
from tests.fakes import make_config, make_prompts, make_run

RULE = """
def score(prompt, response):
    assert response, "nobody asks about an answer that is not there"
    return float(len(response) % 5)
"""
CONFIG = make_config(
    run={"name": "fake", "rounds": 1}, scoring=[{"type": "rule", "function": "length.py:score"}],
    groups={"drop_equal_rewards": False},
)  # fmt: skip


def rule() -> Scorers:
    return Scorers(CONFIG.scorer_settings, [ScorerSource(rule=RuleSource("length.py", RULE, "score"))])


class Deadly:
    """`Generator` that dies of the first prompt of each shard, so that its answers are set aside."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def sample(self, shards: Iterable[Shard], plan: SamplingPlan, adapter: Adapter) -> Iterator[SampledShard]:
        for sampled in self._inner.sample(shards, plan, adapter):
            first = Shard(sampled.shard.index, sampled.shard.prompts[:1])
            [call] = cut(first, plan)
            failed = unanswered(call, plan, adapter)
            yield dataclasses.replace(sampled, samples=[*failed, *sampled.samples[len(failed) :]])


class Asked:
    """`Scorer` of the real rule, in this process."""

    def __init__(self, scorers: Scorers) -> None:
        self._scorers = scorers

    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        for item in sampled:
            yield ScoredShard(item.shard, self._scorers.score(item.shard.prompts, item.samples))


def rows_of(run_dir: RunDir, index: int, purpose: str) -> list[ScoredSample]:
    one = run_dir.round(index)
    return [row for shard in one.shards(purpose) for row in one.read_shard(purpose, shard) or []]


def test_a_call_that_is_set_aside_makes_its_shard_whole() -> None:
    plan = sampling_plan(CONFIG, 1, "train")
    shard, adapter = Shard(3, tuple(make_prompts(20, "p"))), Adapter(0, "", "", "b", None)
    assembly, whole = Assembly(plan.responses), None
    for call in cut(shard, plan):
        assert whole is None
        whole = assembly.add(call, unanswered(call, plan, adapter))
    assert whole is not None
    expected = [(prompt.id, k) for prompt in shard.prompts for k in range(plan.responses)]
    assert [(sample.prompt_id, sample.index) for sample in whole.samples] == expected
    assert {(one.finish_reason, one.text, len(one.token_ids)) for one in whole.samples} == {("failed", "", 0)}


def test_a_round_without_some_answers(tmp_path: Path) -> None:
    run = make_run(tmp_path, CONFIG)
    scorer, evaluator = Asked(rule()), run.parts.evaluator
    generator = Deadly(run.parts.generator)
    evaluator._generator, evaluator._scorer = generator, scorer  # type: ignore[attr-defined]
    run_rounds(dataclasses.replace(run, parts=dataclasses.replace(run.parts, generator=generator, scorer=scorer)))
    run_dir = RunDir(tmp_path)
    shards = len(run_dir.round(1).shards("train"))
    for purpose, answers in (("train", CONFIG.sampling.responses), ("evaluation", CONFIG.evaluation.responses)):
        rows = rows_of(run_dir, 1, purpose)
        failed = [row for row in rows if row.sample.finish_reason == "failed"]
        assert len(rows) == 40 * answers and len(failed) == shards * answers
        assert {row.reward for row in failed} == {None}
        assert {(score.status, score.reason) for row in failed for score in row.scores} == {("abstain", NOT_SAMPLED)}
        assert all(row.reward is not None for row in rows if row not in failed)
    metrics = (run_dir.round(1).report() or {})["metrics"]
    measured = (40 - shards) * CONFIG.evaluation.responses
    assert {metrics[name]["n"] for name in ("mean_reward", "length_tokens", "truncation_rate", "kl_base")} == {measured}
    trust = (run_dir.round(1).report() or {})["trust"]
    assert any(NOT_SAMPLED in reason for one in trust["scorers"].values() for reason in one["reasons"])
    assert not findings(run_dir)
