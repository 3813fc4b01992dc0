"""The commands that look at a run and change nothing in it but its page."""

from __future__ import annotations

from typing import Any, get_args

import click

from rayalign.records import ScoredPurpose

_PURPOSE = click.Choice(get_args(ScoredPurpose))


@click.command()
@click.argument("run_dir", metavar="RUN")
def report(run_dir: str) -> None:
    """Write report.html anew from the run folder RUN."""
    from rayalign.launch import run as launch

    click.echo(launch.write_report(run_dir))


@click.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--round", "round_index", type=click.IntRange(min=0), help="Default: the last finished round.")
@click.option("--samples", type=_PURPOSE, help="Default: train; with --compare: evaluation.")
@click.option("--compare", type=click.IntRange(min=0), metavar="N", help="Gains and losses against round N, held out.")
@click.option("--prompt", "prompt_id", metavar="ID", help="A prompt's id or its beginning. Default: list the prompts.")
@click.option("--limit", type=click.IntRange(min=1), help="Prompts, or answers of a prompt, shown at most.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for machines.")
def show(run_dir: str, round_index: int | None, prompt_id: str | None, limit: int | None, **options: Any) -> None:
    """Print a round's prompts of RUN, or one prompt's answers, rewards, scores, judgments and training group."""
    from rayalign.commands.show import show as shown

    click.echo(shown(run_dir, round_index, prompt_id, limit, **options))


VIEW_COMMANDS = (report, show)
