"""The command line. Commands import what they need when they run, so that `--help` is quick.

Exit codes: 0 done, 2 bad input, 3 stopped before the end and resumable, 1 anything else.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import click

from rayalign import __version__
from rayalign.errors import EXIT_FAILURE, EXIT_OK, EXIT_RESUMABLE, InterruptedRunError, RayalignError, full_disk
from rayalign.stopping import leave, stoppable

Samples = Literal["train", "evaluation", "greedy"]


def _round(value: str) -> int | str:
    """A round's number, or `best`."""
    return value if value == "best" else click.IntRange(min=0)(value)


_LENGTH = click.FloatRange(min=1)
_SET = click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change a config value (repeatable).")
_FORK = click.option("--fork", metavar="NAME", help="Go on from this run's rounds under a new name and config.")
_BASE = click.option("--base", metavar="MODEL", help="The base model, as in model.base, if it has moved since.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rayalign")
def cli() -> None:
    """Align a language model by rounds: sample, score, train a LoRA adapter, sync it, evaluate.

    Start with: rayalign run configs/quickstart.yaml
    """


@cli.command()
@click.argument("config")
@_SET
@click.option("--dry-run", is_flag=True, help="Show the config, check all that the run reads; start nothing.")
@_FORK
@stoppable
def run(config: str, overrides: tuple[str, ...], dry_run: bool, fork: str | None) -> None:
    """Run the rounds of CONFIG, a YAML file. An existing run folder is resumed."""
    from rayalign.config.file import load_config

    loaded = load_config(config, overrides)
    if dry_run:
        from rayalign.launch import dry_run as dry

        dry.dry_run(loaded, Path(config).parent, click.echo, fork)
    else:
        from rayalign.launch import run as launch

        launch.run(loaded, fork=fork, config_dir=Path(config).parent)


def _staged(command: click.decorators.FC) -> click.decorators.FC:
    """Argument and options of the commands that take a stage's config."""
    for decorate in (
        click.option("--dry-run", is_flag=True, help="Show the config, check all that is read; start nothing."),
        _SET,
        click.argument("config"),
    ):
        command = decorate(command)
    return command


def _run_stage(kind: Literal["sft", "reward_model"], config: str, overrides: tuple[str, ...], dry_run: bool) -> None:
    from rayalign.config.file import load_config_of
    from rayalign.config.stages import StageConfig

    loaded = load_config_of(StageConfig, config, overrides)
    if dry_run:
        from rayalign.launch import dry_run as dry

        dry.dry_stage(kind, loaded, Path(config).parent, click.echo)
    else:
        from rayalign.launch.stage import run_stage

        run_stage(kind, loaded, Path(config).parent)


