"""Judges: they write what is wrong with a response, and give a verdict instead of a reward."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence

from rayalign.records import JsonObject, Prompt, Sample, Score
from rayalign.records.judgment import verdict_of
from rayalign.scoring.failures import STOPS, reason_of

JudgeFunction = Callable[[str, str, JsonObject], str]


class FunctionJudge:
    """A judge that is a function of (prompt, response, metadata), such as the demo world's."""

    def __init__(self, name: str, version: str, function: JudgeFunction) -> None:
        self.name = name
        self.version = version
        self._function = function

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        """One score per sample, with a judgment and a verdict; what the judge raises is that sample's `error`."""
        return [self._score_one(p, s) for p, s in zip(prompts, samples, strict=True)]

    def close(self) -> None:
        """Nothing to end."""

    def _score_one(self, prompt: Prompt, sample: Sample) -> Score:
        started = time.perf_counter()
        try:
            judgment = self._function(prompt.text, sample.text, copy.deepcopy(prompt.metadata))
            verdict = verdict_of(judgment)
        except STOPS:
            raise
        except BaseException as error:
            return self._failed(reason_of(error), started)
        seconds = time.perf_counter() - started
        return Score(self.name, self.version, "ok", judgment=judgment, verdict=verdict, latency_s=seconds)

    def _failed(self, reason: str, started: float) -> Score:
        return Score(self.name, self.version, "error", reason=reason, latency_s=time.perf_counter() - started)
