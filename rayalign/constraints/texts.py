r"""A text in words, sentences, lines and paragraphs; what stands between brackets. Each in time linear in the text.

No expression here can begin a long match at many places of a run: that would take the square of a text of 1 MB
without a space.
"""

# ruff: noqa: RUF001, RUF002 - quotation and full stops of all scripts

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

WORD = re.compile(r"\w+")
_JOINED_WORD = re.compile(r"\w+(?:[-.'’]\w+)*")
_SENTENCE_END = re.compile(r"(?<![.!?…])(?:[.!?…]++[\"'”’»)\]*_]*+(?=\s|\Z))|[。！？।]")
_BEFORE = re.compile(r"(?:^|[\s(\[\"'“‘*_])([\w.]+)\Z")
_ORDINAL = re.compile(r"(?:\A|\n)[ \t]*\d{1,4}\Z")
_DOTTED = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]")
_LOOK_BACK = 24
_NEVER_LAST = "mr mrs ms dr prof st rev hon capt lt gov vs cf approx viz e.g i.e"
"""Abbreviations that something follows."""
_BEFORE_NUMBERS = "no nos fig figs vol pp"
"""Those that a number follows; else they are words."""
_PERHAPS_LAST = "etc inc ltd co corp jr sr a.m p.m ph.d al dept"
"""Those that end a sentence where a capital letter follows."""
_ENDS_BEFORE: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(_NEVER_LAST.split(), lambda character: False),
    **dict.fromkeys(_BEFORE_NUMBERS.split(), lambda character: not character.isdigit()),
    **dict.fromkeys(_PERHAPS_LAST.split(), str.isupper),
}
"""Abbreviation -> whether it ends a sentence before a character."""


def words(text: str) -> Iterator[str]:
    """Runs of letters, digits and underscores, as `\\w+` finds them."""
    return (found.group() for found in WORD.finditer(text))


def joined_words(text: str) -> Iterator[str]:
    """Words of which hyphens, apostrophes and full stops inside are part: `well-known`, `don't`, `U.S`."""
    return (found.group() for found in _JOINED_WORD.finditer(text))


def sentences(text: str) -> list[str]:
    """The sentences of a text: up to `.`, `!`, `?` or `…` (with what closes behind it) before a space or the end, or
    up to `。`, `！`, `？` or `।`. A full stop of an abbreviation, an initial or a list's number ends none, nor do dots
    that a small letter follows. What has no letter or digit is no sentence.
    """
    pieces, start = [], 0
    for found in _SENTENCE_END.finditer(text):
        if found.group()[0] != "." or _ends(text, found):
            pieces.append(text[start : found.end()])
            start = found.end()
    return [piece.strip() for piece in [*pieces, text[start:]] if WORD.search(piece)]


def _ends(text: str, found: re.Match[str]) -> bool:
    """Whether one or more full stops end a sentence."""
    follows = text[found.end() : found.end() + 4].lstrip("\"'“‘«([ \n\t")[:1]
    if found.group().startswith(".."):
        return not follows.islower()
    before = text[max(0, found.start() - _LOOK_BACK) : found.start()]
    if _ORDINAL.search(before):
        return False
    last = _BEFORE.search(before)
    if last is None:
        return True
    word = last.group(1)
    ends_before = _ENDS_BEFORE.get(word.lower())
    if not follows:
        return True
    if ends_before is not None:
        return ends_before(follows)
    initial = len(word) == 1 and word.isupper() and word != "I"
    return not initial and not _DOTTED.fullmatch(word)


def lines(text: str) -> list[str]:
    """Lines in which there is something to be seen."""
    return [line for line in text.split("\n") if line.strip()]


def paragraphs(text: str) -> list[str]:
    """What blank lines divide."""
    found, last = [], []
    for line in [*text.split("\n"), ""]:
        if line.strip():
            last.append(line)
        elif last:
            found.append("\n".join(last))
            last = []
    return found


def divided(text: str, divider: str) -> list[str] | None:
    """What a divider divides, as IFEval counts it: nothing before a first or behind a last one is no part; None where
    nothing stands between two.
    """
    parts = text.split(divider)
    kept = [part for i, part in enumerate(parts) if part.strip() or 0 < i < len(parts) - 1]
    return kept if all(part.strip() for part in kept) else None


def bracketed(text: str, opening: str, closing: str) -> Iterator[str]:
    """What stands between an opening mark and the next closing one in its line, in turn."""
    for line in text.split("\n"):
        end = 0
        while (start := line.find(opening, end)) >= 0:
            inside = start + len(opening)
            if (close := line.find(closing, inside)) < 0:
                break
            yield line[inside:close]
            end = close + len(closing)
