r"""An answer as it is written: characters and LaTeX brought to one form, without a change of what they mean. Pure.

minus signs of all kinds ─► "-"      "1{,}000", "1\,000" ─► "1,000", "1 000"      "\dfrac12" ─► "\frac{1}{2}"
"""

# ruff: noqa: RUF001 - characters that look like others are what this file is about

from __future__ import annotations

import functools
import re
import unicodedata
from itertools import pairwise

DASHES = "-−‐‑‒–—―﹣－➖"
"""Characters that people write for a minus, the hyphen first."""
_WORDS = {
    "π": r"\pi ", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/",
    "⁄": "/", "∕": "/", "°": r"^\circ ", "º": r"^\circ ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ",
    "∪": r"\cup ", "∩": r"\cap ", "θ": r"\theta ", "’": "'", "‘": "'", "′": "'", "“": '"', "”": '"', "…": "...",
}  # fmt: skip
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_RAISED_RUN = re.compile(f"[{''.join(_RAISED)}]+")
_LOWERED_RUN = re.compile(f"[{''.join(_LOWERED)}]+")
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+(?:\.\d+)?|[a-zA-Z]))")
_PLAIN_ROOT = re.compile(r"(?<![\\a-zA-Z])sqrt\s*(?:\(([^()]*)\)|\{([^{}]*)\})")
_NO_MEANING = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|limits|[bB]igg?[lr]?)(?![a-zA-Z])|\\!|\\(?:hspace|phantom)\{[^{}]*\}"
)
_SPACES = re.compile(r"(?<!\\)\\[,;:> ]|\\(?:q?quad|thinspace|space)(?![a-zA-Z])|(?<=[\w.,:;)}\]$])~(?=\S)|\s+")
_TEXT_COMMAND = r"\\(?:text|textbf|textit|textrm|textsf|textnormal|mathrm|mathbf|mathit|mathsf|mbox|operatorname)"
_OF_ONE_WRITING = (
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*\{"), r"\\frac{\1}{"),
    (re.compile(r"\\frac\s*(\{[^{}]*\})\s*(\d)"), r"\\frac\1{\2}"),
    (re.compile(r"\\frac\s*\{\s*([^{}]*?)\s*\}\s*\{\s*([^{}]*?)\s*\}"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt\s*(\[[^\[\]]*\])?\s*(\d|[a-zA-Z])"), r"\\sqrt\1{\2}"),
    (re.compile(r"\\sqrt\s*\{\s*([^{}]*?)\s*\}"), r"\\sqrt{\1}"),
    (re.compile(r"\\(?:cdot|ast|times)(?![a-zA-Z])\s*|(?<=\d) ?[x*] ?(?=10 ?\^)"), r"\\times "),
    (re.compile(r"\\(l|g|n)eq(?![a-zA-Z])"), r"\\\1e"),
    (re.compile(r"\^\s*\{\s*\\circ\s*\}"), r"^\\circ"),
    (re.compile(r"\\degree(?![a-zA-Z])"), r"^\\circ"),
    (re.compile(r"([_^]) ?(\w)(?!\w)"), r"\1{\2}"),
    (re.compile(r"\+\s*\\infty"), r"\\infty"),
    (re.compile(r"\\([%$#&_])"), r"\1"),
)
_WRAPS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\$\$([^$]*)\$\$", r"\$([^$]*[^$\\])\$", r"\\\(((?:(?!\\\)).)*)\\\)", r"\\\[((?:(?!\\\]).)*)\\\]",
        r"\*\*([^*]*)\*\*", r"\*([^*]*)\*", r"`([^`]*)`", r"\"([^\"]*)\"",
        rf"(?:{_TEXT_COMMAND}|\\boxed|\\fbox)\s*\{{(.*)\}}", r"\{([^{},]*)\}",
        r"(?:[Tt]he\s+)?(?:[Ff]inal\s+)?[Aa]nswer\s*(?:is\s*:?|:|=)\s*(.+)",
    )
)  # fmt: skip
_END = re.compile(r"(?:(?<!\.)\.|[,; ])+$")
"""What may close an answer; three dots go on."""
_INNER_TEXT = re.compile(rf"{_TEXT_COMMAND}\s*\{{([^{{}}]*)\}}")

_TEXT_UNIT = re.compile(rf"(.*[\d}})]) ?{_TEXT_COMMAND}\s*\{{([^{{}}]*)\}} ?(\^ ?\{{?[23]\}}?)?")


def ascii_text(text: str, *, dashes: bool = True) -> str:
    """The text in ASCII, as far as it has a meaning there: digits of every script, minus signs, fractions, powers.

    Args:
        dashes: whether a dash of any kind becomes `-`; which kind it is can tell a range from a minus.
    """
    if text.isascii():
        return text
    text = _ROOT.sub(lambda found: rf"\sqrt{{{next(part for part in found.groups() if part is not None)}}}", text)
    text = _RAISED_RUN.sub(lambda found: f"^{{{''.join(map(_RAISED.__getitem__, found.group()))}}}", text)
    text = _LOWERED_RUN.sub(lambda found: f"_{{{''.join(map(_LOWERED.__getitem__, found.group()))}}}", text)
    return _NOT_ASCII.sub(lambda found: _in_ascii(found.group(), dashes), text)


