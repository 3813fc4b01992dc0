"""Constraints on how long a text and its parts are."""

from __future__ import annotations

from typing import Literal

from rayalign.constraints.base import Amount, Constraint, Count, Counted, Place, Text
from rayalign.constraints.texts import divided, lines, paragraphs, sentences, words

DIVIDER = "***"
_PUNCTUATION = ".,?!'\""


class Words(Counted):
    """Runs of letters, digits and underscores."""

    kind: Literal["words"]

    def count(self, text: str) -> int:
        return sum(1 for _ in words(text))


class Sentences(Counted):
    kind: Literal["sentences"]

    def count(self, text: str) -> int:
        return len(sentences(text))


class SentenceWords(Constraint, Amount):
    """Every sentence has that many words."""

    kind: Literal["sentence_words"]

    def keeps(self, text: str) -> bool:
        found = sentences(text)
        return bool(found) and all(self.fits(sum(1 for _ in words(sentence))) for sentence in found)


class Paragraphs(Counted):
    kind: Literal["paragraphs"]
    divider: Literal["blank_line", "***"] = "blank_line"
    """What stands between two; with `***` an empty one breaks the constraint."""

    def count(self, text: str) -> int:
        return len(self._parts(text) or ())

    def keeps(self, text: str) -> bool:
        found = self._parts(text)
        return found is not None and self.fits(len(found))

    def _parts(self, text: str) -> list[str] | None:
        return paragraphs(text) if self.divider == "blank_line" else divided(text, DIVIDER)


class ParagraphFirstWord(Constraint):
    """Paragraphs are parted by an empty line; the word is read without quotation marks and up to a punctuation mark."""

    kind: Literal["paragraph_first_word"]
    paragraph: Place
    word: Text
    paragraphs: Count | None = None
    """How many there are in all; null for any number."""

    def keeps(self, text: str) -> bool:
        parts = text.split("\n\n")
        number = sum(1 for part in parts if part.strip())
        if self.paragraph > number or (self.paragraphs is not None and number != self.paragraphs):
            return False
        first = next(iter(parts[self.paragraph - 1].split(maxsplit=1)), "").lstrip("'").lstrip('"')
        end = next((i for i, character in enumerate(first) if character in _PUNCTUATION), len(first))
        return bool(first) and first[:end].lower() == self.word.lower()


class Lines(Counted):
    """Lines in which there is something to be seen."""

    kind: Literal["lines"]

    def count(self, text: str) -> int:
        return len(lines(text))


class Characters(Counted):
    """Characters, without white space at both ends."""

    kind: Literal["characters"]

    def count(self, text: str) -> int:
        return len(text.strip())
