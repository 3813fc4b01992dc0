"""A user's rule as a file: found, read, run once, and its function checked. Imports nothing heavy: a child process
that scores starts with this."""

from __future__ import annotations

import hashlib
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayalign.errors import DataError
from rayalign.scoring.files import find_file, read_text

RuleFunction = Callable[..., Any]
"""(prompt, response[, metadata]) -> a number, or None to abstain; lists of them for a rule on batches; or the same as
`async def`."""
_PROMPTS = frozenset(["prompt", "prompts", "question", "questions", "query", "queries", "instruction", "instructions"])
_RESPONSES = frozenset(
    ["response", "responses", "completion", "completions", "answer", "answers", "output", "outputs", "prediction"]
)
_TARGETS = frozenset(["target", "targets", "gold", "reference", "references", "ground_truth", "expected"])
"""How people call what a rule gets, and what stands in the metadata alone."""


@dataclass(frozen=True, slots=True)
class RuleSource:
    """A user's rule, travelling by value: the file's text and the function's name."""

    path: str
    text: str
    function: str
    shipped: bool = False
    """Whether it is one of rayalign's own, which a resumed run does not compare."""

    @property
    def version(self) -> str:
        """Hash of the file and of which function is used."""
        return hashlib.sha256(f"{self.function}\n{self.text}".encode()).hexdigest()[:16]


def read_rule(spec: str, folder: Path) -> RuleSource:
    """Read `my_file.py:function`; a relative path is looked up in the working directory, then in `folder`.

    Raises:
        DataError: no such file, or not of that form.
    """
    path_text, colon, function = spec.rpartition(":")
    if not colon or not path_text.endswith(".py") or not function.isidentifier():
        raise DataError(
            f"scoring.function: {spec!r}",
            "it is neither `demo` nor of the form my_file.py:function",
            "write the path of a Python file, a colon, and the function's name",
        )
    path = find_file("scoring.function", Path(path_text), folder)
    return RuleSource(str(path), read_text("scoring.function", path), function)


def compile_rule(source: RuleSource) -> RuleFunction:
    """Run the user's file and take its function.

    Raises:
        DataError: the file does not import, or has no such function, or it does not take (prompt, response).
    """
    # Dataclasses and type hints look their module up by name, while it runs and later.
    module = types.ModuleType(f"rayalign_user_rule_{source.version}")
    module.__file__ = source.path
    namespace = vars(module)
    sys.modules[module.__name__] = module
    try:
        # dont_inherit: this module's own __future__ import must not turn the user's annotations into strings.
        exec(compile(source.text, source.path, "exec", dont_inherit=True), namespace)
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise DataError(
            f"scoring.function: {source.path} cannot be imported",
            f"{type(error).__name__}: {error}",
            f"make `python {source.path}` run without an error",
        ) from error
    function = namespace.get(source.function)
    if not callable(function):
        names = sorted(n for n, v in namespace.items() if inspect.isfunction(v))
        raise DataError(
            f"scoring.function: {source.path} has no function {source.function!r}",
            f"it defines {', '.join(names) or 'no function'}",
            "name one of its functions",
        )
    try:
        extra = {"metadata": {}} if wants_metadata(function) else {}
        inspect.signature(function).bind("prompt", "response", **extra)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"scoring.function: {source.function} of {source.path} does not take (prompt, response)",
            str(error),
            "write it as def score(prompt: str, response: str) -> float | None",
        ) from error
    if wrong := _wrong_place(function):
        raise DataError(
            f"scoring.function: {source.function} of {source.path} has {wrong!r} where it gets something else",
            "a rule gets the prompt first and the response second, whatever they are called",
            "write it as def score(prompt: str, response: str, metadata: dict) -> float | None; what the dataset has "
            "beside the prompt is in the metadata",
        )
    return function


def _wrong_place(function: RuleFunction) -> str | None:
    """The first of its two parameters whose name says that it is meant for something else."""
    positional = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [one.name for one in inspect.signature(function).parameters.values() if one.kind in positional]
    others = _RESPONSES | _TARGETS, _PROMPTS | _TARGETS
    return next((name for name, wrong in zip(names, others, strict=False) if name.lower() in wrong), None)


def wants_metadata(function: RuleFunction) -> bool:
    """Whether a rule has a parameter named `metadata`."""
    return "metadata" in inspect.signature(function).parameters
