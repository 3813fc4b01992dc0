"""How far a round's scores can be trusted: the section `trust` of its report.

    stored scores ─► counts, agreement, length ───────────────┐
    held-out prompts ─► canaries ─┐                           ├─► alarms
    round 0's answers ─► anchors ─┴─► the run's scorers ─► canaries, drift

What is scored here is committed apart from the round's samples: no metric and no training group reads it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rayalign.config.run import RunConfig
from rayalign.errors import ActorFailedError, StageTimeoutError
from rayalign.evaluation.alarms import alarms
from rayalign.evaluation.canaries import CanaryBattery, comparing_scorers
from rayalign.evaluation.comparison import compare_scorers
from rayalign.evaluation.counts import ScoreCounter
from rayalign.evaluation.drift import ANSWERS_PER_PROMPT, drift
from rayalign.evaluation.gap import proxy_gap
from rayalign.parts import Reporter, Scorer
from rayalign.records import Prompt, SampledShard, ScoredSample, Shard
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir

PURPOSES = ("train", "evaluation", "greedy")
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
        self._names = [section.name for section in config.scoring]

    def report(self, round_index: int) -> dict[str, Any]:
        """The section; canaries, drift and gap in evaluated rounds only. Alarms are also said to the user."""
        round_dir, seed, gold = self._run_dir.round(round_index), self._config.run.seed, self._config.gold
        counter, answers = ScoreCounter(self._names), {}
        rows: dict[str, list[ScoredSample]] = {}
        for purpose in PURPOSES:
            before, rows[purpose] = counter.answers, self._read(round_dir, purpose, counter)
            answers[purpose] = counter.answers - before
        measured = "train" if rows["train"] else "evaluation"
        trust: dict[str, Any] = {
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
        trust["alarms"] = alarms(trust)
        for alarm in trust["alarms"]:
            self._reporter.say(f"round {round_index} · ALARM: {alarm}")
        return trust

    def _read(self, round_dir: RoundDir, purpose: str, counter: ScoreCounter) -> list[ScoredSample]:
        """Count all stored rows of a purpose; returns the held-out ones, and of training `COMPARED_SHARDS` shards."""
        shards = _shards(round_dir, purpose)
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

    def _canaries(self, round_dir: RoundDir, rows: Sequence[ScoredSample]) -> dict[str, Any] | None:
        prompts = self._chosen(rows, self._config.evaluation.canaries)
        if not prompts:
            return None
        if round_dir.committed("canaries") is None:
            battery = CanaryBattery(prompts, rows, comparing_scorers(self._config))
            # A scorer of negative weight is a penalty: an answer of nothing rightly gets less of it than a real one.
            judged = [section.name for section in self._config.scoring if section.weight >= 0]
            found: dict[str, Any] = {"prompts": len(prompts)}
            try:
                (scored,) = self._score(round_dir, [battery.shard()], "score canaries")
                found["scorers"] = battery.results(scored, judged)
            except (ActorFailedError, StageTimeoutError) as error:
                # Real answers went through, so this is a finding about the scorers and no reason to end the run.
                found["failed"] = error.found
            round_dir.commit("canaries", {}, canaries=found)
        saved = round_dir.committed("canaries")
        assert saved is not None
        return saved["canaries"]

    def _drift(self, round_dir: RoundDir, rows: Sequence[ScoredSample]) -> dict[str, Any] | None:
        if self._config.evaluation.anchors == 0:
            return None
        first = next((r for r in self._run_dir.rounds() if r.index < round_dir.index and self._has_anchors(r)), None)
        if first is None:
            chosen = {prompt.id for prompt in self._chosen(rows, self._config.evaluation.anchors)}
            anchors = [row for row in rows if row.sample.prompt_id in chosen and row.sample.index < ANSWERS_PER_PROMPT]
        else:
            anchors = first.read_shard("anchors", 0) or []
        # Twice in the first round, which tells noise from drift.
        self._score_anchors(round_dir, anchors, times=1 if first else 2)
        before, again = ((first or round_dir).read_shard("anchors", place) for place in (0, 1))
        now = round_dir.read_shard("anchors", 0)
        assert before is not None and again is not None and now is not None
        since = (first or round_dir).index
        moves = {} if first is None else drift(before, again, now, seed=self._config.run.seed)
        return {"since": since, "anchors": len(now), "scorers": moves}

    def _has_anchors(self, round_dir: RoundDir) -> bool:
        """Whether a round has anchors, to prompts that are still this run's (a fork may have others)."""
        if not {"anchors-00000", "anchors-00001"} <= set(round_dir.commits()):
            return False
        return all(row.sample.prompt_id in self._prompts for row in round_dir.read_shard("anchors", 0) or [])

    def _score_anchors(self, round_dir: RoundDir, anchors: Sequence[ScoredSample], times: int) -> None:
        samples = [row.sample for row in anchors]
        prompts = tuple(self._prompts[prompt_id] for prompt_id in dict.fromkeys(one.prompt_id for one in samples))
        missing = [place for place in range(times) if round_dir.committed(f"anchors-{place:05d}") is None]
        shards = [SampledShard(Shard(place, prompts), samples, fresh=True) for place in missing]
        for scored in self._score(round_dir, shards, "score anchors") if shards else []:
            round_dir.commit_shard("anchors", scored.shard.index, scored.rows)

    def _score(self, round_dir: RoundDir, shards: Sequence[SampledShard], stage: str) -> list[Any]:
        """Scored shards, every sample of each once and in its order."""
        with self._reporter.stage(stage, round_dir.index, sum(len(shard.samples) for shard in shards)) as progress:
            done = []
            expected = {shard.shard.index: [(s.prompt_id, s.index) for s in shard.samples] for shard in shards}
            for scored in self._scorer.score(shards):
                found = [(row.sample.prompt_id, row.sample.index) for row in scored.rows]
                if found != expected[scored.shard.index]:
                    raise AssertionError(f"{stage}: samples {found[:3]}... are not those of shard {scored.shard.index}")
                progress.advance(len(found))
                done.append(scored)
        return done

    def _gap(self, rows: Sequence[ScoredSample]) -> dict[str, Any]:
        gold = self._config.gold
        proxies = {section.name: section.weight for section in self._config.scoring if section.name != gold}
        proxies = {name: weight for name, weight in proxies.items() if weight}
        first = self._run_dir.round(0)
        if gold is None or not proxies or first.committed("evaluation") is None:
            return {}
        return proxy_gap(rows, _stored(first, "evaluation"), proxies, gold, seed=self._config.run.seed)


def _shards(round_dir: RoundDir, purpose: str) -> list[int]:
    """Indices of the committed shards of a purpose."""
    names = (name.removeprefix(f"{purpose}-") for name in round_dir.commits() if name.startswith(f"{purpose}-"))
    return [int(name) for name in names]


def _stored(round_dir: RoundDir, purpose: str) -> list[ScoredSample]:
    """All committed rows of a purpose."""
    return [row for shard in _shards(round_dir, purpose) for row in round_dir.read_shard(purpose, shard) or []]
