r"""Final answers, GSM8K and MATH style: found in a response, normalised, and compared with the right one. Pure.

"... so 3 * 4 = 12.\n#### 12"   "The answer is $\boxed{\frac{1}{2}}$."   "It takes her 1,200 seconds."
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from rayalign.config.rewards import AnswerScoring
from rayalign.records import Prompt, Sample, Score
from rayalign.rendering import thoughts
from rayalign.rendering.thoughts import without_thoughts
from rayalign.scoring import answer_beside, answer_choices, answer_text, answer_units, last_numbers, number_context
from rayalign.scoring.answer_beside import other_unit
from rayalign.scoring.answer_choices import choice_in, read_choice, same_choice
from rayalign.scoring.answer_text import (
    compact,
    in_line,
    one_writing,
    split_parts,
    split_text_unit,
    without_text_commands,
)
from rayalign.scoring.answer_units import plain_power, split_unit, unit_of
from rayalign.scoring.definitions import definitions_digest
from rayalign.scoring.last_numbers import last_measure, last_number

_MAX_NUMBER = 100
"""Longer texts are no numbers: a response must not decide how large an integer is computed."""
_MAX_ANSWER = 400
"""Longer texts are compared as they are."""
_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_PLAIN = re.compile(rf"([+-]?)({_DECIMAL})(?:[eE]([+-]?\d{{1,2}}))?")
_POWER = re.compile(rf"([+-]?)(?:({_DECIMAL})\\times)?10\^(?:\{{([+-]?\d{{1,2}})\}}|([+-]?\d))")
_RATIO = re.compile(r"([+-]?)(\d+(?:\.\d+)?)/([+-]?\d+(?:\.\d+)?)")
_FRACTION = re.compile(r"([+-]?)(\d*)\\frac\{([+-]?\d+(?:\.\d+)?)\}\{([+-]?\d+(?:\.\d+)?)\}")
_MIXED = re.compile(r"([+-]?)(\d+) (\d+)/(\d+)")
_GROUPED = re.compile(
    r"[+-]?(?:[1-9]\d{0,2}(?:(?:,\d{3})+|(?: \d{3})+|(?:'\d{3})+)|[1-9]\d?(?:,\d{2})+,\d{3})(?:\.\d*)?"
)
_NAME = re.compile(r"(\\?[A-Za-z]+ ?(?:_ ?(?:\w|\{\w+\}))?) ?= ?([^=]+)")
_NO_ELEMENT = re.compile(r"[+-]?0\d+|")
"""What stands between commas that may be thousands' or decimal ones."""
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|(?<!\\)[{}]")


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


EXTRACTORS = {"boxed": last_boxed, "hashes": after_hashes, "last_number": last_number}


def extract(text: str, how: str = "auto", *, choice: bool = False) -> str | None:
    """The final answer of a response; `auto` takes the first of boxed, hashes, last_number that is there.

    Args:
        choice: the answer is one of several choices: `auto` takes its letter, in what was found or in all of the text,
            and never a number.
    """
    if how != "auto":
        return EXTRACTORS[how](text)
    if choice:
        boxed, after = last_boxed(text), after_hashes(text)
        # A heading has hashes too.
        found = after if boxed is None and after is not None and choice_in(after) else boxed
        return found if found is not None and read_choice(found) else choice_in(text if found is None else found)
    return next((found for find in EXTRACTORS.values() if (found := find(text)) is not None), None)


def _marked(text: str) -> str | None:
    """The answer that is boxed, or stands after hashes."""
    return next((found for find in (last_boxed, after_hashes) if (found := find(text)) is not None), None)


def _unit_beside(response: str, found: str, gold: str) -> bool:
    """Whether a unit behind what was found, and not in it, is another than the right answer's."""
    unit, own = read_answer(gold).unit, read_answer(found).unit
    if not unit or own:
        # A time of day in a sentence, "at 5 pm", is no 5.
        return not unit and own in ("am", "pm") and found != _marked(response)
    number, after = last_measure(response)
    if found == last_boxed(response):
        after = response[response.rfind(found) + len(found) + 1 :]
    elif found != number:
        return False
    return other_unit(after, unit)


@dataclass(frozen=True, slots=True)
class Written:
    """An answer, read: what it says, and what stands beside it."""

    text: str
    unit: str = ""
    """In one form; empty where none is told."""
    name: str = ""
    r"""Of `x = 5` or `\theta = 5` what is on the left."""


def read_answer(answer: str) -> Written:
    """One writing for answers that differ in form only; a unit or a name is split off where a number is left."""
    if len(answer) > _MAX_ANSWER:
        return Written(answer.strip())
    text, name = _split_name(one_writing(answer))
    rest, words, power = split_text_unit(text)
    unit = unit_of(words)
    if unit:
        text, unit = rest, unit + plain_power(power)
    text = without_text_commands(text)
    number, beside = (text, "") if unit else split_unit(text)
    if beside and _number_text(number) is not None:
        text, unit = number, beside
    plain = _number_text(text)
    return Written(in_line(compact(text)) if plain is None else plain, unit, name)


def _split_name(text: str) -> tuple[str, str]:
    """`x = 5` as 5 and x; words on the left, such as `area`, are no name that another answer must have too."""
    found = _NAME.fullmatch(text)
    if found is None or not re.search(r"[\d\\]", found.group(2)):
        return text, ""
    name = found.group(1).replace(" ", "")
    return found.group(2), name if len(name) == 1 or not name.isalpha() else ""


