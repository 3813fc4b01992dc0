"""IFEval's instructions (Zhou et al. 2023, arXiv:2311.07911) by the names and settings they are published with, as
constraints of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rayalign.constraints.kinds import meant, short
from rayalign.errors import DataError

Settings = Mapping[str, object]
OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""Of `detectable_format:constrained_response`."""


@dataclass(frozen=True, slots=True)
class _Instruction:
    names: tuple[str, ...]
    """Of its settings; all are needed."""
    translate: Callable[[Settings], dict[str, object]]
    """Settings -> the object of a constraint."""


def _number(setting: str, relation: str, kind: str, **others: str) -> _Instruction:
    """An instruction that wants less than, or at least, some number of something; others: our name = theirs."""

    def translate(given: Settings) -> dict[str, object]:
        taken = {ours: given[theirs] for ours, theirs in others.items()}
        return {"kind": kind, **taken, **_bound(given[setting], given[relation])}

    return _Instruction((*others.values(), setting, relation), translate)


def _bound(number: object, relation: object) -> dict[str, object]:
    if relation == "at least":
        return {"at_least": number}
    if relation != "less than":
        raise ValueError(f"the relation is {short(relation)}; it must be 'less than' or 'at least'")
    if isinstance(number, bool) or not isinstance(number, int | float) or number < 1:
        raise ValueError(f"less than {short(number)} cannot be")
    return {"at_most": number - 1}


def _settings(kind: str, fixed: Mapping[str, object] | None = None, **names: str) -> _Instruction:
    """An instruction whose settings are a constraint's under other names: ours = theirs."""

    def translate(given: Settings) -> dict[str, object]:
        return {"kind": kind, **(fixed or {}), **{ours: given[theirs] for ours, theirs in names.items()}}

    return _Instruction(tuple(names.values()), translate)


INSTRUCTIONS = {
    "keywords:existence": _settings("keywords", words="keywords"),
    "keywords:frequency": _number("frequency", "relation", "keyword_count", word="keyword"),
    "keywords:forbidden_words": _settings("banned_words", words="forbidden_words"),
    "keywords:letter_frequency": _number("let_frequency", "let_relation", "letter_count", letter="letter"),
    "language:response_language": _settings("language", language="language"),
    "length_constraints:number_sentences": _number("num_sentences", "relation", "sentences"),
    "length_constraints:number_paragraphs": _settings("paragraphs", {"divider": "***"}, exactly="num_paragraphs"),
    "length_constraints:number_words": _number("num_words", "relation", "words"),
    "length_constraints:nth_paragraph_first_word": _settings(
        "paragraph_first_word", paragraphs="num_paragraphs", paragraph="nth_paragraph", word="first_word"
    ),
    "detectable_content:number_placeholders": _settings("placeholders", at_least="num_placeholders"),
    "detectable_content:postscript": _settings("postscript", marker="postscript_marker"),
    "detectable_format:number_bullet_lists": _settings("bullets", exactly="num_bullets"),
    "detectable_format:constrained_response": _settings("choice", {"options": list(OPTIONS)}),
    "detectable_format:number_highlighted_sections": _settings("highlights", at_least="num_highlights"),
    "detectable_format:multiple_sections": _settings("sections", heading="section_spliter", at_least="num_sections"),
    "detectable_format:json_format": _settings("json"),
    "detectable_format:title": _settings("title"),
    "combination:two_responses": _settings("two_responses"),
    "combination:repeat_prompt": _settings("repeat_prompt", text="prompt_to_repeat"),
    "startend:end_checker": _settings("ends_with", phrase="end_phrase"),
    "startend:quotation": _settings("quoted"),
    "change_case:capital_word_frequency": _number("capital_frequency", "capital_relation", "capital_words"),
    "change_case:english_capital": _settings("uppercase", {"language": "en"}),
    "change_case:english_lowercase": _settings("lowercase", {"language": "en"}),
    "punctuation:no_comma": _settings("no_commas"),
}


def translated(instruction: object, settings: Settings, where: str) -> dict[str, object]:
    """The object of a constraint that says the same; settings that are null or empty count as not there.

    Raises:
        DataError: no such instruction, or settings that are not its own.
    """
    if not isinstance(instruction, str) or instruction not in INSTRUCTIONS:
        found = f"{where}: the instruction {short(instruction)}"
        raise DataError(found, "IFEval has none of this name", meant(instruction, INSTRUCTIONS))
    names = INSTRUCTIONS[instruction].names
    given = {name: value for name, value in settings.items() if value not in (None, "", [])}
    takes = f"{instruction} takes {', '.join(names) or 'no settings'}"
    if unknown := sorted(map(str, given.keys() - set(names))):
        raise DataError(f"{where}: {unknown[0]} for {instruction}", "it has no such setting", takes)
    if missing := [name for name in names if name not in given]:
        raise DataError(f"{where}: no {missing[0]} for {instruction}", "nothing can be checked without it", takes)
    try:
        return INSTRUCTIONS[instruction].translate(given)
    except ValueError as error:
        raise DataError(f"{where}: {instruction}", str(error), takes) from None
