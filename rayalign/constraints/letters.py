"""Constraints on the case of letters, their script, and the language."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from rayalign.constraints.base import Constraint, Counted
from rayalign.constraints.languages import ALIASES, LANGUAGES, is_in
from rayalign.constraints.scripts import SCRIPTS, share
from rayalign.constraints.texts import joined_words


def _language(code: str) -> str:
    found = ALIASES.get(code.lower(), code.lower())
    if found not in LANGUAGES:
        raise ValueError(f"this language cannot be told; those that can: {', '.join(LANGUAGES)}")
    return found


def _script(name: str) -> str:
    if name.lower() not in SCRIPTS:
        raise ValueError(f"no script of this name is known; those that are: {', '.join(SCRIPTS)}")
    return name.lower()


LanguageCode = Annotated[str, AfterValidator(_language)]


class Language(Constraint):
    """The answer is in a language (`languages.is_in`)."""

    kind: Literal["language"]
    language: LanguageCode

    def keeps(self, text: str) -> bool:
        return is_in(text, self.language)


class Script(Constraint):
    """All letters are of a script; Japanese is `kana` and `han`."""

    kind: Literal["script"]
    script: Annotated[str, AfterValidator(_script)]

    def keeps(self, text: str) -> bool:
        return share(text, (self.script,)) in (1.0, None)


class Uppercase(Constraint):
    """There is a letter, and none is small."""

    kind: Literal["uppercase"]
    language: LanguageCode | None = None
    """The answer must be in it too."""

    def keeps(self, text: str) -> bool:
        return text.isupper() and (self.language is None or is_in(text, self.language))


class Lowercase(Constraint):
    """There is a letter, and none is a capital."""

    kind: Literal["lowercase"]
    language: LanguageCode | None = None

    def keeps(self, text: str) -> bool:
        return text.islower() and (self.language is None or is_in(text, self.language))


class TitleCase(Constraint):
    """Every word that begins with a letter begins with a capital."""

    kind: Literal["title_case"]

    def keeps(self, text: str) -> bool:
        starts = [word[0] for word in joined_words(text) if word[0].isalpha()]
        return bool(starts) and not any(start.islower() for start in starts)


class CapitalWords(Counted):
    """Words all in capitals; what hyphens, apostrophes or full stops join is one word."""

    kind: Literal["capital_words"]

    def count(self, text: str) -> int:
        return sum(word.isupper() for word in joined_words(text))
