"""What a run reads: model, prompts and scorer files, each checked before an actor starts."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rayalign.config.data import PromptsSection
from rayalign.config.guidance import start_remarks
from rayalign.config.objective import TEMPLATE_TOKENS
from rayalign.config.run import RunConfig
from rayalign.data.beside import beside_note
from rayalign.data.drawing import Split, hold_out, split_prompts
from rayalign.data.loading import RowStream
from rayalign.data.prompt_store import PromptStore
from rayalign.data.prompts import PromptRows, load_prompt_rows, rows_from_records
from rayalign.data.responses import Responses
from rayalign.data.sources import locate
from rayalign.errors import ConfigError
from rayalign.launch.base_checks import check_base
from rayalign.launch.benchmarks import BenchmarkInputs, read_benchmarks
from rayalign.launch.constraints import check_constraints, with_constraints
from rayalign.launch.models import check_folder_named, find_base, read_scorers
from rayalign.launch.offline import Offline, open_samples, read_offline
from rayalign.launch.targets import check_targets, check_targets_follow
from rayalign.records import Prompt
from rayalign.rendering.renderer import ChatRenderer
from rayalign.scoring.service_scorers import check_services
from rayalign.scoring.sources import ScorerSource
from rayalign.store.files import write_json
from rayalign.store.model_checks import check_files, count_parameters
from rayalign.store.model_files import left_out
from rayalign.tracking.console import Console

NAMED = 5
_Own = tuple[PromptRows, Iterator[Prompt]]
"""The prompts' own source, and those of its prompts that are short enough as they are asked for."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a run reads, checked before an actor starts."""

    model: Path
    model_sha256: str
    prompts: PromptStore
    train_ids_N: np.ndarray
    """Ids of the prompts to train on, in the source's order."""
    holdout: list[Prompt]
    scorer_sources: list[ScorerSource]
    responses: Responses | None = None
    """Offline: those of the training prompts."""
    benchmarks: list[BenchmarkInputs] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Prompts:
    """The prompts of a run, each on its side."""

    store: PromptStore
    """At least those that are trained on."""
    split: Split
    holdout: list[Prompt]
    responses: Responses | None = None


def read_inputs(
    config: RunConfig,
    config_dir: Path,
    console: Console,
    logs: Path,
    date: datetime.date,
    run_cache: Path | None = None,
    *,
    ask_services: bool = True,
) -> Inputs:
    """Model folder, prompts and scorer files, each checked: what costs little before what costs more.

    Args:
        date: of the run, for chat templates that ask for today's.
        run_cache: folder for what services answer to their check.
        ask_services: whether services that scorers call are asked for a score.

    Raises:
        RayalignError: one of them cannot be used.
    """
    # Opened first, read last: a missing file ends the run before a service is called or a model is looked for.
    samples = None if config.samples is None else open_samples(config.samples, config_dir)
    rows = None if _from_dataset(config) else prompt_rows(config.prompts, config_dir, targets=config.reads_targets)
    check_folder_named(config.model.base)
    sources = read_scorers(config.scoring, config, config_dir, date)
    check_services(config.scorer_settings, sources, run_cache, ask=ask_services)
    benchmarks = read_benchmarks(config, config_dir, date, run_cache, ask_services=ask_services)
    from rayalign.data.token_ids import fitting_prompts
    from rayalign.learning.folders import hash_model, load_tokenizer

    model = find_base(config.model.base)
    _say_origins(config, console, model, sources)
    parameters = count_parameters(check_files(model, "model.base").values())
    check_base(config, model)
    renderer = ChatRenderer(load_tokenizer(model), config.prompts.template, date)
    _check_templates(config, renderer)
    most = config.prompts.max_tokens
    own = None if rows is None else (rows, fitting_prompts(with_constraints(config, rows), renderer, most))
    _check_policy(config, model)
    if samples is None:
        assert own is not None
        found = _read_online(config, own, renderer, console, logs)
    else:
        found = _read_offline(config, samples, own, renderer, console, logs)
    _check_found(config, console, found, parameters)
    return Inputs(
        model, hash_model(model), found.store, found.split.train_N, found.holdout, sources, found.responses, benchmarks
    )


def _check_found(config: RunConfig, console: Console, found: _Prompts, parameters: int) -> None:
    """What is trained on and held out, told, and whether it has the targets that are asked of it."""
    _say_split(config, console, found.split)
    check_targets(config, found.holdout, known=found.store.has_targets)
    _say_remarks(config, console, parameters, len(found.split.train_N))


def _check_policy(config: RunConfig, model: Path) -> None:
    from rayalign.learning.folder_checks import check_policy

    gpu, remade = config.cluster.generators.gpus > 0, config.training.gradient_checkpointing
    check_policy(model, config.model, merges=config.merges, gpu=gpu, remade=remade)


def _say_origins(config: RunConfig, console: Console, model: Path, sources: list[ScorerSource]) -> None:
    """What a user should know of models that were made from GGUF files."""
    from rayalign.learning.gguf import notices

    scorers = ((section.name, source.model) for section, source in zip(config.scoring, sources, strict=True))
    for name, folder in ((f"model.base {config.model.base}", model), *scorers):
        for notice in notices(folder, name) if folder is not None else ():
            console.say(notice)
    if beside := left_out(model):
        console.say(f"model.base: {', '.join(beside)} beside the model left out")


