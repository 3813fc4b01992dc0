r"""What stands around a number in a text: whether that makes it a part of something else, whose value is another. Pure.

"x = [5] apples." ─► alone      "3 + [5]", "\log_2 [5]", "about [5]", "5 or [-5]", "[5]!", "[5] million" ─► not
"""

# ruff: noqa: RUF001, RUF003 - dashes and operators that look like others

from __future__ import annotations

import re

from rayalign.scoring.answer_units import unit_of


def _any(*patterns: str) -> str:
    return f"(?:{'|'.join(patterns)})"


_TEXT_COMMAND = r"\\(?:text\w*|math(?:bf|rm|it|sf)|mbox|boxed|fbox)"
_LINK = rf"(?:{_TEXT_COMMAND}|\\(?:(?:long)?rightarrow|implies|iff|therefore|q?quad|displaystyle|left|item|to))"
_VARIABLE = r"(?:(?<![a-zA-Z\\'])[b-hj-zA-HJ-Z]|\\[a-zA-Z]+)"
_DECORATION = re.compile(
    rf"(?:{_TEXT_COMMAND}\s?\{{|\\[(\[,;: ]|[\s$*`\"'(+−-]|(?<![\w}}])_|\b(?:USD|EUR|GBP|INR|US|Rs\.?)\s?|[€£¥₹])*$"
)
"""What stands before a number without a meaning for its value."""

_JOINED_BEFORE = re.compile(
    _any(
        # Powers, roots, denominators: x^5 √5 \frac{a}{5} x/5
        r"\^\{?\s?[-−]?\s?|√|\\sqrt(?:\[\d+\])?\{?|\}\s?\{|[a-zA-Z]/\s*|(?:[})]|\\pi)\s?/\s*",
        # Parts of a number, a ratio, a date, a version, a list: 3,5 2:5 2024-05 1.2.5 1;5 0.(5) 3..5
        r"\d[:/.,']?|\d\s?;\s*|\d\s:\s?|\d[-−]|[\d.]\(|\d\s?\.\.+\s*",
        # Functions, products, sums, differences, negations: f(5) (x)5 2*5 3+5 x-5 +/-5 -(5)
        r"[a-zA-Z]\(|[)}]|\)\s?\(|[\d})]\s?[*x]\s*|[\d)]\*\*|\s\*\*\s|[×·÷±%]\s*|\+\s?/?\s?[-−]\s?|[-−]\s?\(\s?[-−]?",
        rf"(?:[\d)}}\]]|{_VARIABLE})\s?\+\s*|\w\s\+\s+|\w\+|{_VARIABLE}\s?[-−]\s*",
        # Inequalities, but no arrow, no tag and no mark of a quotation: x<5 x>-5 x!=5
        r"(?:<|(?:(?<![\w\"'/=|\-\n>])|(?<![\w</])\w)>|!(?==))=?\s?[-−]?\s?",
    )
    + r"\Z"
)
_WORDS_BEFORE = _any(
    r"minus|negative|plus|times|(?:divided|multiplied) by|over|mod(?:ulo)?|choose|to the power(?: of)?|versus|vs\.?",
    r"(?:not|cannot|n't)(?: be| equal)?(?: to)?|twice|thrice|double|triple|half",
    r"about|approx(?:imately|\.)?|around|roughly|nearly|almost|close to|circa",
    r"(?:more|less|fewer|greater|larger|smaller|bigger|higher|lower) than(?: or equal to)?|under|below|above|between",
    r"sqrt|log\d*|ln|lg|exp|sin|cos|tan|max|gcd|lcm|abs|floor|ceil",
    r"(?:half|thirds?|quarters?|fourths?|fifths?|tenths?|root|square|cube|percent|factorial|multiples?"
    r"|factors?|divisors?|power|logarithm|log|sine|cosine|tangent|reciprocal|inverse|opposite|negative"
    r"|absolute value) of(?: the)?",
    r"step|figure|equation|eq\.|problem|question|example|exercise|section|chapter|table",
)
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)(?:uary|ruary|ch|il|ust|ember|tember|ober)?"
_LED_BY = re.compile(
    _any(
        rf"(?i:(?<![a-z]){_WORDS_BEFORE})|%\sof|n't|\b{_MONTH}[.,]?",
        # Approximations, sets, and commands with their subscripts: ≈5 ~5 {{5}} \log_2 5 \bar{{5}} \pm 5
        rf"[≈≃≅∼∓]|(?<![\w.,:)}}])~|\{{|(?!(?i:{_LINK})$)\\[a-zA-Z]+(?:_(?:\{{\w+\}}|\w))?",
        # Another number beside it: 3 or 5, 3 feet or 5, 3 to 5, 3 of 5, n = 3 or n = 5, 3, 5
        r"\d[^\s,]*(?:(?:,?\s\(?and)|(?:\s[a-zA-Z]+)?,?\s\(?(?:or|to|by|through|until|(?:out )?of|nor|and/or|"
        r"(?:with )?(?:a )?remainder(?: of)?))"
        r"(?:\s?\$?[a-zA-Z]\s?=)?",
        r"(?:\d\S{0,3}|\.\.\.),|\b([a-zA-Z])\s?=[^=\n]{1,15}(?:,|;|\bor\b|\band\b|\}})[\s$]*\1\s?=",
        # Quotient and remainder, combinations, an equation that is not solved: 5 R 2, 5 C 2, 2x = 5
        r"\d\s?[A-Za-z]|(?<![a-zA-Z])\d[\d.]*\s?[xyzn]\s?=",
    )
    + r"\Z"
)
_UNIT_POWER = re.compile(rf"\d(?:\s|\\,)*(?:{_TEXT_COMMAND}\{{\s?)?([A-Za-z]+)\}}?\s?\^\s?\{{?\Z")
_MEASURE = re.compile(r"\d\s?([A-Za-z]+)\.?,?(?:\sand)?$")
_JOINED_AFTER = re.compile(
    _any(
        # Powers, bases, ratios, decimals, products, arguments; digits that repeat or go on: 5^x 5_2 5:3 5(x 5... 5|
        r"\^(?!\{? ?\\circ)|_[\d{a-zA-Z]|[:/]\d|[,.']\d|\(| \([a-zA-Z]? ?[-+*/^]|\.\.+|\} ?\^",
        r" ?\* ?(?:[b-zA-HJ-Z](?![a-zA-Z'])|\(|\\)| ?/ ?(?:\\|[xyzn](?![a-zA-Z]))| ?[π√±×·÷]",
        # Sums, differences, ranges: 5 + x, 5 or more written as 5+, 5 - x, 5–7
        r" ?\+| ?[-−] ?(?:[b-hj-zA-HJ-Z](?![a-zA-Z'])|\(|\\)| ?[–—] ?\d",
        # Inequalities; commands that do not end it: 5 < x, 5 \pi, 5 \pmod 7
        r" ?(?:<(?!/?[a-zA-Z!])|<=|>=)| > ",
        rf" ?(?!\\(?:degree|circ|right|hfill|newline|end|tag|blacksquare|square|checkmark)(?![a-zA-Z])|(?i:{_LINK}))"
        r"\\[a-zA-Z]",
        # Variables, apart from units of one letter: 5 x
        r" [b-fi-kn-rt-zBDEGHMO-UX-Z](?![a-zA-Z']|\.[a-z])",
    )
)
_WORDS_AFTER = re.compile(
    r"[*_$}]*(?:\s|-|\\[ ,]|~)?(?:\\text\{\s?)?(?:(?:hundred|thousand|[mb]illion|trillion|dozen|lakh|crore)s?|squared"
    r"|cubed|factorial|halves|thirds|fourths|quarters|fifths|tenths|(?:hundred|thousand)ths|bn|mn|tn|mod(?:ulo)?|choose"
    r"|plus|minus|(?:divided|multiplied) by|over [a-z\d]|to the power|recurring|repeating"
    r"|times [b-hj-z]|(?:more|less|fewer) than [a-z]|(?:or|and) (?:more|less|fewer|so|above|below)"
    r"|and a (?:half|third|quarter)"
    r"|(?:or|and) \$?[-−]?(?:[b-zA-HJ-Z]|\\))(?![a-zA-Z])"
)
_CLOCK = ("am", "pm")
_UNITS = frozenset("mgs")
"""Units of one letter that may follow without a space; others are factors."""
_EXCLAMATION = re.compile(r"!+(?=[*_\"']*(?:\s+[^\sa-z\d(+*/=^-]|\s*$))")
_PROSE = re.compile(r"[A-Za-z]{2,}:?$")
_LABEL_AFTER = re.compile(r"[.)][ \t]+\S")