@cli.command()
@_staged
@stoppable
def sft(config: str, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Fine-tune a model on the answers of a dataset. An existing folder is resumed."""
    _run_stage("sft", config, overrides, dry_run)


@cli.command("reward-model")
@_staged
@stoppable
def reward_model(config: str, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Train a reward model on the preference pairs of a dataset. An existing folder is resumed."""
    _run_stage("reward_model", config, overrides, dry_run)


@cli.command("all")
@_staged
@stoppable
def run_everything(config: str, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Run SFT, reward model, rounds and report in one go. What is done is not done again."""
    from rayalign.config.file import load_config_of
    from rayalign.config.stages import AllConfig

    loaded = load_config_of(AllConfig, config, overrides)
    if dry_run:
        from rayalign.launch import dry_run as dry

        dry.dry_all(loaded, Path(config).parent, click.echo)
    else:
        from rayalign.launch.all_stages import run_all

        run_all(loaded, Path(config).parent, click.echo)


@cli.command()
@click.argument("config")
@_SET
@click.option("--nodes", metavar="FILE", help="Of a cluster to be, as YAML. Default: this machine.")
@click.option("--gpu", metavar="NAME", help="Of as many GPUs as CONFIG asks for, such as H100-80GB.")
@click.option("--tokens", type=(_LENGTH, _LENGTH), metavar="P A", help="Of a mean prompt and answer. Default: limits.")
@click.option("--calibrate", is_flag=True, help="Measure rates here, with the model's sizes; else from a table.")
@stoppable
def plan(config: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Tell what a run of CONFIG takes: memory, work, time, cost, and what does not fit (exit code 2)."""
    from rayalign.config.file import load_config

    loaded = load_config(config, overrides)
    from rayalign.commands.plan import plan as tell

    return tell(loaded, click.echo, **options)


@cli.command()
@click.argument("config")
@click.option("--address", required=True, metavar="URL", help="The cluster's job server, http://HEAD:8265.")
@_SET
@click.option("--no-wait", is_flag=True, help="Return once the cluster has the job; do not follow its log.")
@_FORK
@stoppable
def submit(config: str, address: str, overrides: tuple[str, ...], no_wait: bool, fork: str | None) -> int:
    """Run CONFIG as a job on a Ray cluster and follow it; ends with the run's exit code.

    The working directory travels, without caches, run folders and secrets. Submitting again follows the run if it is
    alive and resumes it if it is not.
    """
    from rayalign.config.file import load_config

    loaded = load_config(config, overrides)
    from rayalign.commands.submit import submit as submit_job

    return submit_job(loaded, Path(config), overrides, address=address, wait=not no_wait, fork=fork, say=click.echo)


@cli.command()
@click.argument("run_dir", metavar="RUN")
def report(run_dir: str) -> None:
    """Write report.html anew from the run folder RUN."""
    from rayalign.launch import run as launch

    click.echo(launch.write_report(run_dir))


@cli.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--round", "round_index", type=_round, metavar="N|best", help="Default: the last finished round.")
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


@cli.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--round", "round_index", type=_round, metavar="N|best", help="0: the base; default: the last finished.")
@click.option("--temperature", type=click.FloatRange(min=0), help="0 takes the likeliest token. Default: the run's.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Of one answer. Default: the run's.")
@_BASE
def chat(run_dir: str, **options: Any) -> None:
    """Talk to a round of RUN, or to the export RUN: a line is a message; Ctrl-D or Ctrl-C ends. Reads a pipe, too."""
    from rayalign.commands.chat import chat as talk

    talk(run_dir, **options, source=sys.stdin, out=sys.stdout, say=lambda text: click.echo(text, err=True))


@cli.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--round", "round_index", type=click.IntRange(min=0), help="Default: the last finished round.")
@click.option("--samples", type=click.Choice(get_args(Samples)), help="Default: train; with --compare: evaluation.")
@click.option("--compare", type=click.IntRange(min=0), metavar="N", help="Gains and losses against round N, held out.")
@click.option("--prompt", "prompt_id", metavar="ID", help="A prompt's id or its beginning. Default: list the prompts.")
@click.option("--limit", type=click.IntRange(min=1), help="Prompts, or answers of a prompt, shown at most.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for machines.")
def show(run_dir: str, round_index: int | None, prompt_id: str | None, limit: int | None, **options: Any) -> None:
    """Print a round's prompts of RUN, or one prompt's answers, rewards, scores, judgments and training group."""
    from rayalign.commands.show import show as shown

    click.echo(shown(run_dir, round_index, prompt_id, limit, **options))


@cli.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--round", "round_index", type=click.IntRange(0, 9999), required=True, help="Whose answers to score.")
@click.option("--scorer", required=True, metavar="FILE", help="YAML: a `scoring` list, or the keys of one scorer.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change one value of FILE (repeatable).")
@click.option("--samples", type=click.Choice(get_args(Samples)), default="train", show_default=True)
@click.option("--name", metavar="NAME", help="Folder below RUN/rescored for the scores; by default FILE's name.")
@stoppable
def score(
    run_dir: str, round_index: int, scorer: str, overrides: tuple[str, ...], samples: Samples, name: str | None
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


@cli.command()
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


@cli.command()
@click.argument("config", required=False)
@_SET
@click.option("--gpu", is_flag=True, help="Try the parts of a round on the GPU, ten minutes; a table for an issue.")
def doctor(config: str | None, overrides: tuple[str, ...], gpu: bool) -> int:
    """Check this machine: packages, memory, disk, GPUs, settings; of a run's CONFIG, which actor gets which GPU."""
    from rayalign.commands.doctor import diagnose
    from rayalign.config.file import load_config

    return diagnose(click.echo, None if config is None else load_config(config, overrides), gpu=gpu)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code; errors that a user can mend are shown without traceback."""
    leave(exit_code(arguments))


def exit_code(arguments: Sequence[str] | None = None) -> int:
    try:
        result = cli.main(args=arguments, prog_name="rayalign", standalone_mode=False)
        return result if isinstance(result, int) else EXIT_OK
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):
            traceback.print_exception(error.__cause__)
            return EXIT_FAILURE
        click.echo("interrupted; the same command resumes the run", err=True)
        return EXIT_RESUMABLE
    except Exception as error:
        if (told := error if isinstance(error, RayalignError) else full_disk(error)) is None:
            traceback.print_exc()
            return EXIT_FAILURE
        click.echo(str(told) if isinstance(told, InterruptedRunError) else f"error: {told}", err=True)
        return told.exit_code
