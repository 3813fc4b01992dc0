"""Rules: a function of prompt and response, the demo world's or the user's own."""

from __future__ import annotations

import hashlib
import inspect
import math
import numbers
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rayalign.config_scoring import RuleScoring, Scoring
from rayalign.errors import DataError
from rayalign.records import Prompt, Sample, Score

RuleFunction = Callable[..., float | None]


@dataclass(frozen=True, slots=True)
class RuleSource:
    """A user's rule, travelling by value: the file's text and the function's name."""

    path: str
    text: str
    function: str

    @property
    def version(self) -> str:
        return rule_version(self.function, self.text)


def read_sources(sections: Sequence[Scoring], folder: Path) -> list[RuleSource | None]:
    """The users' scorer files, checked by importing them once here; null for scorers that are no file.

    Raises:
        DataError: a file is missing, does not import, or lacks the function.
    """
    sources: list[RuleSource | None] = []
    for section in sections:
        source = None
        if isinstance(section, RuleScoring) and section.function != "demo":
            source = read_rule(section.function, folder)
        if source is not None:
            compile_rule(source)
        sources.append(source)
    return sources


def rule_version(function: str, text: str) -> str:
    """Version of a rule: hash of its file and of which function is used."""
    return hashlib.sha256(f"{function}\n{text}".encode()).hexdigest()[:16]


def read_rule(spec: str, folder: Path) -> RuleSource:
    """Read `my_file.py:function`; a relative path is looked up in the working directory, then in `folder`.

    Raises:
        DataError: no such file, or not of that form.
    """
    path_text, colon, function = spec.rpartition(":")
    if not colon or not path_text.endswith(".py") or not function.isidentifier():
        raise DataError(f"scoring.function: {spec!r}", "it is neither `demo` nor of the form my_file.py:function",
                        "write the path of a Python file, a colon, and the function's name")  # fmt: skip
    candidates = [Path(path_text), folder / path_text]
    for path in candidates:
        if path.is_file():
            return RuleSource(str(path), _text(path), function)
    raise DataError(f"scoring.function: {path_text}", "there is no such file",
                    f"looked for {' and '.join(str(c) for c in dict.fromkeys(candidates))}")  # fmt: skip


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"scoring.function: {path} cannot be read", str(error), "save it as UTF-8 text") from None


def compile_rule(source: RuleSource) -> RuleFunction:
    """Run the user's file and take its function.

    Raises:
        DataError: the file does not import, or has no such function, or it does not take (prompt, response).
    """
    namespace: dict[str, Any] = {"__name__": "rayalign_user_rule", "__file__": source.path}
    try:
        # dont_inherit: this module's own __future__ import must not turn the user's annotations into strings.
        exec(compile(source.text, source.path, "exec", dont_inherit=True), namespace)
    except (Exception, SystemExit) as error:
        raise DataError(f"scoring.function: {source.path} cannot be imported", f"{type(error).__name__}: {error}",
                        f"make `python {source.path}` run without an error") from error  # fmt: skip
    function: Any = namespace.get(source.function)
    if not callable(function):
        names = sorted(n for n, v in namespace.items() if inspect.isfunction(v))
        raise DataError(f"scoring.function: {source.path} has no function {source.function!r}",
                        f"it defines {', '.join(names) or 'no function'}", "name one of its functions")  # fmt: skip
    try:
        extra = {"metadata": {}} if _wants_metadata(function) else {}
        inspect.signature(function).bind("prompt", "response", **extra)
    except (TypeError, ValueError) as error:
        raise DataError(f"scoring.function: {source.function} of {source.path} does not take (prompt, response)",
                        str(error),
                        "write it as def score(prompt: str, response: str) -> float | None") from error  # fmt: skip
    return cast(RuleFunction, function)


def _wants_metadata(function: Callable[..., Any]) -> bool:
    return "metadata" in inspect.signature(function).parameters


class RuleScorer:
    """Scores with a function; what the function raises is that answer's `error`, never a number.

    A function with a parameter named `metadata` also gets the prompt's metadata.
    """

    def __init__(self, name: str, version: str, function: RuleFunction) -> None:
        self.name = name
        self.version = version
        self._function = function
        self._wants_metadata = _wants_metadata(function)

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        """One score per sample; `prompts` holds the prompt of each."""
        return [self._score_one(p, s) for p, s in zip(prompts, samples, strict=True)]

    def _score_one(self, prompt: Prompt, sample: Sample) -> Score:
        started = time.perf_counter()
        extra = {"metadata": prompt.metadata} if self._wants_metadata else {}
        try:
            reward = self._function(prompt.text, sample.text, **extra)
            if reward is None:
                return self._failed("abstain", "the rule returned None", started)
            number = not isinstance(reward, bool) and isinstance(reward, numbers.Real)
            if not number or not math.isfinite(reward):
                return self._failed("error", f"the rule returned {reward!r}, which is not a finite number", started)
            return Score(self.name, self.version, "ok", float(reward), latency_s=time.perf_counter() - started)
        except Exception as error:
            return self._failed("error", f"{type(error).__name__}: {error}", started)

    def _failed(self, status: Any, reason: str, started: float) -> Score:
        return Score(self.name, self.version, status, reason=reason, latency_s=time.perf_counter() - started)