@functools.lru_cache(maxsize=4096)
def _in_ascii(character: str, dashes: bool) -> str:
    if character in DASHES:
        return "-" if dashes else character
    if character in _WORDS:
        return _WORDS[character]
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if "\uff01" <= character <= "\uff5e":
        return chr(ord(character) - 0xFEE0)
    if unicodedata.decomposition(character).startswith("<fraction>"):
        above, _, below = unicodedata.normalize("NFKC", character).partition("⁄")
        return rf"\frac{{{above}}}{{{below}}}" if below else character
    if unicodedata.category(character) == "Cf":
        return ""
    return " " if character.isspace() else character


def one_writing(answer: str) -> str:
    """An answer without what wraps it whole, and with one form of each LaTeX command; spaces are single ones."""
    text = ascii_text(answer)
    text = _NO_MEANING.sub("", text.replace("{,}", ","))
    text = _unwrapped(_SPACES.sub(" ", text))
    text = _PLAIN_ROOT.sub(lambda found: rf"\sqrt{{{found.group(1) or found.group(2) or ''}}}", text)
    for pattern, form in _OF_ONE_WRITING:
        text = pattern.sub(form, text)
    return text.strip()


def _unwrapped(text: str) -> str:
    """The text inside math and text delimiters that stand around all of it, without a full stop at the end."""
    while True:
        inner = _END.sub("", text.strip())
        for wrap in _WRAPS:
            found = wrap.fullmatch(inner)
            if found and _balanced(found.group(1)):
                inner = found.group(1)
        if inner == text:
            return text
        text = inner


def _balanced(text: str) -> bool:
    """Whether every brace in it closes in it."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def without_text_commands(text: str) -> str:
    r"""The text with `\text{...}` and its like replaced by what they hold."""
    return _INNER_TEXT.sub(r" \1 ", text).strip()


def split_text_unit(text: str) -> tuple[str, str, str]:
    r"""A text, the words of the `\text{...}` at its end, and the power of these; empty where there are none."""
    found = _TEXT_UNIT.fullmatch(text)
    return (found.group(1), found.group(2), found.group(3) or "") if found else (text, "", "")


_ONE_FRACTION = re.compile(r"([+-]?)\\frac\{((?:[^{}]|\{[^{}]*\})+)\}\{((?:[^{}]|\{[^{}]*\})+)\}")
_ATOM = re.compile(r"\d+|\\?[A-Za-z]+|\\sqrt\{[^{}]*\}")
_PRODUCT = re.compile(r"-?(?:\d|\\[A-Za-z]+|[A-Za-z]|\{[^{}]*\}|\^)+")


def in_line(text: str) -> str:
    r"""A text that is one fraction, `\frac{\pi}{2}` or `\frac{x+1}{2}`, as `\pi/2` and `(x+1)/2`."""
    found = _ONE_FRACTION.fullmatch(text)
    if found is None or "frac" in found.group(2) + found.group(3):
        return text
    sign, above, below = found.groups()
    above = above if _PRODUCT.fullmatch(above) and not (sign and above[0] == "-") else f"({above})"
    below = below if (_ATOM.fullmatch(below) and not below.isalpha()) or len(below) == 1 else f"({below})"
    return f"{sign}{above}/{below}"


def compact(text: str) -> str:
    """Without spaces but for those that keep two numbers apart, or a comma from being a separator of thousands."""
    return re.sub(r"(?<![\d,]) | (?!\d)|(?<=,) (?!\d{3}(?!\d))", "", text)


def split_parts(text: str) -> tuple[str, list[str], str] | None:
    r"""The opening bracket, the elements and the closing bracket of a tuple, interval, set or bare list of two or more;
    None for anything else.

    >>> split_parts("[1,(2,3))")
    ('[', ['1', '(2,3)'], ')')
    """
    text = text.replace("\\{", "{").replace("\\}", "}")
    depths, depth = [], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        depths.append(depth)
    if depth or min(depths, default=0) < 0:
        return None
    # The first bracket closes at the end alone.
    whole = text[:1] in "([{" and text[-1:] in ")]}" and 0 not in depths[:-1]
    inner, level = (text[1:-1], 1) if whole else (text, 0)
    commas = [i for i, one in enumerate(text) if one == "," and depths[i] == level]
    if not commas and not (whole and text[0] == "{" and inner):
        return None
    cuts = [level - 1, *commas, len(text) - level]
    items = [text[before + 1 : after].strip() for before, after in pairwise(cuts)]
    return (text[0] if whole else "", items, text[-1] if whole else "")