def _number_text(text: str) -> str | None:
    """A number without what only separates its digits, without zeros that say nothing; None for anything else."""
    text = compact(re.sub(r"\( ?([^(),\[\]]*?) ?\)", r"\1", text) if text.startswith("(") else text)
    if _GROUPED.fullmatch(text):
        text = re.sub(r"[,' ]", "", text)
    if match := re.fullmatch(r"([+-]?)(\d*)(?:\.(\d*))?", text):
        text = _plain_decimal(*match.groups())
    return None if to_number(text) is None else text


def normalise(answer: str) -> str:
    r"""One writing for answers that differ in form only: minus signs, spaces, `$`, `%`, thousands' separators, `\left`,
    `\dfrac`, units and text commands, `x =`, a full stop at the end, a plus sign, zeros that say nothing."""
    return read_answer(answer).text


def _plain_decimal(sign: str, whole: str, decimals: str | None) -> str:
    if not whole and not decimals:
        return sign
    digits, rest = whole.lstrip("0") or "0", (decimals or "").rstrip("0")
    value = f"{digits}.{rest}" if rest else digits
    return f"-{value}" if sign == "-" and value != "0" else value


def to_number(text: str) -> Fraction | None:
    r"""Exact value of a normalised decimal, power of ten, ratio `1/2`, `\frac{1}{2}`, or mixed number `1\frac{1}{2}`,
    `1 1/2`; None for anything else."""
    if len(text) > _MAX_NUMBER:
        return None
    if match := _PLAIN.fullmatch(text):
        sign, digits, exponent = match.groups()
        return _signed(sign, Fraction(digits) * Fraction(10) ** int(exponent or 0))
    if match := _POWER.fullmatch(text):
        sign, digits, braced, exponent = match.groups()
        return _signed(sign, Fraction(digits or 1) * Fraction(10) ** int(braced or exponent))
    if match := _RATIO.fullmatch(text):
        sign, above, below = match.groups()
        return _signed(sign, _divide(above, below))
    if match := _FRACTION.fullmatch(text) or _MIXED.fullmatch(text):
        sign, whole, above, below = match.groups()
        part = _divide(above, below)
        # 1 3/2 is no way to write a number.
        if part is None or (whole and not 0 <= part < 1):
            return None
        return _signed(sign, Fraction(whole or 0) + part)
    return None


def _divide(above: str, below: str) -> Fraction | None:
    return Fraction(above) / Fraction(below) if Fraction(below) else None


def _signed(sign: str, value: Fraction | None) -> Fraction | None:
    return -value if sign == "-" and value is not None else value


def same_answer(found: str, gold: str, match: str = "numeric") -> bool:
    """Whether two answers are the same: as normalised text, or for `numeric` also as numbers, exactly, or as tuples,
    intervals and sets of them. What is not understood is the same as its own text alone. Units, and names as in
    `x = 5`, may be left out, but not differ."""
    one, other = read_answer(found), read_answer(gold)
    if _differ(one.unit, other.unit) or _differ(one.name, other.name) or not (one.text and other.text):
        return False
    if one.text == other.text or _same_word(one.text, other.text) or same_choice(found, gold):
        return True
    return match == "numeric" and _same_value(one.text, other.text)


def _differ(one: str, other: str) -> bool:
    return bool(one and other and one != other)


def _same_word(one: str, other: str) -> bool:
    """Yes and yes; not AB and ab, which are products."""
    return all(len(word) > 1 and word.isalpha() and word[1:].islower() for word in (one, other)) and (
        one.lower() == other.lower()
    )


def _same_value(one: str, other: str) -> bool:
    value = to_number(one)
    if value is not None:
        return value == to_number(other)
    parts, others = split_parts(one), split_parts(other)
    if parts is None or others is None or parts[::2] != others[::2] or len(parts[1]) != len(others[1]):
        return False
    left, right = parts[1], others[1]
    if any(_NO_ELEMENT.fullmatch(item.strip()) for item in [*left, *right]):
        return False
    if parts[0] != "{":
        return all(map(same_answer, left, right))
    return _matched(left, right) and _matched(right, left)


def _matched(items: Sequence[str], among: Sequence[str]) -> bool:
    return all(any(same_answer(item, other) for other in among) for item in items)


def gold_answer(value: Any) -> str | None:
    """The right answer of a dataset's field: a number, an answer, or a whole solution that ends in one."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value)
    marked = _marked(text)
    return (text if marked is None else marked).strip() or None


@cache
def _code() -> str:
    """The version of the code that reads and compares answers."""
    parts = (answer_beside, answer_choices, answer_text, answer_units, last_numbers, number_context, thoughts)
    return definitions_digest(Path(__file__), *parts)


class AnswerScorer:
    """1.0 for the right final answer, 0.0 for a wrong one and for a response in which none is found."""

    def __init__(self, section: AnswerScoring) -> None:
        self.name = section.name
        text = f"{section.field} {section.extract} {section.match}\n{_code()}"
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
        response = without_thoughts(sample.text)
        found = extract(response, self._section.extract, choice=read_choice(gold) is not None)
        right = found is not None and same_answer(found, gold, self._section.match)
        right = right and not _unit_beside(response, found or "", gold)
        aspects = {"no_answer": 1.0} if found is None else {}
        seconds = time.perf_counter() - started
        return Score(self.name, self.version, "ok", float(right), aspects=aspects, latency_s=seconds)
