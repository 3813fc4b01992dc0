"""The constraints of a prompt, from its metadata.

constraints:  [{kind: words, at_most: 50}, {kind: no_commas}]
or, as IFEval has it,
instruction_id_list: ["punctuation:no_comma", ...] and kwargs: [{}, ...]
"""

from __future__ import annotations

import json

from rayalign.constraints.base import Constraint
from rayalign.constraints.ifeval import translated
from rayalign.constraints.kinds import make_constraint, short
from rayalign.errors import DataError
from rayalign.records import JsonObject

FIELD = "constraints"
INSTRUCTIONS = "instruction_id_list"
SETTINGS = "kwargs"


def read_constraints(metadata: JsonObject, prompt: str, field: str = FIELD) -> list[Constraint]:
    """All constraints on answers to a prompt, those of IFEval last; an empty list where it has none.

    Args:
        prompt: its last message, which `repeat_prompt` repeats where it says nothing else.
        field: of the metadata.

    Raises:
        DataError: one of them is not understood; it names the place in the metadata.
    """
    own = _objects(metadata.get(field), field)
    given = [(f"{field}.{i}", {"text": prompt, **one} if one.get("kind") == "repeat_prompt" else one) for i, one in own]
    names = _listed(metadata.get(INSTRUCTIONS), INSTRUCTIONS)
    if names:
        settings = [one for _, one in _objects(metadata.get(SETTINGS), SETTINGS)] or [{} for _ in names]
        if len(settings) != len(names):
            found = f"{INSTRUCTIONS} of {len(names)}, {SETTINGS} of {len(settings)}"
            raise DataError(found, "each instruction has settings of its own", "give one object per instruction")
        for i, (name, kwargs) in enumerate(zip(names, settings, strict=True)):
            given.append((at := f"{INSTRUCTIONS}.{i}", translated(name, kwargs, at)))
    return [make_constraint(one, at) for at, one in given]


def _objects(value: object, field: str) -> list[tuple[int, JsonObject]]:
    found = []
    for i, one in enumerate(_listed(value, field)):
        if not isinstance(one, dict):
            remedy = f"give {field} as a list of objects"
            raise DataError(f"{field}.{i} is {short(one)}", "it must be an object", remedy)
        found.append((i, {str(key): part for key, part in one.items()}))
    return found


def _listed(value: object, field: str) -> list[object]:
    """A list, also where a table holds it as a text in JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise DataError(f"{field} is {short(value)}", "it must be a list", f"give {field} as a list") from None
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"{field} is {short(value)}", "it must be a list", f"give {field} as a list of objects")
    return value
