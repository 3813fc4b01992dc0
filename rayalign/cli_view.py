"""The commands that look at a run and change nothing in it but its page."""

from __future__ import annotations

from typing import Any, get_args

import click

from rayalign.cli_options import round_or_best
from rayalign.records import ScoredPurpose

_PURPOSE = click.Choice(get_args(ScoredPurpose))


@click.command()
@click.argument("run_dir", metavar="RUN")
def report(run_dir: str) -> None:
    """Write report.html anew from the run folder RUN."""
    from rayalign.dashboard import page

    click.echo(page.write_report(run_dir))


@click.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--round", "asked", type=round_or_best, metavar="N|best", help="Default: the last finished round.")
@click.option("--samples", type=_PURPOSE, help="Default: train; with --compare: evaluation.")
@click.option("--compare", type=click.IntRange(min=0), metavar="N", help="Gains and losses against round N, held out.")
@click.option("--prompt", "prompt_id", metavar="ID", help="A prompt's id or its beginning. Default: list the prompts.")
@click.option("--limit", type=click.IntRange(min=1), help="Prompts, or answers of a prompt, shown at most.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for machines.")
def show(run_dir: str, asked: Any, prompt_id: str | None, limit: int | None, **options: Any) -> None:
    """Print a round's prompts of RUN, or one prompt's answers, rewards, scores, judgments and training group."""
    from rayalign.commands.show import show as shown

    click.echo(shown(run_dir, asked, prompt_id, limit, **options))


@click.command()
@click.argument("runs_dir", metavar="RUNS_DIR")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--token", envvar="RAYALIGN_SERVE_TOKEN", help="Asked of every browser. Default: none here, a made one elsewhere."
)
def serve(runs_dir: str, host: str, port: int, token: str | None) -> int:
    """Serve pages of the runs in RUNS_DIR, a folder of runs or one run: read only, live while a run goes on."""
    from rayalign.commands.serve import serve as serve_runs

    return serve_runs(runs_dir, host, port, token, click.echo)


@click.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--watch", is_flag=True, help="Print it anew while the run goes on.")
@click.option("--check", is_flag=True, help="Compare the hashes of all committed files, not only their sizes.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for machines; with --watch a line each time.")
def status(run_dir: str, watch: bool, check: bool, as_json: bool) -> None:
    """Tell how far RUN is: rounds done, in flight and damaged, who works on it, rate and time left."""
    from rayalign.commands.status import status as tell

    tell(run_dir, click.echo, watch=watch, check=check, as_json=as_json)


@click.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--repair", is_flag=True, help="Set damaged files aside, in RUN/set_aside/, for a resume to make again.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for machines.")
def verify(run_dir: str, repair: bool, as_json: bool) -> int:
    """Check all of RUN: hashes, rows and what refers to what; tell what is damaged and what a resume makes again.

    Exit code 1 where something is damaged, with --repair where something is lost for good.
    """
    from rayalign.commands.verify import verify as check

    return check(run_dir, click.echo, repair=repair, as_json=as_json)


@click.command()
@click.argument("run_dirs", metavar="RUN RUN...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="JSON, for machines.")
def compare(run_dirs: tuple[str, ...], as_json: bool) -> None:
    """Compare runs: settings that differ, metrics over the rounds, rewards on the prompts that they share."""
    from rayalign.commands.compare import compare_command

    click.echo(compare_command(run_dirs, as_json=as_json))


VIEW_COMMANDS = (report, show, serve, status, verify, compare)
