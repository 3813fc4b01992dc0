"""Whether the constraints that a scorer checks are understood, before anything is loaded or sampled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rayalign.config.rewards import ConstraintsScoring
from rayalign.config.run import RunConfig
from rayalign.constraints.reading import INSTRUCTIONS, read_constraints
from rayalign.data.prompts import PromptRow, PromptRows
from rayalign.errors import DataError
from rayalign.records import JsonObject, Prompt


def with_constraints(config: RunConfig, prompts: PromptRows) -> PromptRows:
    """The prompts of a source, each looked at when it is read.

    Raises:
        DataError: from `rows`: a constraint of one is not understood (its row is named), or no prompt has any.
    """
    prompts.rows = _checked(_fields(config), prompts.rows)
    return prompts


def _checked(found: dict[str, bool], rows: Iterable[PromptRow]) -> Iterator[PromptRow]:
    for row in rows:
        for field in found:
            where = row.where or f"prompt {row.id}"
            found[field] |= has_constraints(row.metadata, row.messages[-1]["content"], field, where)
        yield row
    _check_found(found)


def check_constraints(config: RunConfig, prompts: Iterable[Prompt]) -> None:
    """The same of prompts that were read: the held-out ones of a dataset of answers.

    Raises:
        DataError: as `with_constraints`; a prompt is named by its id.
    """
    found = _fields(config)
    for prompt in prompts if found else ():
        for field in found:
            found[field] |= has_constraints(prompt.metadata, prompt.text, field, f"prompt {prompt.id}")
    _check_found(found)


def _fields(config: RunConfig) -> dict[str, bool]:
    """The fields of metadata that scorers read constraints from, none of them found yet."""
    return {section.field: False for section in config.scoring if isinstance(section, ConstraintsScoring)}


def has_constraints(metadata: JsonObject, text: str, field: str, where: str) -> bool:
    """Whether a prompt has constraints.

    Args:
        text: its last message.
        where: it stands, for the error.

    Raises:
        DataError: one of them is not understood.
    """
    try:
        return bool(read_constraints(metadata, text, field))
    except DataError as error:
        raise DataError(f"{where}: {error.found}", error.why, error.remedy) from None


def _check_found(found: dict[str, bool]) -> None:
    if missing := [field for field, there in found.items() if not there]:
        raise DataError(
            f"the scorer constraints:{missing[0]} works with constraints, and no prompt has one",
            "it would abstain of every answer",
            f"give them in prompts.source as {missing[0]}, or as IFEval's {INSTRUCTIONS}, or remove the scorer",
        )
