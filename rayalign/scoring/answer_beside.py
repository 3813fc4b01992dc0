"""The unit that stands beside a final answer in prose: whether it is another than the right answer's. Pure.

"... is [5] km." is not 5 m      "[5] red apples" are 5 apples      "[5] in total" tells no unit
"""

from __future__ import annotations

import re

from rayalign.scoring.answer_text import ascii_text, without_text_commands
from rayalign.scoring.answer_units import known, plain_power, unit_of

_BETWEEN = re.compile(r"^(?:[ $*_`~})\]]|\\[,;:! )\]])*")
_TOKEN = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*|/|\^ ?\{?[23]\}?")
_NO_UNIT = frozenset(
    """
    a about above after again ago all altogether an and are as at away because before below but by can change each
    every everything exactly extra fewer final finally for from further had has have he hence her here his how i if in
    instead into is it its larger later left less long longer made many more most my needed now of off old older on once
    only or our out over overall per plus remain remaining remains respectively she should since so still such tall than
    that the their then there therefore these they this those though through thus to today together total
    tomorrow too under until up was wasted we were when where which while who will with would yesterday you your
    """.split()  # noqa: SIM905 - a list of as many lines as words says no more
)
"""Words that go on with the sentence."""
_MOST = 5


def other_unit(after: str, unit: str) -> bool:
    """Whether what follows an answer is a unit, and not this one."""
    text = _BETWEEN.sub("", without_text_commands(_BETWEEN.sub("", ascii_text(after).split("\n", 1)[0])))
    if symbol := re.match(r"\\?[%$€£¢₹¥]|\^ ?\{?\\circ\}? ?[CF]?", text):
        said = re.sub(r"[\\^{} ]|circ", "", symbol.group())
        return unit not in (said, f"deg{said}") and not (said == "" and unit.startswith("deg"))
    tokens = _tokens(text)
    words = [place for place, token in enumerate(tokens) if token[0].isalpha()]
    if not words or words[0] or tokens[0].lower() in _NO_UNIT:
        return tokens[:2] == ["in"] and unit != "in"
    last = next((place for place in words if tokens[place].lower() in _NO_UNIT), len(tokens))
    firsts = [0] if known(tokens[0]) else [place for place in words if place < last]
    return not any(_is_unit(tokens, first, end, unit) for first in firsts for end in range(first + 1, len(tokens) + 1))


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    while len(tokens) < _MOST and (found := _TOKEN.match(text, position)):
        tokens.append(found.group())
        position = found.end()
        position += len(text[position:]) - len(text[position:].lstrip(" "))
    return tokens


def _is_unit(tokens: list[str], first: int, end: int, unit: str) -> bool:
    """Whether these tokens are the unit, and no larger one goes on behind them: km/h, cm squared, apple pies."""
    power = plain_power(tokens[end - 1]) if tokens[end - 1][0] == "^" else ""
    if unit_of(" ".join(tokens[first : end - bool(power)])) + power != unit:
        return False
    behind = tokens[end].lower() if end < len(tokens) else ""
    whole = known(tokens[end - 1]) or tokens[end - 1].lower().endswith("s") or power != ""
    return (
        not (behind[:1] in ("/", "^") and behind)
        and behind not in ("per", "squared", "cubed")
        and (whole or not behind or behind in _NO_UNIT)
    )