def _read_online(config: RunConfig, own: _Own, renderer: ChatRenderer, console: Console, logs: Path) -> _Prompts:
    """Prompts to sample from and to hold out, of one source."""
    check_targets_follow(config, renderer)
    store = _fitting(config, own, console, logs)
    split = split_prompts(*store.ids(), config.prompts.holdout)
    return _Prompts(store, split, store.take(split.holdout_N))


def _read_offline(
    config: RunConfig,
    samples: RowStream,
    own: _Own | None,
    renderer: ChatRenderer,
    console: Console,
    logs: Path,
) -> _Prompts:
    """A dataset's prompts with their responses, and held-out prompts: some of these, or those of a source of their own.

    Args:
        samples: the dataset.
        own: the held-out prompts' own source; None where they are some of the dataset's.
    """
    offline = read_offline(config, samples, renderer.behind_given())
    held_out = None if own is None else _fitting(config, own, console, logs)
    _say_offline(console, offline, logs)
    if held_out is None:
        split, held = split_prompts(*offline.prompts.ids(), config.prompts.holdout), offline.prompts
    else:
        split, held = hold_out(*held_out.ids(), config.prompts.holdout, offline.prompts.ids()[0]), held_out
    holdout = held.take(split.holdout_N)
    if held_out is None:
        check_constraints(config, holdout)
    if held_out is None and renderer.form.opened:
        # These are sampled from, unlike those that are trained on.
        holdout = [dataclasses.replace(p, token_ids=renderer.prompt(p.messages, f"prompt {p.id}")) for p in holdout]
    return _Prompts(offline.prompts, split, holdout, offline.responses)


def _fitting(config: RunConfig, own: _Own, console: Console, logs: Path) -> PromptStore:
    """The prompts of a source that are short enough, tokenised; the others are named."""
    rows, prompts = own
    store = PromptStore()
    store.add(prompts)
    _say_rows(config, console, rows, store.duplicates, logs)
    return store


def _from_dataset(config: RunConfig) -> bool:
    """Whether held-out prompts are some of an offline run's own dataset."""
    return config.samples is not None and config.samples.source == config.prompts.source != "demo"


def _check_templates(config: RunConfig, renderer: ChatRenderer) -> None:
    from rayalign.data.judged import JudgedStreams

    overhead = JudgedStreams(config.objectives, renderer).overhead()
    if overhead > TEMPLATE_TOKENS:
        raise ConfigError(
            f"objective: a template of {overhead} tokens", f"{TEMPLATE_TOKENS} are reserved for one", "shorten it"
        )


def prompt_rows(section: PromptsSection, config_dir: Path, *, targets: bool) -> PromptRows:
    """The prompts of the source, one at a time, before tokenising.

    Args:
        targets: whether the demo world's prompts get reference answers; other sources say themselves.

    Raises:
        DataError: it cannot be read.
    """
    if section.source == "demo":
        from rayalign.demo import world
        from rayalign.demo.datasets import prompts_with_targets

        records = prompts_with_targets() if targets else world.prompts()
        return rows_from_records(records, "the demo world", "messages")
    return load_prompt_rows(locate(section.source, config_dir), section.field, section.format)


def _say_rows(config: RunConfig, console: Console, rows: PromptRows, duplicates: int, logs: Path) -> None:
    if config.prompts.source != "demo":
        console.say(f"{config.prompts.source}: format {rows.found.format} ({rows.found.reason})")
    if duplicates:
        console.say(f"{duplicates} duplicate prompts merged")
    for reason, count in rows.left_out.counts.items():
        first = rows.left_out.names[reason][:NAMED]
        _say_left_out(console, f"prompts left out, {reason}", count, first, "more in logs/skipped_prompts.json")
    if rows.left_out.remedy:
        console.say(f"prompts left out: {rows.left_out.remedy}")
    if note := beside_note(rows.beside):
        console.say(f"prompts.source: {note}")
    write_json(logs / "skipped_prompts.json", rows.left_out.to_dict())


def _say_offline(console: Console, offline: Offline, logs: Path) -> None:
    for notice in offline.notices:
        console.say(notice)
    for reason, names in offline.skipped.items():
        _say_left_out(console, f"left out: {reason}", len(names), names[:NAMED], "all in logs/skipped_samples.json")
    write_json(logs / "skipped_samples.json", offline.skipped)


def _say_left_out(console: Console, what: str, count: int, first: list[str], where: str) -> None:
    more = f", ... ({where})" if count > len(first) else ""
    console.say(f"{count} {what}: {', '.join(first)}{more}")


def _say_split(config: RunConfig, console: Console, split: Split) -> None:
    console.say(f"prompts: {len(split.train_N)} to train on, {len(split.holdout_N)} held out")
    if split.notice:
        console.say(split.notice)
    if config.prompts.per_round > len(split.train_N):
        console.say(f"prompts.per_round is {config.prompts.per_round}: each of the {len(split.train_N)} prompts once")


def _say_remarks(config: RunConfig, console: Console, parameters: int, prompts: int) -> None:
    for remark in start_remarks(config, parameters, prompts):
        console.say(remark)
