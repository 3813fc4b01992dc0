"""Which language a text is in, of a small table: by its script, and where languages share one by common words and by
letters of their own. It tells these languages apart and knows no other: Norwegian looks like Swedish to it.
"""

# ruff: noqa: RUF001 - marks of all scripts

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from rayalign.constraints.language_words import LETTERS, WORDS
from rayalign.constraints.scripts import share

_LATIN = "cs de en es fi fr hu it nl pl pt ro sv sw tr vi"
_SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_LATIN.split(), ("latin",)),
    **dict.fromkeys(("bg", "ru", "uk"), ("cyrillic",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("arabic",)),
    **dict.fromkeys(("hi", "mr", "ne"), ("devanagari",)),
    "bn": ("bengali",),
    "el": ("greek",),
    "gu": ("gujarati",),
    "he": ("hebrew",),
    "ja": ("kana", "han"),
    "kn": ("kannada",),
    "ko": ("hangul",),
    "ml": ("malayalam",),
    "pa": ("gurmukhi",),
    "ta": ("tamil",),
    "te": ("telugu",),
    "th": ("thai",),
    "zh": ("han",),
}
LANGUAGES = tuple(sorted(_SCRIPTS))
"""Codes of ISO 639-1."""
ALIASES = {"zh-cn": "zh", "zh-tw": "zh", "iw": "he"}
LEAST_SHARE = 0.75
"""Of a text's letters, in the language's script."""
LEAST_KANA = 0.1
"""Of a Japanese text's letters; one of Han characters with fewer is Chinese, or too short to tell."""
FEW_WORDS = 8
"""A text of fewer (in Han: characters), none of them in the table, may be in any language of its script."""
_TOKEN = re.compile(r"[^\s\d.,;:!?…()\[\]{}<>\"“”„«»*_#/|+=\-–—،۔؟।'’`]+")


@dataclass(frozen=True, slots=True)
class _Known:
    words: frozenset[str]
    letters: frozenset[str]


@functools.cache
def _table(scripts: tuple[str, ...]) -> dict[str, _Known]:
    """The languages of a script that share it with others."""
    names = [name for name in LANGUAGES if _SCRIPTS[name] == scripts and name in WORDS]
    return {name: _Known(frozenset(WORDS[name].split()), frozenset(LETTERS.get(name, ""))) for name in names}


def is_in(text: str, language: str) -> bool:
    """Whether a text may be in a language of `LANGUAGES`.

    Three quarters of its letters must be in the language's script. Where others share that, no other may have more
    words of the text that are common in it, or that hold a letter of its own. A text of which the table has no word is
    taken for any of them while it is short, and for none of them otherwise; one without letters is in any language.
    """
    scripts = _SCRIPTS[language]
    found = share(text, scripts)
    if found is None:
        return True
    if found < LEAST_SHARE:
        return False
    if scripts[-1] == "han":
        kana = share(text, ("kana",)) or 0.0
        return (kana >= LEAST_KANA) == (language == "ja") or (kana == 0 and len(text.strip()) < FEW_WORDS)
    table = _table(scripts)
    if not table:
        return True
    tokens = _TOKEN.findall(text.lower())
    hits = {name: _hits(tokens, known) for name, known in table.items()}
    most = max(hits.values())
    return hits[language] == most if most else len(tokens) < FEW_WORDS


def _hits(tokens: list[str], known: _Known) -> int:
    return sum(token in known.words or not known.letters.isdisjoint(token) for token in tokens)
