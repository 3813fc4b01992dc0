"""The commands that make something of a finished run, or of a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, get_args

import click

from rayalign.cli_options import round_or_best
from rayalign.records import ScoredPurpose
from rayalign.stopping import stoppable

_BASE = click.option("--base", metavar="MODEL", help="The base model, as in model.base, if it has moved since.")


@click.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--round", "round_index", type=round_or_best, metavar="N|best", help="Default: the last finished round.")
@click.option("--to", required=True, metavar="DIR", help="New or empty folder, or an earlier export of the same.")
@click.option("--merge", is_flag=True, help="Write base + adapter as one model, in the base's dtype, logits compared.")
@_BASE
@click.option("--push", metavar="HUB_ID", help="Also upload it to HF_ENDPOINT, with HF_TOKEN or the hub's login.")
@click.option("--update", is_flag=True, help="With --push: add a commit to a repository that exists.")
@click.option("--public", is_flag=True, help="With --push: make a public repository (default: private).")
@stoppable
def export(run_dir: str, push: str | None, update: bool, public: bool, **options: Any) -> None:
    """Write a round's adapter of RUN to a folder that PEFT and vLLM load, with a model card."""
    if (update or public) and push is None:
        raise click.UsageError("--update and --public belong to --push.")
    from rayalign.commands.export import Push, export as write_export

    pushed = None if push is None else Push(push, update=update, public=public)
    write_export(run_dir, push=pushed, say=click.echo, **options)


@click.command()
@click.argument("run_dir", metavar="RUN")
@click.option(
    "--round", "round_index", type=round_or_best, metavar="N|best", help="0: the base; default: the last finished."
)
@click.option("--temperature", type=click.FloatRange(min=0), help="0 takes the likeliest token. Default: the run's.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Of one answer. Default: the run's.")
@_BASE
def chat(run_dir: str, **options: Any) -> None:
    """Talk to a round of RUN, or to the export RUN: a line is a message; Ctrl-D or Ctrl-C ends. Reads a pipe, too."""
    from rayalign.commands.chat import chat as talk

    talk(run_dir, **options, source=sys.stdin, out=sys.stdout, say=lambda text: click.echo(text, err=True))


@click.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--round", "round_index", type=click.IntRange(0, 9999), required=True, help="Whose answers to score.")
@click.option("--scorer", required=True, metavar="FILE", help="YAML: a `scoring` list, or the keys of one scorer.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change one value of FILE (repeatable).")
@click.option("--samples", type=click.Choice(get_args(ScoredPurpose)), default="train", show_default=True)
@click.option("--name", metavar="NAME", help="Folder below RUN/rescored for the scores; by default FILE's name.")
@stoppable
def score(
    run_dir: str, round_index: int, scorer: str, overrides: tuple[str, ...], samples: ScoredPurpose, name: str | None
) -> None:
    """Score the stored answers of a round of RUN with other scorers, and compare with the stored scores.

    Nothing is sampled, and what the run committed stays as it is. Interrupted, the same command goes on.
    """
    from rayalign.config.file import load_scorers

    scorers = load_scorers(scorer, overrides)
    from rayalign.commands.score import rescore
    from rayalign.tracking.console import Console

    path, console = Path(scorer), Console()
    rescore(run_dir, round_index, scorers, folder=path.parent, console=console, purpose=samples, name=name or path.stem)


def _rounds(value: str) -> int | str:
    """A round's number, `best` or `all`."""
    return value if value == "all" else round_or_best(value)


@click.command("eval")
@click.argument("run_dir", metavar="RUN")
@click.option("--round", "rounds", type=_rounds, metavar="N|best|all", help="0: the base; default: the last finished.")
@click.option(
    "--benchmark", required=True, metavar="NAME|FILE", help="One of the run's config, a type, or a YAML file."
)
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change one value of it (repeatable).")
@_BASE
@stoppable
def evaluate(run_dir: str, rounds: Any, benchmark: str, overrides: tuple[str, ...], base: str | None) -> None:
    """Run a benchmark on finished rounds of RUN, with the proof of a run that it is the round which is served.

    What is measured goes to RUN/benchmarks and into the report. Interrupted, the same command goes on.
    """
    from rayalign.commands.evaluate import evaluate as run_benchmark

    run_benchmark(run_dir, rounds, benchmark, overrides, base)


@click.command()
@click.argument("source", metavar="SRC")
@click.option("--to", required=True, metavar="FORMAT", help="Format to write.")
@click.option("--from", "format", default="auto", metavar="FORMAT", help="Format of SRC; else told from its rows.")
@click.option("--out", metavar="FILE", help="JSONL file to write; else named after SRC and the format.")
@click.option("--on-bad-rows", type=click.Choice(["skip", "fail"]), default="skip", help="Default: skip and count.")
@click.option("--field", "own", multiple=True, metavar="FIELD=OWN", help="SRC's own name of a field: chosen=good.")
@stoppable
def convert(
    source: str, to: str, format: str, out: str | None, on_bad_rows: Literal["skip", "fail"], own: tuple[str, ...]
) -> None:
    """Write the dataset SRC (a file, a folder, a URI or a hub id) in another format."""
    from rayalign.commands.convert import convert as convert_dataset

    stem = Path(source.partition("?")[0]).name.removesuffix(".gz").partition(":")[0]
    target = Path(out) if out else Path(f"{Path(stem).stem}.{to}.jsonl")
    convert_dataset(source, to, target, click.echo, format=format, on_bad_rows=on_bad_rows, own=own)


RESULT_COMMANDS = (export, chat, score, evaluate, convert)
