"""What a run reads: model, prompts and scorer files, each checked before an actor starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayalign.config import RunConfig
from rayalign.config_objective import TEMPLATE_TOKENS, CUTObjective
from rayalign.config_scoring import JudgeScoring, Scoring, SimilarityScoring, model_of
from rayalign.console import Console
from rayalign.data.prompts import PromptRows, Split, load_prompt_rows, rows_from_records, split_prompts
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
    train: list[Prompt]
    holdout: list[Prompt]
    scorer_sources: list[ScorerSource]


def read_inputs(config: RunConfig, config_dir: Path, console: Console, logs: Path) -> Inputs:
    """Model folder, prompts and scorer files, each checked.

    Raises:
        RayalignError: one of them cannot be used.
    """
    rows = _prompt_rows(config, config_dir)
    sources = read_sources(config.scoring, config_dir, lambda section: _scorer_model(section, config))
    check_services(config, sources)
    from rayalign.data.chat import tokenize_prompts
    from rayalign.learning.folders import hash_model, load_tokenizer, resolve_model

    model = demo_model() if config.model.base == "demo" else resolve_model(config.model.base)
    tokenizer = load_tokenizer(model)
    _check_context(config, model, tokenizer)
    template, limit = config.prompts.template, config.prompts.max_tokens
    prompts, too_long = tokenize_prompts(rows.rows, tokenizer, template, limit)
    split = split_prompts([(prompt.id, prompt.metadata) for prompt in prompts], config.prompts.holdout)
    by_id = {prompt.id: prompt for prompt in prompts}
    _say_prompts(config, console, rows, split, too_long, logs)
    _say_objectives(config, console)
    return Inputs(model, hash_model(model), [by_id[i] for i in split.train], [by_id[i] for i in split.holdout], sources)


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
    path = Path(source).expanduser()
    return load_prompt_rows(str(path if path.exists() else config_dir / path), config.prompts.field)


def demo_model() -> Path:
    from rayalign.demo.models import demo_policy

    return demo_policy()


def make_demo_models(config: RunConfig) -> None:
    """Train the demo world's models that the config names and that are not in the cache."""
    if config.model.base == "demo":
        demo_model()
    for section in config.scoring:
        if model_of(section) == "demo":
            _demo_model_of(section)


def _demo_model_of(section: Scoring) -> Path:
    if isinstance(section, JudgeScoring):
        return demo_model()
    if isinstance(section, SimilarityScoring):
        from rayalign.demo.encoder import demo_encoder

        return demo_encoder()
    from rayalign.demo.reward_model import demo_reward_model

    return demo_reward_model()


def _scorer_model(section: Scoring, config: RunConfig) -> tuple[Path, str]:
    """Folder and checksum of the model that the run loads for a scorer, checked.

    Raises:
        ModelError: it cannot be found, or is of another kind.
        ConfigError: a judge's context is too short for what it is to read.
    """
    from rayalign.learning.folders import hash_folder, resolve_model
    from rayalign.scoring.encoder import check_encoder
    from rayalign.scoring.judge_model import check_judge_model
    from rayalign.scoring.reward_model import check_reward_model

    name = model_of(section)
    assert name is not None
    folder = _demo_model_of(section) if name == "demo" else resolve_model(name, "scoring.model")
    if isinstance(section, JudgeScoring):
        check_judge_model(folder, section, config)
    elif isinstance(section, SimilarityScoring):
        check_encoder(folder, section.pooling)
    else:
        check_reward_model(folder)
    return folder, hash_folder(folder)


def _say_prompts(
    config: RunConfig, console: Console, rows: PromptRows, split: Split, too_long: list[tuple[str, int]], logs: Path
) -> None:
    console.say(f"prompts: {len(split.train)} to train on, {len(split.holdout)} held out")
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
    if config.prompts.per_round > len(split.train):
        console.say(f"prompts.per_round is {config.prompts.per_round}: each of the {len(split.train)} prompts once")


def _say_objectives(config: RunConfig, console: Console) -> None:
    for objective in config.objectives:
        if isinstance(objective, CUTObjective) and objective.threshold <= 1:
            console.say(
                f"objective.threshold {objective.threshold}: nothing bounds the loss of a flagged token; the paper "
                "uses 1.1 to 1.2"
            )
