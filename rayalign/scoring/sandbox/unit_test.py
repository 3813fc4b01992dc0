"""Code in a response, judged by whether it passes its prompt's tests."""

from __future__ import annotations

import ast
import hashlib
import json
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
from rayalign.scoring.failures import reason_of, storable
from rayalign.scoring.sandbox.sandbox import CHILD, Limits, SandboxError, run_tests

_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = ("python", "python3", "py")


def extract_code(text: str) -> str:
    """The first fenced block marked as Python, else the first one, else the whole text. One that was cut off counts."""
    blocks = [(match.group(1).lower(), match.group(2)) for match in _FENCE.finditer(text)]
    marked = [code for language, code in blocks if language in _PYTHON]
    return next(iter([*marked, *(code for _, code in blocks)]), text)


def tests_of(value: Any) -> list[str] | None:
    """The tests in a dataset's field, also where a table holds the list as a text; None where there are none.

    Raises:
        TypeError: it holds something else.
        ValueError: one of them cannot fail, or is no Python: it would pass all code, or none.
    """
    tests = _listed(value) if isinstance(value, str) and value else value
    if tests is None or tests == "" or tests == []:
        return None
    if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
        raise TypeError("tests must be a text or a list of texts")
    for number, test in enumerate(tests, 1):
        if problem := _problem(test):
            raise ValueError(f"test {number} {problem}")
    return tests


def _listed(text: str) -> object:
    """A text that is a list in JSON or Python as that list; any other as the only test."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    return [text]


def _problem(test: str) -> str | None:
    """Why a test says nothing about the code that runs before it."""
    try:
        statements = ast.parse(test).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"is no Python: {error}"
    if any(isinstance(one, ast.Expr) and isinstance(one.value, ast.Compare) for one in statements):
        return "compares without assert"
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    rest = [one for one in statements if not isinstance(one, (*definitions, ast.Import, ast.ImportFrom, ast.Assign))]
    if not any(isinstance(one, definitions) for one in statements) or any(not _is_text(one) for one in rest):
        return None
    return "defines functions and calls none"


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


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
        except (SandboxError, TypeError, ValueError) as error:
            seconds = time.perf_counter() - started
            return Score(self.name, self.version, "error", reason=storable(str(error)), latency_s=seconds)
        except OSError as error:
            seconds = time.perf_counter() - started
            return Score(self.name, self.version, "error", reason=reason_of(error), latency_s=seconds)
        share = sum(outcome.passed) / len(outcome.passed)
        reward = share if self._section.reward == "share" else float(share == 1.0)
        aspects = {"tests": float(len(tests)), **({"timed_out": 1.0} if outcome.timed_out else {})}
        seconds = time.perf_counter() - started
        return Score(self.name, self.version, "ok", reward, aspects=aspects, latency_s=seconds)
