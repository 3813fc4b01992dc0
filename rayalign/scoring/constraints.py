"""Answers checked against the constraints in their prompt's metadata (`rayalign/constraints/`)."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rayalign import constraints
from rayalign.config.rewards import ConstraintsScoring
from rayalign.constraints.following import loose, strict
from rayalign.constraints.reading import read_constraints
from rayalign.errors import DataError
from rayalign.records import Prompt, Sample, Score
from rayalign.rendering import thoughts
from rayalign.rendering.thoughts import without_thoughts
from rayalign.scoring.definitions import definitions_digest
from rayalign.scoring.failures import storable


class ConstraintsScorer:
    """The share of its prompt's constraints that an answer keeps, or 1.0 for all of them and else 0.0.

    Thoughts before the answer are no part of it. Aspects: `constraints`, how many there are, and `broken/<kind>`.
    """

    def __init__(self, section: ConstraintsScoring) -> None:
        self.name = section.name
        self._section = section
        files = sorted(Path(constraints.__file__).parent.glob("*.py"))
        code = definitions_digest(Path(__file__), *files, thoughts)
        text = f"{section.field} {section.all} {section.loose}\n{code}"
        self.version = hashlib.sha256(text.encode()).hexdigest()[:16]

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        """One score per sample; a prompt without constraints abstains."""
        return [self._score_one(p, s) for p, s in zip(prompts, samples, strict=True)]

    def close(self) -> None:
        """Nothing to end."""

    def _score_one(self, prompt: Prompt, sample: Sample) -> Score:
        started = time.perf_counter()
        try:
            wanted = read_constraints(prompt.metadata, prompt.text, self._section.field)
        except DataError as error:
            return Score(self.name, self.version, "error", reason=storable(f"{error.found}: {error.why}"))
        if not wanted:
            reason = f"the prompt's metadata has no constraints in {self._section.field!r}"
            return Score(self.name, self.version, "abstain", reason=reason)
        kept = (loose if self._section.loose else strict)(wanted, without_thoughts(sample.text))
        reward = float(all(kept)) if self._section.all else sum(kept) / len(kept)
        broken = Counter(f"broken/{one.kind}" for one, ok in zip(wanted, kept, strict=True) if not ok)
        aspects = {"constraints": float(len(kept)), **{name: float(count) for name, count in sorted(broken.items())}}
        seconds = time.perf_counter() - started
        return Score(self.name, self.version, "ok", reward, aspects=aspects, latency_s=seconds)
