"""The command line. Commands import what they need when they run, so that `--help` is quick.

Exit codes: 0 done, 2 bad input, 3 stopped before the end and resumable, 1 anything else.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import click

from rayalign import __version__
from rayalign.cli_results import RESULT_COMMANDS
from rayalign.cli_view import VIEW_COMMANDS
from rayalign.errors import EXIT_FAILURE, EXIT_OK, EXIT_RESUMABLE, InterruptedRunError, RayalignError, full_disk
from rayalign.stopping import leave, stoppable

_LENGTH = click.FloatRange(min=1)
_SET = click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change a config value (repeatable).")
_FORK = click.option("--fork", metavar="NAME", help="Go on from this run's rounds under a new name and config.")


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
@click.argument("config", required=False)
@_SET
@click.option("--gpu", is_flag=True, help="Try the parts of a round on the GPU, ten minutes; a table for an issue.")
def doctor(config: str | None, overrides: tuple[str, ...], gpu: bool) -> int:
    """Check this machine: packages, memory, disk, GPUs, settings; of a run's CONFIG, which actor gets which GPU."""
    from rayalign.commands.doctor import diagnose
    from rayalign.config.file import load_config

    return diagnose(click.echo, None if config is None else load_config(config, overrides), gpu=gpu)


for command in (*VIEW_COMMANDS, *RESULT_COMMANDS):
    cli.add_command(command)


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
