"""The round's canary battery: a shard of answers that deserve nothing, scored by the run's own scorers, and its result.

It travels the way of every other shard and is stored nowhere: only its counts enter the report.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from rayalign.config import RunConfig
from rayalign.config_scoring import JudgeScoring
from rayalign.records import Prompt, Sample, ScoredSample
from rayalign.scoring.canaries import CANARIES, canary_result, median, score_value
from rayalign.stages import SampledShard, ScoredShard, Shard

COMBINED = "combined reward"


def comparing_scorers(config: RunConfig) -> frozenset[str]:
    """Names of the scorers whose score hangs on the other answers of its group; `COMBINED` where the reward does."""
    judges = [section for section in config.scoring if isinstance(section, JudgeScoring)]
    names = {section.name for section in judges if section.template == "pairwise"}
    counting = [section for section in config.scoring if section.weight]
    if any(section.name in names or section.calibration in ("zscore", "rank") for section in counting):
        names.add(COMBINED)
    return frozenset(names)


class CanaryBattery:
    """Canaries beside the real answers to some prompts of a round.

    A canary is held against the median of the round's real answers to its prompt, whose scores are known. Scorers that
    compare cannot be: for them each canary makes a group of its own with the real answer in the middle, so that a
    pairwise judge is asked once per canary and order, and no canary meets another.

    Args:
        prompts: those to put canaries to.
        rows: the round's scored real answers; a prompt without one is left out.
        comparing: see `comparing_scorers`.
    """

    def __init__(self, prompts: Sequence[Prompt], rows: Sequence[ScoredSample], comparing: Collection[str]) -> None:
        self._real: dict[str, list[ScoredSample]] = {}
        for row in rows:
            self._real.setdefault(row.sample.prompt_id, []).append(row)
        self.prompts = [prompt for prompt in prompts if prompt.id in self._real]
        self._comparing = comparing

    def shard(self) -> SampledShard:
        """What to score; its prompts and samples are new ones, which no stage of the round knows."""
        groups, samples = [], []
        for prompt in self.prompts:
            middle = _middle(self._real[prompt.id])
            for name, write in CANARIES.items():
                group = dataclasses.replace(prompt, id=_group_id(prompt, name))
                canary = Sample(group.id, 1, write(prompt), [], [], "stop", middle.adapter_version, 0)
                real = [dataclasses.replace(middle, prompt_id=group.id, index=0)] if self._comparing else []
                groups.append(group)
                samples += [*real, canary]
        return SampledShard(Shard(0, tuple(groups)), samples)

    def results(self, scored: ScoredShard, scorers: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
        """Per scorer and canary: `compared`, `beat` and `missing` (prompts), and `alarm`; also for the `COMBINED`
        reward where there are several scorers."""
        found = {(row.sample.prompt_id, row.sample.index): row for row in scored.rows}
        results: dict[str, dict[str, dict[str, Any]]] = {}
        for scorer in scorers if len(scorers) == 1 else (*scorers, COMBINED):
            results[scorer] = {}
            for name in CANARIES:
                pairs = []
                for prompt in self.prompts:
                    own = found[_group_id(prompt, name), 1]
                    against = [found[own.sample.prompt_id, 0]] if scorer in self._comparing else self._real[prompt.id]
                    pairs.append((_value(own, scorer), median([_value(row, scorer) for row in against])))
                result = canary_result(name, pairs)
                results[scorer][name] = {
                    "compared": result.compared, "beat": result.beat, "missing": result.missing, "alarm": result.alarm
                }  # fmt: skip
        return results


def _group_id(prompt: Prompt, canary: str) -> str:
    return f"{prompt.id}-canary-{canary}"


def _middle(rows: Sequence[ScoredSample]) -> Sample:
    """The real answer of median reward, the worse of two; the first one where no reward is known."""
    ranked = sorted((row.reward, row.sample.index, row) for row in rows if row.reward is not None)
    return ranked[(len(ranked) - 1) // 2][2].sample if ranked else rows[0].sample


def _value(row: ScoredSample, scorer: str) -> float | None:
    if scorer == COMBINED:
        return row.reward
    return next((score_value(score) for score in row.scores if score.scorer == scorer), None)
