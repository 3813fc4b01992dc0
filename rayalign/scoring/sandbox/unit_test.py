"""Code in a response, judged by whether it passes its prompt's tests."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rayalign.config.rewards import UnitTestScoring
from rayalign.errors import PlacementError
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.definitions import definitions_digest
from rayalign.scoring.sandbox.sandbox import CHILD, Limits, SandboxError, run_tests

_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = ("python", "python3", "py")


def extract_code(text: str) -> str:
    """The first fenced block marked as Python, else the first one, else the whole text. One that was cut off counts."""
    blocks = [(match.group(1).lower(), match.group(2)) for match in _FENCE.finditer(text)]
    marked = [code for language, code in blocks if language in _PYTHON]
    return next(iter([*marked, *(code for _, code in blocks)]), text)


def tests_of(value: Any) -> list[str] | None:
    """The tests in a dataset's field; None where there are none.

    Raises:
        TypeError: it holds something else.
    """
    if value is None or value == "" or value == []:
        return None
    tests = [value] if isinstance(value, str) else value
    if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
        raise TypeError("tests must be a text or a list of texts")
    return tests


class UnitTestScorer:
    """Runs each response's code in a sandbox; the reward is the share of tests that pass, or 1.0 only for all.

    Code that is too slow, crashes or does not compile has failed its tests: that is a reward, with the aspect
    `timed_out` for the first. Only a sandbox that fails itself is an `error`.
    """

    def __init__(self, section: UnitTestScoring) -> None:
        """Try the sandbox once.

        Raises:
            PlacementError: this machine cannot isolate code as the config asks.
        """
        self.name = section.name
        self._section = section
        limits = {name: getattr(section, name) for name in Limits.__dataclass_fields__}
        self._limits = Limits(**limits)
        text = f"{section.field} {section.reward} {limits}\n{definitions_digest(Path(__file__), CHILD)}"
        self.version = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._threads = ThreadPoolExecutor(section.workers, thread_name_prefix="unit_test")
        self._try()

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        """One score per sample; a prompt without tests abstains."""
        pairs = list(zip(prompts, samples, strict=True))
        return list(self._threads.map(lambda pair: self._score_one(*pair), pairs))

    def close(self) -> None:
        """Wait for the sandboxes that run."""
        self._threads.shutdown()

    def _try(self) -> None:
        try:
            outcome = run_tests("import math", ["assert math.sqrt(4) == 2", "assert math.sqrt(4) == 3"], self._limits)
        except SandboxError as error:
            why, remedy = str(error), "run scorers where user namespaces and Landlock are allowed"
            if self._section.network == "none":
                remedy += ", or set network: host where the code may use the network"
            raise PlacementError(f"scoring: {self.name} cannot isolate code here", why, remedy) from None
        if outcome.passed != [True, False]:
            raise PlacementError(
                f"scoring: {self.name}: the sandbox gave {outcome} on a right and a wrong test",
                "it should have passed the first alone",
                "raise memory_mb, processes or timeout_s",
            )

    def _score_one(self, prompt: Prompt, sample: Sample) -> Score:
        started = time.perf_counter()
        try:
            tests = tests_of(prompt.metadata.get(self._section.field))
            if tests is None:
                reason = f"the prompt's metadata has no tests in {self._section.field!r}"
                return Score(self.name, self.version, "abstain", reason=reason)
            outcome = run_tests(extract_code(sample.text), tests, self._limits)
        except (SandboxError, TypeError) as error:
            seconds = time.perf_counter() - started
            return Score(self.name, self.version, "error", reason=str(error), latency_s=seconds)
        share = sum(outcome.passed) / len(outcome.passed)
        reward = share if self._section.reward == "share" else float(share == 1.0)
        aspects = {"tests": float(len(tests)), **({"timed_out": 1.0} if outcome.timed_out else {})}
        seconds = time.perf_counter() - started
        return Score(self.name, self.version, "ok", reward, aspects=aspects, latency_s=seconds)
