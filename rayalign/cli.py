"""The command line. Commands import what they need when they run, so that `--help` is quick.

Exit codes: 0 done, 2 bad input, 3 stopped before the end and resumable, 1 anything else.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NoReturn

import click

from rayalign import __version__
from rayalign.errors import EXIT_FAILURE, EXIT_OK, EXIT_RESUMABLE, RayalignError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rayalign")
def cli() -> None:
    """Align a language model by rounds: sample, score, train a LoRA adapter, sync it, evaluate.

    Start with: rayalign run configs/quickstart.yaml
    """


@cli.command()
@click.argument("config")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change one value of the config (repeatable).")
@click.option("--dry-run", is_flag=True, help="Show the whole config and what would run where; start nothing.")
@click.option("--fork", metavar="NAME", help="Go on from this run's last round under a new name and a changed config.")
def run(config: str, overrides: tuple[str, ...], dry_run: bool, fork: str | None) -> None:
    """Run the rounds of CONFIG, a YAML file. An existing run folder is resumed."""
    from rayalign.config_file import load_config, resolved_yaml

    loaded = load_config(config, overrides)
    from rayalign import launch

    if dry_run:
        # First what may refuse the config: a URI with credentials must not be shown.
        description = launch.describe(loaded)
        click.echo(resolved_yaml(loaded))
        click.echo(description)
    else:
        launch.run(loaded, fork=fork, config_dir=Path(config).parent)


@cli.command()
@click.argument("config")
@click.option("--address", required=True, metavar="URL", help="The cluster's job server, http://HEAD:8265.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change one value of the config (repeatable).")
@click.option("--no-wait", is_flag=True, help="Return once the cluster has the job; do not follow its log.")
@click.option("--fork", metavar="NAME", help="Go on from this run's last round under a new name and a changed config.")
def submit(config: str, address: str, overrides: tuple[str, ...], no_wait: bool, fork: str | None) -> int:
    """Run CONFIG as a job on a Ray cluster and follow it; ends with the run's exit code.

    The working directory travels, without caches, run folders and secrets. Submitting again follows the run if it is
    alive and resumes it if it is not.
    """
    from rayalign.config_file import load_config

    loaded = load_config(config, overrides)
    from rayalign.storage import Folder

    # Refuses a URI with credentials before it becomes part of a job's command line.
    Folder(loaded.run.dir)
    from rayalign.submit import submit as submit_job

    return submit_job(loaded, Path(config), overrides, address=address, wait=not no_wait, fork=fork, say=click.echo)


@cli.command()
@click.argument("run_dir", metavar="RUN")
def report(run_dir: str) -> None:
    """Write report.html anew from the run folder RUN."""
    from rayalign import launch

    click.echo(launch.write_report(run_dir))


@cli.command()
@click.argument("source", metavar="SRC")
@click.option("--to", required=True, metavar="FORMAT", help="Format to write.")
@click.option("--from", "format", default="auto", metavar="FORMAT", help="Format of SRC; else told from its rows.")
@click.option("--out", metavar="FILE", help="JSONL file to write; else named after SRC and the format.")
@click.option("--on-bad-rows", type=click.Choice(["skip", "fail"]), default="skip", help="Default: skip and count.")
def convert(source: str, to: str, format: str, out: str | None, on_bad_rows: Literal["skip", "fail"]) -> None:
    """Write the dataset SRC (a file, a folder, a URI or a hub id) in another format."""
    from rayalign.data.convert import convert as convert_dataset

    stem = Path(source.partition("?")[0]).name.removesuffix(".gz").partition(":")[0]
    target = Path(out) if out else Path(f"{Path(stem).stem}.{to}.jsonl")
    convert_dataset(source, to, target, click.echo, format=format, on_bad_rows=on_bad_rows)


@cli.command()
def doctor() -> None:
    """Check this machine: packages, memory, disk, compiler, settings."""
    from rayalign.doctor import diagnose

    raise click.exceptions.Exit(diagnose(click.echo))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code; errors that a user can mend are shown without traceback."""
    sys.exit(exit_code(arguments))


def exit_code(arguments: Sequence[str] | None = None) -> int:
    try:
        result = cli.main(args=arguments, prog_name="rayalign", standalone_mode=False)
        return result if isinstance(result, int) else EXIT_OK
    except RayalignError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):
            traceback.print_exception(error.__cause__)
            return EXIT_FAILURE
        click.echo("interrupted; the same command resumes the run", err=True)
        return EXIT_RESUMABLE
    except Exception:
        traceback.print_exc()
        return EXIT_FAILURE
