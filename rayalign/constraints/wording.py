"""Constraints on what words, phrases and characters a text has. Upper and lower case are the same but where said."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import StringConstraints, model_validator

from rayalign.constraints.base import Constraint, Counted, Text, Texts
from rayalign.constraints.patterns import LONGEST_PATTERN, compiled

OneCharacter = Annotated[str, StringConstraints(min_length=1, max_length=1, pattern=r"\S")]


def _pattern(phrase: str, *, whole: bool) -> re.Pattern[str]:
    literal = re.escape(phrase)
    return re.compile(rf"(?<!\w){literal}(?!\w)" if whole else literal, re.IGNORECASE)


class Keywords(Constraint):
    """All of them occur, by default also inside of longer words."""

    kind: Literal["keywords"]
    words: Texts
    whole_words: bool = False

    def keeps(self, text: str) -> bool:
        return all(_pattern(word, whole=self.whole_words).search(text) for word in self.words)


class BannedWords(Constraint):
    """None of them occurs as a word of its own."""

    kind: Literal["banned_words"]
    words: Texts

    def keeps(self, text: str) -> bool:
        return not any(_pattern(word, whole=True).search(text) for word in self.words)


class KeywordCount(Counted):
    """How often a word occurs, by default also inside of longer words."""

    kind: Literal["keyword_count"]
    word: Text
    whole_words: bool = False

    def count(self, text: str) -> int:
        return sum(1 for _ in _pattern(self.word.strip(), whole=self.whole_words).finditer(text))


class LetterCount(Counted):
    """How often a letter, or another character, occurs."""

    kind: Literal["letter_count"]
    letter: OneCharacter

    def count(self, text: str) -> int:
        return text.lower().count(self.letter.lower())


class BannedCharacters(Constraint):
    """None of them occurs; case counts."""

    kind: Literal["banned_characters"]
    characters: Text

    def keeps(self, text: str) -> bool:
        return not any(character in text for character in self.characters)


class NoCommas(Constraint):
    kind: Literal["no_commas"]

    def keeps(self, text: str) -> bool:
        return "," not in text


class StartsWith(Constraint):
    """White space and a double quotation mark before it do not count."""

    kind: Literal["starts_with"]
    phrase: Text

    def keeps(self, text: str) -> bool:
        return text.strip().strip('"').lower().startswith(self.phrase.strip().lower())


class EndsWith(Constraint):
    """White space and a double quotation mark behind it do not count."""

    kind: Literal["ends_with"]
    phrase: Text

    def keeps(self, text: str) -> bool:
        return text.strip().strip('"').lower().endswith(self.phrase.strip().lower())


class RepeatPrompt(Constraint):
    """The answer begins with the prompt."""

    kind: Literal["repeat_prompt"]
    text: Text
    """What is repeated; where a prompt's metadata leave it out, the prompt's last message."""

    def keeps(self, text: str) -> bool:
        return text.strip().lower().startswith(self.text.strip().lower())


class Choice(Constraint):
    """One of some phrases occurs, case included."""

    kind: Literal["choice"]
    options: Texts
    only: bool = False
    """Nothing else may stand there."""

    def keeps(self, text: str) -> bool:
        text = text.strip()
        return any(text == option.strip() if self.only else option in text for option in self.options)


class Regex(Constraint):
    """An expression is found, in time linear in the text: Rust's regular expressions, without look-around and
    backreferences. Case counts (`(?i)` lifts that).
    """

    kind: Literal["regex"]
    pattern: Annotated[Text, StringConstraints(max_length=LONGEST_PATTERN)]

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        compiled(self.pattern)
        return self

    def keeps(self, text: str) -> bool:
        return compiled(self.pattern)(text)
