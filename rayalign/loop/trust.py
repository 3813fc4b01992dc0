"""How far a round's scores can be trusted: the section `trust` of its report.

    stored scores ─► counts, agreement, length ───────────────┐
    held-out prompts ─► canaries ─┐                           ├─► alarms
    round 0's answers ─► anchors ─┴─► the run's scorers ─► canaries, drift

What is scored here is committed apart from the round's samples: no metric and no training group reads it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import get_args

from rayalign.config.run import RunConfig
from rayalign.config.scoring import may_differ
from rayalign.display import Told
from rayalign.errors import ActorFailedError, StageTimeoutError
from rayalign.evaluation.alarms import alarms
from rayalign.evaluation.canaries import CanaryBattery, comparing_scorers
from rayalign.evaluation.comparison import compare_scorers
from rayalign.evaluation.counts import ScoreCounter
from rayalign.evaluation.drift import ANSWERS_PER_PROMPT
from rayalign.evaluation.gap import proxy_gap
from rayalign.evaluation.repeats import repeat_facts
from rayalign.loop.anchors import Anchors
from rayalign.loop.repeats import evaluation_rows
from rayalign.loop.sampling import read_rows, score_shards
from rayalign.parts import Reporter, Scorer
from rayalign.records import JsonObject, Prompt, ScoredPurpose, ScoredSample
from rayalign.stopping import check
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir

PURPOSES = get_args(ScoredPurpose)
"""Stages whose answers are scored."""
COMPARED_SHARDS = 64
"""Training shards whose answers are compared, evenly from all: a round may have more answers than memory holds, and
the intervals over 2,048 prompts are narrow."""


class TrustChecks:
    """Makes the section of one round after the other.

    Args:
        prompts: held-out ones by id.
        verifiers: names of the scorers whose reward of 1 says that an answer is right.
    """

    def __init__(
        self,
        config: RunConfig,
        run_dir: RunDir,
        prompts: Mapping[str, Prompt],
        verifiers: Collection[str],
        scorer: Scorer,
        reporter: Reporter,
    ) -> None:
        self._config, self._run_dir, self._prompts = config, run_dir, prompts
        self._verifiers, self._scorer, self._reporter = verifiers, scorer, reporter
        self._told = Told()
        self._names = [section.name for section in config.scoring]
        self._anchors = Anchors(run_dir, prompts, scorer, reporter, seed=config.run.seed)

    def report(self, round_index: int) -> JsonObject:
        """The section; canaries, drift and gap in evaluated rounds only. Alarms are also said to the user, in
        full once."""
        round_dir, seed, gold = self._run_dir.round(round_index), self._config.run.seed, self._config.gold
        counter, answers = ScoreCounter(self._names), {}
        rows: dict[str, list[ScoredSample]] = {}
        for purpose in PURPOSES:
            before, rows[purpose] = counter.answers, self._read(round_dir, purpose, counter)
            answers[purpose] = counter.answers - before
        measured = "train" if rows["train"] else "evaluation"
        trust: JsonObject = {
            "gold": gold,
            "answers": answers,
            "truncated_answers": counter.truncated,
            "scorers": counter.facts(seed=seed),
            "agreement": {
                "answers": measured,
                **compare_scorers(rows[measured], self._names, gold, self._verifiers, seed=seed),
            },
        }
        if round_dir.committed("evaluation") is not None:
            trust["canaries"] = self._canaries(round_dir, rows["evaluation"])
            trust["drift"] = self._drift(round_dir, rows["evaluation"])
            trust["gap"] = self._gap(rows["evaluation"])
            if self._config.evaluation.judge_repeats > 1:
                asked = [section.name for section in self._config.scoring if may_differ(section)]
                trust["repeats"] = repeat_facts(evaluation_rows(round_dir), asked)
        penalties = {section.name for section in self._config.scoring if section.weight < 0}
        trust["alarms"] = alarms(trust, penalties)
        for alarm in trust["alarms"]:
            self._reporter.say(f"round {round_index} · ALARM: {self._told.text(alarm)}")
        return trust

    def _read(self, round_dir: RoundDir, purpose: str, counter: ScoreCounter) -> list[ScoredSample]:
        """Count all stored rows of a purpose; returns the held-out ones, and of training `COMPARED_SHARDS` shards."""
        shards = round_dir.shards(purpose)
        step = max(1, math.ceil(len(shards) / COMPARED_SHARDS)) if purpose == "train" else 1
        kept = []
        for place, shard in enumerate(shards):
            rows = round_dir.read_shard(purpose, shard) or []
            counter.add(rows)
            if place % step == 0:
                kept += rows
        return kept

    def _chosen(self, rows: Sequence[ScoredSample], count: int) -> list[Prompt]:
        """`count` of the held-out prompts that have answers, evenly from all of them."""
        answered = {row.sample.prompt_id for row in rows}
        prompts = [prompt for prompt in self._prompts.values() if prompt.id in answered]
        count = min(count, len(prompts))
        return [prompts[place * len(prompts) // count] for place in range(count)]

    def _canaries(self, round_dir: RoundDir, rows: Sequence[ScoredSample]) -> JsonObject | None:
        prompts = self._chosen(rows, self._config.evaluation.canaries)
        if not prompts:
            return None
        if round_dir.committed("canaries") is None:
            battery = CanaryBattery(prompts, rows, comparing_scorers(self._config))
            # A scorer of negative weight is a penalty: an answer of nothing rightly gets less of it than a real one.
            judged = [section.name for section in self._config.scoring if section.weight >= 0]
            found: JsonObject = {"prompts": len(prompts)}
            try:
                asked = [battery.shard()]
                (scored,) = score_shards(self._scorer, self._reporter, round_dir.index, asked, "score canaries")
                found["scorers"] = battery.results(scored, judged)
            except (ActorFailedError, StageTimeoutError) as error:
                # At a stop everything fails.
                check()
                # Real answers went through, so this is a finding about the scorers and no reason to end the run.
                found["failed"] = error.found
            round_dir.commit("canaries", {}, canaries=found)
        saved = round_dir.committed("canaries")
        assert saved is not None
        return saved["canaries"]

    def _drift(self, round_dir: RoundDir, rows: Sequence[ScoredSample]) -> JsonObject | None:
        if self._config.evaluation.anchors == 0:
            return None
        chosen = {prompt.id for prompt in self._chosen(rows, self._config.evaluation.anchors)}
        answers = [row for row in rows if row.sample.prompt_id in chosen and row.sample.index < ANSWERS_PER_PROMPT]
        return self._anchors.drift(round_dir, answers)

    def _gap(self, rows: Sequence[ScoredSample]) -> JsonObject:
        first = self._run_dir.round(0)
        if first.committed("evaluation") is None:
            return {}
        return gap_since(self._config, rows, read_rows(first, "evaluation", first.shards("evaluation")))


def gap_since(config: RunConfig, now: Sequence[ScoredSample], before: Sequence[ScoredSample]) -> JsonObject:
    """`proxy_gap` of all that a run trains on; empty where it has no gold scorer, or trains on that alone."""
    proxies = {section.name: section.weight for section in config.scoring if section.name != config.gold}
    proxies = {name: weight for name, weight in proxies.items() if weight}
    if config.gold is None or not proxies:
        return {}
    return proxy_gap(now, before, proxies, config.gold, seed=config.run.seed)
