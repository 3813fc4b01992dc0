"""All kinds of constraints, and one of them from what a dataset says."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic import ValidationError

from rayalign.constraints import layout, lengths, letters, wording
from rayalign.constraints.base import Constraint
from rayalign.errors import DataError

KINDS: dict[str, type[Constraint]] = {
    "words": lengths.Words,
    "sentences": lengths.Sentences,
    "sentence_words": lengths.SentenceWords,
    "paragraphs": lengths.Paragraphs,
    "paragraph_first_word": lengths.ParagraphFirstWord,
    "lines": lengths.Lines,
    "characters": lengths.Characters,
    "keywords": wording.Keywords,
    "banned_words": wording.BannedWords,
    "keyword_count": wording.KeywordCount,
    "letter_count": wording.LetterCount,
    "banned_characters": wording.BannedCharacters,
    "no_commas": wording.NoCommas,
    "starts_with": wording.StartsWith,
    "ends_with": wording.EndsWith,
    "repeat_prompt": wording.RepeatPrompt,
    "choice": wording.Choice,
    "regex": wording.Regex,
    "bullets": layout.Bullets,
    "numbered_items": layout.NumberedItems,
    "highlights": layout.Highlights,
    "placeholders": layout.Placeholders,
    "sections": layout.Sections,
    "headings": layout.Headings,
    "code_blocks": layout.CodeBlocks,
    "title": layout.Title,
    "json": layout.Json,
    "postscript": layout.Postscript,
    "two_responses": layout.TwoResponses,
    "quoted": layout.Quoted,
    "language": letters.Language,
    "script": letters.Script,
    "uppercase": letters.Uppercase,
    "lowercase": letters.Lowercase,
    "title_case": letters.TitleCase,
    "capital_words": letters.CapitalWords,
}


def make_constraint(data: Mapping[str, object], where: str) -> Constraint:
    """The constraint of `kind` that an object describes; its nulls are left out, as tables fill them in.

    Args:
        where: names the object in errors.

    Raises:
        DataError: it has no kind, an unknown one, or settings that are none of its kind.
    """
    given = {key: value for key, value in data.items() if value is not None}
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        found = f"{where}: no kind" if kind is None else f"{where}.kind is {short(kind)}"
        raise DataError(found, "there is no such kind of constraint", meant(kind, KINDS))
    try:
        return KINDS[kind].model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in ("", *first["loc"]))
        names = [name for name in KINDS[kind].model_fields if name != "kind"]
        if first["type"] == "extra_forbidden":
            remedy = meant(first["loc"][-1], names) if names else f"{kind} takes no settings: leave it out"
            raise DataError(f"{where}{place}", f"{kind} takes no such setting", remedy) from None
        why = first["msg"].removeprefix("Value error, ")
        found = f"{where}{place}: missing" if first["type"] == "missing" else f"{where}{place}: {short(first['input'])}"
        takes = f"{kind} takes {', '.join(names)}" if names else f"{kind} takes no settings"
        raise DataError(found, why, takes) from None


def meant(name: object, names: Mapping[str, object] | list[str]) -> str:
    """A remedy for a name that is none of those that there are."""
    close = difflib.get_close_matches(str(name), list(names), 1)
    return f"did you mean {close[0]}?" if close else f"use one of {', '.join(names)}"


def short(value: object) -> str:
    """A value in a sentence."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
