r"""Final answers, GSM8K and MATH style: found in a response, normalised, and compared with the right one. Pure.

"... so 3 * 4 = 12.\n#### 12"   "The answer is $\boxed{\frac{1}{2}}$."   "It takes her 1,200 seconds."
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from rayalign.config.rewards import AnswerScoring
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.definitions import definitions_digest

_MAX_NUMBER = 100
"""Longer texts are no numbers: a response must not decide how large an integer is computed."""
_FRAC = r"\\[dt]?frac\s*\{[^{}]*\}\s*\{[^{}]*\}"
_LAST_NUMBER = re.compile(
    rf"(?<![\w.])-?\s?\$?(?:{_FRAC})|(?:(?<![\w.,)])-\s?)?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s?/\s?\d+(?:\.\d+)?)?%?"
)
_PLAIN = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,2}))?")
_RATIO = re.compile(r"([+-]?)(\d+(?:\.\d+)?)/([+-]?\d+(?:\.\d+)?)")
_MIXED = re.compile(r"([+-]?)(\d*)\\frac\{([+-]?\d+(?:\.\d+)?)\}\{([+-]?\d+(?:\.\d+)?)\}")
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|(?<!\\)[{}]")
_SPACING = re.compile(r"\\[,!;: ]|\\q?quad(?![a-zA-Z])|~|\s")
_UNIT = re.compile(r"(?<=[\d})])(?:\\(?:text|mathrm|mbox)\{[^{}]*\}|\^?\\circ|\^\{\\circ\}|°)+$")
_WRAP = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\{([^{}]*)\}")


def last_boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{...}` (or `\fbox`) whose braces close, nested ones included."""
    opened: list[tuple[int, bool]] = []
    found = (-1, -1)
    for match in _BRACES.finditer(text):
        if match.group() != "}":
            opened.append((match.end(), len(match.group()) > 1))
        elif opened:
            start, boxed = opened.pop()
            found = max(found, (start, match.start())) if boxed else found
    return None if found[0] < 0 else text[found[0] : found[1]]


def after_hashes(text: str) -> str | None:
    """What follows the last `####` on its line."""
    found = re.findall(r"####[ \t]*([^\n]*\S)", text)
    return found[-1] if found else None


def last_number(text: str) -> str | None:
    """The last number or fraction in the text."""
    found = [match.group() for match in _LAST_NUMBER.finditer(text)]
    return found[-1] if found else None


EXTRACTORS = {"boxed": last_boxed, "hashes": after_hashes, "last_number": last_number}


def extract(text: str, how: str = "auto") -> str | None:
    """The final answer of a response; `auto` takes the first of boxed, hashes, last_number that is there."""
    if how != "auto":
        return EXTRACTORS[how](text)
    return next((found for find in EXTRACTORS.values() if (found := find(text)) is not None), None)


def normalise(answer: str) -> str:
    r"""One writing for answers that differ in form only: spaces, `$`, `%`, thousands' commas, `\left`, `\dfrac`,
    units and text commands, `x =`, a full stop at the end, a plus sign, zeros that say nothing."""
    text = _SPACING.sub("", answer.strip().replace("\\$", "").replace("$", ""))
    text = text.replace("\\%", "").replace("%", "").replace("\\left", "").replace("\\right", "")
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    text = _UNIT.sub("", text)
    text = _WRAP.sub(r"\1", text).rstrip(".")
    text = re.sub(r"^[a-zA-Z]=", "", text)
    if re.fullmatch(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?", text):
        text = text.replace(",", "")
    if match := re.fullmatch(r"([+-]?)(\d*)(?:\.(\d*))?", text):
        text = _plain_decimal(*match.groups())
    return text


def _plain_decimal(sign: str, whole: str, decimals: str | None) -> str:
    if not whole and not decimals:
        return sign
    digits, rest = whole.lstrip("0") or "0", (decimals or "").rstrip("0")
    value = f"{digits}.{rest}" if rest else digits
    return f"-{value}" if sign == "-" and value != "0" else value


def to_number(text: str) -> Fraction | None:
    r"""Exact value of a normalised decimal, ratio `1/2`, `\frac{1}{2}` or `1\frac{1}{2}`; None for anything else."""
    if len(text) > _MAX_NUMBER:
        return None
    if match := _PLAIN.fullmatch(text):
        sign, digits, exponent = match.groups()
        return _signed(sign, Fraction(digits) * Fraction(10) ** int(exponent or 0))
    if match := _RATIO.fullmatch(text):
        sign, above, below = match.groups()
        return _signed(sign, _divide(above, below))
    if match := _MIXED.fullmatch(text):
        sign, whole, above, below = match.groups()
        part = _divide(above, below)
        return _signed(sign, None if part is None else Fraction(whole or 0) + part)
    return None


def _divide(above: str, below: str) -> Fraction | None:
    return Fraction(above) / Fraction(below) if Fraction(below) else None


def _signed(sign: str, value: Fraction | None) -> Fraction | None:
    return -value if sign == "-" and value is not None else value


def same_answer(found: str, gold: str, match: str = "numeric") -> bool:
    """Whether two answers are the same: as normalised text, or for `numeric` also as numbers, exactly."""
    one, other = normalise(found), normalise(gold)
    if one == other:
        return True
    if match == "exact":
        return False
    value = to_number(one)
    return value is not None and value == to_number(other)


def gold_answer(value: Any) -> str | None:
    """The right answer of a dataset's field: a number, an answer, or a whole solution that ends in one."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value)
    marked = next((found for find in (last_boxed, after_hashes) if (found := find(text)) is not None), text)
    return marked.strip() or None


class AnswerScorer:
    """1.0 for the right final answer, 0.0 for a wrong one and for a response in which none is found."""

    def __init__(self, section: AnswerScoring) -> None:
        self.name = section.name
        text = f"{section.field} {section.extract} {section.match}\n{definitions_digest(Path(__file__))}"
        self.version = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._section = section

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        """One score per sample; a prompt without the field abstains."""
        return [self._score_one(p, s) for p, s in zip(prompts, samples, strict=True)]

    def close(self) -> None:
        """Nothing to end."""

    def _score_one(self, prompt: Prompt, sample: Sample) -> Score:
        started = time.perf_counter()
        gold = gold_answer(prompt.metadata.get(self._section.field))
        if gold is None:
            reason = f"the prompt's metadata has no answer in {self._section.field!r}"
            return Score(self.name, self.version, "abstain", reason=reason)
        found = extract(sample.text, self._section.extract)
        right = found is not None and same_answer(found, gold, self._section.match)
        aspects = {"no_answer": 1.0} if found is None else {}
        seconds = time.perf_counter() - started
        return Score(self.name, self.version, "ok", float(right), aspects=aspects, latency_s=seconds)