def stands_alone(before: str, after: str) -> bool:
    """Whether a number is one of its own, between what stands before it, without a currency, and what follows."""
    lead = _DECORATION.sub("", before)
    if _JOINED_BEFORE.search(before) or _LED_BY.search(lead) or _of_a_measure(lead):
        return False
    if _JOINED_AFTER.match(after) or _WORDS_AFTER.match(after) or _is_factor(after):
        return False
    if after.startswith("!") and not (_EXCLAMATION.match(after) and _PROSE.search(lead)):
        return False
    return not (after.startswith("|") and before.rstrip("-−").endswith("|"))


def is_label(number: str, before: str, after: str) -> bool:
    """Whether a number only counts the lines of a list: "3. Add them.", where a line before it begins with 2."""
    if not (number.isdecimal() and len(number) < 4 and _LABEL_AFTER.match(after)):
        return False
    head, _, indent = before.rpartition("\n")
    return not indent.strip(" \t*#") and bool(re.search(rf"(?m)^[ \t*#]*{int(number) - 1}[.)]\s", head))


def is_unit_power(number: str, before: str) -> bool:
    """Whether a number is the power of a unit, as in 5 cm^2."""
    found = _UNIT_POWER.search(before) if number in ("2", "3") else None
    return found is not None and (found.group(1) == "m" or bool(unit_of(found.group(1), attached=True)))


def _of_a_measure(lead: str) -> bool:
    """Whether the number is the second part of a measure: 5 feet 6, 2 hours and 30."""
    found = _MEASURE.search(lead)
    return found is not None and found.group(1).lower() not in _CLOCK and bool(unit_of(found.group(1), attached=True))


def _is_factor(after: str) -> bool:
    """Whether letters follow at once that are no unit: 5x, 5ab, 5th."""
    word = re.match(r"[A-Za-z]+", after)
    return word is not None and word.group() not in _UNITS and not unit_of(word.group(), attached=True)
