"""The model card of an export: what was trained on what, with which result, and how to use it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from rayalign.display import display, display_order, format_interval, format_value
from rayalign.records import EvalReport, JsonObject
from rayalign.rendering.named import TEMPLATES

SECTIONS = ("model", "prompts", "samples", "sampling", "scoring", "combine", "groups", "objective", "training")
"""The sections of a run's config that the card shows."""

ROOTS = ("/", "~", "file:/")
NOT_IN_PATHS = set("{}\n")
"""Characters by which a text is a template."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says."""

    run: str
    round_index: int
    base: str
    """Id of the base model, or the name of its folder or file."""
    base_on_hub: bool
    """Whether `base` is a hub id. The hub refuses cards whose base model is none."""
    merged: bool
    place: str
    """Hub id or folder of this export."""
    rank: int
    """Rank of the LoRA adapter; 0 where all weights were trained."""
    config: JsonObject
    """The run's config, secrets redacted and paths shortened."""
    report: EvalReport
    hashes: dict[str, str]
    notes: list[str]
    held_out: int | None
    """Prompts that the run was evaluated on; None where it never was."""


def without_folders(value: object) -> object:
    """A JSON value in which every text that is an absolute path is its last part alone."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    if isinstance(value, str) and value.startswith(ROOTS) and not set(value) & NOT_IN_PATHS:
        return value.rstrip("/").rpartition("/")[2]
    return value


def serve_line(facts: CardFacts, place: str) -> str:
    """The command that serves the export, which lies at `place`, with vLLM."""
    dtype = facts.config["model"].get("dtype", "float32")
    if facts.merged:
        return shlex.join(["vllm", "serve", place, "--dtype", dtype])
    module = f"{facts.run}-round-{facts.round_index}={place}"
    named = ["--tokenizer", place] if _template(facts) in TEMPLATES else []
    options = [*named, "--enable-lora", "--max-lora-rank", str(max(facts.rank, 8)), "--lora-modules", module]
    return shlex.join(["vllm", "serve", facts.base, "--dtype", dtype, *options])


def render_card(facts: CardFacts) -> str:
    """README.md, YAML front matter included."""
    what = "LoRA adapter for" if not facts.merged else "Merged model for" if facts.rank else "All weights of"
    objectives = facts.config["objective"]
    objectives = objectives if isinstance(objectives, list) else [objectives]
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(facts, objectives), sort_keys=False)}---",
        f"# {facts.run}, round {facts.round_index}",
        f"{what} `{facts.base}`, trained by rayalign in {facts.round_index} rounds of "
        f"{'training on a dataset' if facts.config.get('samples') else 'sampling, scoring and training'} "
        f"with the objective {' + '.join(one['type'] for one in objectives)}.",
        *(f"**Note:** {note}" for note in facts.notes),
        f"## Data\n\n{_data(facts)}",
        f"## Results\n\n{_metrics(facts)}",
        f"## Use\n\n{_use(facts)}",
        "## Settings\n\nOf the run's config:\n\n" + _code(_settings(facts.config)),
        "## Hashes\n\nSHA-256:\n\n" + "\n".join(f"* {name}: `{value}`" for name, value in facts.hashes.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: CardFacts, objectives: Sequence[JsonObject]) -> dict[str, object]:
    base = {"base_model": facts.base, "base_model_relation": "finetune" if facts.merged else "adapter"}
    return {
        **(base if facts.base_on_hub else {}),
        "library_name": "transformers" if facts.merged else "peft",
        "pipeline_tag": "text-generation",
        "tags": [*dict.fromkeys(["rayalign", *(["lora"] if facts.rank else []), *(one["type"] for one in objectives)])],
    }


def _data(facts: CardFacts) -> str:
    config = facts.config
    prompts, sampling, samples = config["prompts"], config.get("sampling", {}), config.get("samples")
    scorers = ", ".join(f"`{one['type']}`" for one in config["scoring"])
    held_out = f"up to {prompts.get('holdout')}" if facts.held_out is None else str(facts.held_out)
    answers = (
        f"Answers and what is known of them: the dataset `{samples['source']}`. Evaluated by {scorers}."
        if samples
        else f"The model's own {sampling.get('responses')} answers to each, scored by {scorers}."
    )
    return f"Prompts: `{prompts['source']}`, up to {prompts.get('per_round')} a round, {held_out} held out. {answers}"


def _metrics(facts: CardFacts) -> str:
    metrics = facts.report.metrics
    if not metrics:
        return "This round was not evaluated."
    lines = ["On the held-out prompts, with 95 % intervals over prompts:", ""]
    lines += ["| metric | value | 95 % interval | n |", "|---|---|---|---|"]
    for name in display_order(set(metrics)):
        metric, shown = metrics[name], display(name)
        unit = f" {shown.unit}" if shown.unit else ""
        value, interval = format_value(metric.value, shown.style), format_interval(*metric.ci95, shown.style)
        lines.append(f"| {shown.label} | {value}{unit} | {interval} | {metric.n} |")
    return "\n".join(lines)


def _use(facts: CardFacts) -> str:
    dtype = facts.config["model"].get("dtype", "float32")
    imports = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    loaded = facts.place if facts.merged else facts.base
    load = f'AutoModelForCausalLM.from_pretrained({loaded!r}, dtype="{dtype}")'
    if facts.merged:
        code = [*imports, f"tokenizer = AutoTokenizer.from_pretrained({facts.place!r})", f"model = {load}"]
    else:
        code = [
            "from peft import PeftModel",
            *imports,
            f"tokenizer = AutoTokenizer.from_pretrained({facts.place!r})",
            f"base = {load}",
            f"model = PeftModel.from_pretrained(base, {facts.place!r})",
        ]
    named = (
        ""
        if facts.base_on_hub or facts.merged
        else (f"`{facts.base}` stands for the folder of the base model, which is known by its hash below.\n\n")
    )
    template = _template(facts)
    prompt = {
        "none": "the bare text of a prompt, without a chat template",
        "auto": "the base model's own chat template",
    }.get(template, f"the chat template `{template}`, which the tokenizer here has")
    return (
        f"{named}Serve with vLLM:\n\n{_code(serve_line(facts, facts.place))}\n\n"
        f"Load in Python:\n\n{_code(chr(10).join(code))}\n\nIt was trained on {prompt}."
    )


def _template(facts: CardFacts) -> str:
    return facts.config["prompts"].get("template", "auto")


def _settings(config: JsonObject) -> str:
    return yaml.safe_dump({name: config[name] for name in SECTIONS if name in config}, sort_keys=False).rstrip()


def _code(text: str) -> str:
    """Indented, because no text can end such a block early."""
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
