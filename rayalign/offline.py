"""What an offline run reads instead of sampling: a dataset's prompts and responses, tokenised and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayalign.config import RunConfig
from rayalign.config_samples import SamplesSection
from rayalign.data.dataset import DatasetRow
from rayalign.data.loading import load_dataset_rows
from rayalign.data.responses import Responses, merge_rows, tokenize_completions
from rayalign.data.sources import locate
from rayalign.errors import DataError
from rayalign.records import Prompt


@dataclass(frozen=True, slots=True)
class Offline:
    """A dataset, ready to be trained on."""

    prompts: list[Prompt]
    """Those with responses, in the dataset's order."""
    responses: Responses
    skipped: dict[str, list[str]]
    """Reason -> names of rows, prompts or responses that were left out for it."""
    notices: list[str]
    """Lines for the user."""


def read_offline(config: RunConfig, tokenizer: Any, config_dir: Path) -> Offline:
    """The dataset that `samples` names.

    Args:
        config_dir: where a relative path is looked up after the working directory.

    Raises:
        DataError: it cannot be read, or holds nothing that the run's objectives learn from.
    """
    section = config.samples
    assert section is not None
    from rayalign.data.chat import tokenize_prompts

    rows, kind, skipped, notices = _rows(section, config_dir)
    merged, completions = merge_rows(rows)
    template, limit = config.prompts.template, config.prompts.max_tokens
    prompts, long_prompts = tokenize_prompts(merged, tokenizer, template, limit)
    kept = {prompt.id: completions[prompt.id] for prompt in prompts}
    longest = config.max_response_tokens
    answers, long_answers = tokenize_completions(kept, tokenizer, template, longest)
    prompts = [prompt for prompt in prompts if prompt.id in answers]
    responses = Responses(f"dataset:{kind}", answers)
    for what, key, names in (
        ("prompts", f"prompts.max_tokens = {limit}", long_prompts),
        ("responses", f"samples.max_tokens = {longest}", long_answers),
    ):
        if names:
            skipped[f"{what} longer than {key}"] = [f"{name} ({tokens} tokens)" for name, tokens in names]
    if not prompts:
        reasons = ", ".join(f"{reason}: {len(names)}" for reason, names in skipped.items())
        raise DataError(f"{section.source}: none of {len(rows)} rows has a response to train on", reasons,
                        "raise the limits, or give responses with the prompts")  # fmt: skip
    needs = {need for objective in config.objectives for need in objective.needs}
    responses.check(prompts, needs, section.source)
    return Offline(prompts, responses, skipped, [*notices, _summary(section, rows, prompts, responses)])


def _rows(section: SamplesSection, config_dir: Path) -> tuple[list[DatasetRow], str, dict[str, list[str]], list[str]]:
    """(rows, format, skipped, notices)."""
    if section.source == "demo":
        from rayalign.demo.datasets import demo_dataset

        return demo_dataset(section.format), f"demo_{section.format}", {}, []
    found = load_dataset_rows(locate(section.source, config_dir), section.format)
    notices = [f"samples.format {found.format}: {found.reason}"]
    if found.duplicates:
        notices.append(f"{found.duplicates} duplicate rows of samples.source left out")
    return found.rows, found.format, dict(found.skipped), notices


def _summary(section: SamplesSection, rows: list[DatasetRow], prompts: list[Prompt], responses: Responses) -> str:
    verdicts = responses.verdicts
    judged = f", {verdicts['flawed']} flawed and {verdicts['perfect']} without fault" if verdicts else ""
    return (
        f"samples: {len(rows)} rows of {section.source}: {len(prompts)} prompts with {len(responses)} responses{judged}"
    )
