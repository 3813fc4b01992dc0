"""What an offline run reads instead of sampling: a dataset's prompts and responses, tokenised and checked.

Rows are read a few at a time and kept on local disk, so that memory does not grow with the dataset.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rayalign.config.data import SamplesSection
from rayalign.config.run import RunConfig
from rayalign.data.beside import beside_note
from rayalign.data.loading import RowStream, iter_dataset_rows
from rayalign.data.marks import unmarked
from rayalign.data.own_names import OwnNames
from rayalign.data.prompt_store import PromptStore
from rayalign.data.prompts import PromptRow
from rayalign.data.responses import CompletionTokens, Responses
from rayalign.data.sources import locate
from rayalign.errors import DataError
from rayalign.records import prompt_id
from rayalign.rendering.renderer import ChatRenderer

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


def read_offline(config: RunConfig, stream: RowStream, renderer: ChatRenderer) -> Offline:
    """The dataset that `samples` names.

    Args:
        renderer: of prompts whose answers are given.
        stream: its rows (`open_samples`).

    Raises:
        DataError: it cannot be read, or holds nothing that the run's objectives learn from.
    """
    section = config.samples
    assert section is not None
    from rayalign.data.token_ids import tokenize_prompts

    prompts, responses, count = PromptStore(), Responses(f"dataset:{stream.format}"), 0
    limit, longest = config.prompts.max_tokens, config.max_response_tokens
    tokens, long_prompts = CompletionTokens(renderer, longest), {}
    rows = stream.distinct()
    while some := list(islice(rows, AT_ONCE)):
        count += len(some)
        some = list(unmarked(some, stream.skipped, templated=renderer.template is not None))
        asked = [PromptRow(prompt_id(row.messages), row.messages, row.target, row.metadata) for row in some]
        fitting, too_long = tokenize_prompts(asked, renderer, limit)
        prompts.add(fitting)
        long_prompts |= dict(too_long)
        responses.add(
            (prompt.id, tokens.answers(prompt.id, prompt.messages, row.completions))
            for prompt, row in zip(asked, some, strict=True)
            if prompt.id not in long_prompts
        )
    prompts.keep(responses.ids())
    for what, key, names in (
        ("prompts", f"prompts.max_tokens = {limit}", list(long_prompts.items())),
        ("responses", f"samples.max_tokens = {longest}", tokens.too_long),
    ):
        if names:
            stream.skipped[f"{what} longer than {key}"] = [f"{name} ({length} tokens)" for name, length in names]
    if not len(prompts):
        raise _no_response(section, count, stream)
    needs = {need for objective in config.objectives for need in objective.needs}
    responses.check(needs, section.source, targets=prompts.has_targets)
    notices = [*_notices(section, stream, tokens), _summary(section, count, prompts, responses)]
    return Offline(prompts, responses, stream.skipped, notices)


def _no_response(section: SamplesSection, rows: int, stream: RowStream) -> DataError:
    reasons = "".join(f"; {reason}: {len(names)}" for reason, names in stream.skipped.items())
    return DataError(
        f"{section.source}: none of {rows} rows has a response to train on",
        f"they were read as {stream.format} ({stream.reason}){reasons}",
        "raise the limits, or give responses with the prompts; fields under other names go into samples.fields: "
        "{prompt: NAME, chosen: NAME, rejected: NAME}",
    )


def open_samples(section: SamplesSection, config_dir: Path) -> RowStream:
    """The rows of the dataset that `samples` names, of which the first ones were looked at.

    Args:
        config_dir: where a relative path is looked up after the working directory.

    Raises:
        DataError: it cannot be opened, or its format cannot be told.
    """
    if section.source == "demo":
        from rayalign.demo.datasets import demo_dataset

        return RowStream(iter(demo_dataset(section.format)), f"demo_{section.format}", "the demo world's own")
    own = OwnNames({**section.fields}, "samples.fields")
    return iter_dataset_rows(locate(section.source, config_dir), section.format, own=own)


def _notices(section: SamplesSection, stream: RowStream, tokens: CompletionTokens) -> list[str]:
    """What the user is told of a stream that was read to its end."""
    notices = [] if section.source == "demo" else [f"samples.format {stream.format}: {stream.reason}"]
    if stream.remedy:
        notices.append(f"rows of samples.source left out: {stream.remedy}")
    if section.source != "demo" and (note := beside_note(stream.beside)):
        notices.append(f"samples.source: {note}")
    if stream.duplicates:
        notices.append(f"{stream.duplicates} duplicate rows of samples.source left out")
    if tokens.without_thinking:
        notices.append(
            f"{tokens.without_thinking} responses have <think> blocks, which the chat template leaves out: they are "
            "not learned"
        )
    return notices


def _summary(section: SamplesSection, rows: int, prompts: PromptStore, responses: Responses) -> str:
    verdicts = responses.verdicts
    judged = f", {verdicts['flawed']} flawed and {verdicts['perfect']} without fault" if verdicts else ""
    return f"samples: {rows} rows of {section.source}: {len(prompts)} prompts with {len(responses)} responses{judged}"
