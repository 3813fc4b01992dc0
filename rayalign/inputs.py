"""What a run reads: model, prompts and scorer files, each checked before an actor starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rayalign.config import RunConfig
from rayalign.config_objective import TEMPLATE_TOKENS, CUTObjective
from rayalign.config_scoring import RewardModelScoring
from rayalign.console import Console
from rayalign.data.drawing import Split, split_prompts
from rayalign.data.prompt_store import PromptStore
from rayalign.data.prompts import PromptRows, load_prompt_rows, rows_from_records
from rayalign.data.sources import locate
from rayalign.errors import ConfigError
from rayalign.records import Prompt
from rayalign.run_dir import write_json
from rayalign.scoring.network import check_services
from rayalign.scoring.sources import ScorerSource, read_sources

NAMED = 5


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


def read_inputs(config: RunConfig, config_dir: Path, console: Console, logs: Path) -> Inputs:
    """Model folder, prompts and scorer files, each checked.

    Raises:
        RayalignError: one of them cannot be used.
    """
    rows = _prompt_rows(config, config_dir)
    sources = read_sources(config.scoring, config_dir, _reward_model)
    check_services(config, sources)
    from rayalign.data.chat import tokenize_prompts
    from rayalign.learning.folders import hash_model, load_tokenizer, resolve_model

    model = demo_model() if config.model.base == "demo" else resolve_model(config.model.base)
    tokenizer = load_tokenizer(model)
    _check_context(config, model, tokenizer)
    template, limit = config.prompts.template, config.prompts.max_tokens
    prompts, too_long = tokenize_prompts(rows.rows, tokenizer, template, limit)
    store = PromptStore()
    store.add(prompts)
    split = split_prompts(*store.ids(), config.prompts.holdout)
    _say_prompts(config, console, rows, split, too_long, logs)
    _say_objectives(config, console)
    return Inputs(model, hash_model(model), store, split.train_N, store.take(split.holdout_N), sources)


def _check_context(config: RunConfig, model: Path, tokenizer: Any) -> None:
    from rayalign.data.judged import JudgedStreams
    from rayalign.learning.folders import context_length

    length = context_length(model)
    longest = max(config.max_sequence_tokens, config.max_judged_tokens)
    judged = config.max_judged_tokens > config.prompts.max_tokens + config.sampling.max_tokens
    parts = "prompts.max_tokens + sampling.max_tokens" + (" + judgment and its template" if judged else "")
    if length is not None and length < longest + 1:
        raise ConfigError(f"{parts} + 1 = {longest + 1}", f"the model's context is {length} tokens",
                          "lower one of them" if judged else "lower one of the two")  # fmt: skip
    overhead = JudgedStreams(config.objectives, tokenizer, config.prompts.template).overhead()
    if overhead > TEMPLATE_TOKENS:
        raise ConfigError(f"objective: a template of {overhead} tokens", f"{TEMPLATE_TOKENS} are reserved for one",
                          "shorten it")  # fmt: skip


def _prompt_rows(config: RunConfig, config_dir: Path) -> PromptRows:
    source = config.prompts.source
    if source == "demo":
        from rayalign.demo import world

        return rows_from_records(world.prompts(), "the demo world", "messages")
    return load_prompt_rows(locate(source, config_dir), config.prompts.field, config.prompts.format)


def demo_model() -> Path:
    from rayalign.demo.models import demo_policy

    return demo_policy()


def make_demo_models(config: RunConfig) -> None:
    """Train the demo world's models that the config names and that are not in the cache."""
    if config.model.base == "demo":
        demo_model()
    if any(isinstance(section, RewardModelScoring) and section.model == "demo" for section in config.scoring):
        from rayalign.demo.reward_model import demo_reward_model

        demo_reward_model()


def _reward_model(name: str) -> tuple[Path, str]:
    """Folder and checksum of a reward model, checked.

    Raises:
        ModelError: it cannot be found, or cannot give one reward.
    """
    from rayalign.learning.folders import hash_model, resolve_model
    from rayalign.scoring.reward_model import check_reward_model

    if name == "demo":
        from rayalign.demo.reward_model import demo_reward_model

        folder = demo_reward_model()
    else:
        folder = resolve_model(name, "scoring.model")
    check_reward_model(folder)
    return folder, hash_model(folder)


def _say_prompts(
    config: RunConfig, console: Console, rows: PromptRows, split: Split, too_long: list[tuple[str, int]], logs: Path
) -> None:
    if config.prompts.source != "demo":
        console.say(f"{config.prompts.source}: format {rows.found.format} ({rows.found.reason})")
    console.say(f"prompts: {len(split.train_N)} to train on, {len(split.holdout_N)} held out")
    if split.notice:
        console.say(split.notice)
    if rows.duplicates:
        console.say(f"{rows.duplicates} duplicate prompts merged")
    skipped = {**rows.skipped, **({f"longer than prompts.max_tokens = {config.prompts.max_tokens}":
               [f"{i} ({n} tokens)" for i, n in too_long]} if too_long else {})}  # fmt: skip
    for reason, names in skipped.items():
        more = ", ... (all in logs/skipped_prompts.json)" if len(names) > NAMED else ""
        console.say(f"{len(names)} prompts left out, {reason}: {', '.join(names[:NAMED])}{more}")
    write_json(logs / "skipped_prompts.json", skipped)
    if config.prompts.per_round > len(split.train_N):
        console.say(f"prompts.per_round is {config.prompts.per_round}: each of the {len(split.train_N)} prompts once")


def _say_objectives(config: RunConfig, console: Console) -> None:
    for objective in config.objectives:
        if isinstance(objective, CUTObjective) and objective.threshold <= 1:
            console.say(
                f"objective.threshold {objective.threshold}: nothing bounds the loss of a flagged token; the paper "
                "uses 1.1 to 1.2"
            )
