"""Fields under a dataset's own names, where the user says which is which: q, good and bad for a preference. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rayalign.data.dataset import BadRow, printable
from rayalign.data.turns import is_conversation

PAIR = ("prompt", "chosen", "rejected")


_ABOUT = re.compile(
    r"(?:^|[^A-Za-z])(?:\w*id|ids|uuid|hash|url|uri|link|date|time|timestamp|model|source|lang|language|split|subset|"
    r"category|label|type|title|path|file|license|author|winner|name|dataset|method)s?(?:[^A-Za-z]|$)",
    re.IGNORECASE,
)
"""Names of fields that tell something about a row."""


def _conversation_in(name: object, value: object) -> str:
    """Where in a field's object a conversation stands, such as `body.messages`; empty where none does."""
    inner = value.items() if isinstance(value, Mapping) else ()
    return next((printable(f"{name}.{key}") for key, item in inner if is_conversation(item)), "")


@dataclass(frozen=True, slots=True)
class OwnNames:
    """What a dataset calls the fields of its format.

    Example:
        >>> OwnNames({"prompt": "q"}).row({"q": "Name a fish."})
        {'prompt': 'Name a fish.'}
    """

    names: Mapping[str, str] = field(default_factory=dict)
    """The format's name of a field -> the dataset's."""
    key: str = "fields"
    """Where the user says so: `samples.fields`, `data.fields`, `prompts.field` or `--field`."""

    def row(self, record: object) -> object:
        """The row under the format's names; a `BadRow` where it lacks a field that was named.

        A field that had such a name before stays as metadata.
        """
        if not self.names or not isinstance(record, Mapping):
            return record
        for name, own in self.names.items():
            if own not in record:
                there = ", ".join(map(str, record)) or "none"
                found = f"{self.said({name: own})}: no field {own}; the row's fields are: {there}"
                return BadRow(f"no field {own}", found, "it was named, and a row needs it", "name one that is there")
        gone = {*self.names.values(), *self.names}
        row = {name: value for name, value in record.items() if name not in gone}
        hidden = {name: record[name] for name in self.names if name in record and name not in self.names.values()}
        if hidden:
            held = row.get("metadata")
            row["metadata"] = {**(held if isinstance(held, Mapping) else {"metadata": held} if held else {}), **hidden}
        return {**{name: record[own] for name, own in self.names.items()}, **row}

    def remedy(self, rows: Sequence[object]) -> str:
        """How to name the fields of rows in which no format was found."""
        cells = [item for row in rows if isinstance(row, Mapping) for item in row.items()]
        texts = {printable(str(name)): value for name, value in cells if isinstance(value, str) and value.strip()}
        # A prompt is of several words, unlike an id or the name of a model beside it.
        likely = [name for name, value in texts.items() if " " in value.strip() and not _ABOUT.search(name)]
        asked = "text" if "text" in texts else next(iter(likely), "NAME")
        prompt = f"name the field that holds the prompt, for example {self.said({'prompt': asked})}"
        if asked == "NAME":
            prompt += ", NAME one of the row's fields"
            if held := next(filter(None, (_conversation_in(*item) for item in cells)), ""):
                prompt += f"; the conversation in {held} has to stand in a field of the row, as messages"
        if self.key == "prompts.field" or len(texts) < len(PAIR):
            return prompt
        pair = self.said(dict.fromkeys(PAIR, "NAME"))
        return f"{prompt}; or those of a pair: {pair}, each NAME one of the row's fields"

    def said(self, names: Mapping[str, str]) -> str:
        """How the user writes such names."""
        if self.key == "prompts.field":
            return f"{self.key}: {next(iter(names.values()))}"
        if self.key.startswith("--"):
            return " ".join(f"{self.key} {name}={own}" for name, own in names.items())
        return f"{self.key}: {{{', '.join(f'{name}: {own}' for name, own in names.items())}}}"
