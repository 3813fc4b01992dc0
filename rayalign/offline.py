"""What an offline run reads instead of sampling: a dataset's prompts and responses, tokenised and checked.

Rows are read a few at a time and kept on local disk, so that memory does not grow with the dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rayalign.config import RunConfig
from rayalign.config_samples import SamplesSection
from rayalign.data.dataset import DatasetRow
from rayalign.data.loading import iter_dataset_rows
from rayalign.data.prompt_store import PromptStore
from rayalign.data.prompts import PromptRow
from rayalign.data.responses import CompletionTokens, Responses
from rayalign.data.sources import locate
from rayalign.errors import DataError
from rayalign.records import Prompt, prompt_id

AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Offline:
    """A dataset, ready to be trained on."""

    prompts: PromptStore
    """Those with responses, in the dataset's order."""
    responses: Responses
    skipped: dict[str, list[str]]
    """Reason -> names of rows, prompts or responses that were left out for it."""
    notices: list[str]
    """Lines for the user."""


@dataclass(slots=True)
class _Rows:
    """The dataset before tokenising; all but `rows` and `kind` are complete when `rows` is exhausted."""

    rows: Iterator[DatasetRow]
    kind: str
    skipped: dict[str, list[str]]
    notices: list[str]
    count: int = 0


def read_offline(config: RunConfig, tokenizer: Any, config_dir: Path) -> Offline:
    """The dataset that `samples` names.

    Args:
        config_dir: where a relative path is looked up after the working directory.

    Raises:
        DataError: it cannot be read, or holds nothing that the run's objectives learn from.
    """
    section = config.samples
    assert section is not None
    found = _rows(section, config_dir)
    prompts, responses = PromptStore(), Responses(f"dataset:{found.kind}")
    limit, longest = config.prompts.max_tokens, config.max_response_tokens
    tokens = CompletionTokens(tokenizer, config.prompts.template, longest)
    long_prompts: dict[str, int] = {}
    while some := list(islice(found.rows, AT_ONCE)):
        found.count += len(some)
        fitting = list(_fitting(some, tokenizer, config, long_prompts))
        prompts.add(prompt for prompt, _ in fitting)
        responses.add((prompt.id, tokens.answers(prompt.id, row.completions)) for prompt, row in fitting)
    prompts.keep(responses.ids())
    skipped = found.skipped
    for what, key, names in (
        ("prompts", f"prompts.max_tokens = {limit}", list(long_prompts.items())),
        ("responses", f"samples.max_tokens = {longest}", tokens.too_long),
    ):
        if names:
            skipped[f"{what} longer than {key}"] = [f"{name} ({count} tokens)" for name, count in names]
    if not len(prompts):
        reasons = ", ".join(f"{reason}: {len(names)}" for reason, names in skipped.items())
        raise DataError(f"{section.source}: none of {found.count} rows has a response to train on", reasons,
                        "raise the limits, or give responses with the prompts")  # fmt: skip
    needs = {need for objective in config.objectives for need in objective.needs}
    responses.check(needs, section.source, targets=prompts.has_targets)
    return Offline(prompts, responses, skipped, [*found.notices, _summary(section, found.count, prompts, responses)])


def _fitting(
    rows: list[DatasetRow], tokenizer: Any, config: RunConfig, too_long: dict[str, int]
) -> Iterator[tuple[Prompt, DatasetRow]]:
    """Rows with their tokenised prompt; ids of prompts that are too long go to `too_long`, with their tokens."""
    from rayalign.data.chat import tokenize_rows

    asked: Iterable[PromptRow] = (
        PromptRow(prompt_id(row.messages), row.messages, row.target, row.metadata) for row in rows
    )
    for row, (prompt, token_ids) in zip(rows, tokenize_rows(asked, tokenizer, config.prompts.template), strict=True):
        if len(token_ids) > config.prompts.max_tokens:
            too_long[prompt.id] = len(token_ids)
        else:
            yield Prompt(prompt.id, prompt.messages, token_ids, prompt.target, prompt.metadata), row


def _rows(section: SamplesSection, config_dir: Path) -> _Rows:
    if section.source == "demo":
        from rayalign.demo.datasets import demo_dataset

        return _Rows(iter(demo_dataset(section.format)), f"demo_{section.format}", {}, [])
    stream = iter_dataset_rows(locate(section.source, config_dir), section.format)
    found = _Rows(iter(()), stream.format, stream.skipped, [f"samples.format {stream.format}: {stream.reason}"])

    def rows() -> Iterator[DatasetRow]:
        yield from stream.distinct()
        if stream.duplicates:
            found.notices.append(f"{stream.duplicates} duplicate rows of samples.source left out")

    found.rows = rows()
    return found


def _summary(section: SamplesSection, rows: int, prompts: PromptStore, responses: Responses) -> str:
    verdicts = responses.verdicts
    judged = f", {verdicts['flawed']} flawed and {verdicts['perfect']} without fault" if verdicts else ""
    return f"samples: {rows} rows of {section.source}: {len(prompts)} prompts with {len(responses)} responses{judged}"
