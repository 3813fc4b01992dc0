"""`rayalign eval`: a benchmark on finished rounds of a run, by the actors and with the proof of a run.

config.yaml, rounds/0003/adapter ─► generators, learner, judge ─► synced with proof ─► benchmarks/NAME/round-0003/
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rayalign.commands.held_out import config_of
from rayalign.config.benchmarks import BenchmarkConfig, JudgedBenchmark, judge_of
from rayalign.config.file import benchmark_from, load_benchmark, overridden
from rayalign.config.run import RunConfig
from rayalign.dashboard.page import write_report
from rayalign.errors import ConfigError, RunFolderError
from rayalign.launch.base_checks import check_base
from rayalign.launch.benchmarks import read_benchmarks
from rayalign.launch.models import base_of
from rayalign.launch.session import local_logs, own_console
from rayalign.records import SavedAdapter
from rayalign.stopping import call
from rayalign.store.saved_run import SavedRun
from rayalign.tracking.console import Console

if TYPE_CHECKING:
    from rayalign.launch.by_hand import Measured

AskedRounds = int | Literal["best", "all"] | None
FILE_ENDINGS = (".yaml", ".yml")


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What is to be measured, checked."""

    config: RunConfig
    """The run's, with this benchmark alone."""
    adapters: dict[int, SavedAdapter]
    """By round."""
    folder: Path
    """Where relative paths are looked up after the working directory."""


def evaluate(
    place: str, rounds: AskedRounds, benchmark: str, overrides: Sequence[str] = (), base: str | None = None
) -> None:
    """Run a benchmark on rounds of a finished run, write what it measured beside the rounds, and rewrite the report.

    Args:
        place: the run's folder or URI.
        rounds: None is the last finished one.
        benchmark: the name of one in the run's config, a type that needs no more, or a YAML file.
        base: where the base model is now.

    Raises:
        RayalignError: run, round, benchmark or judge cannot be used; an adapter could not be proven to be served.
    """
    saved = SavedRun.at(place)
    asked = find(saved, rounds, benchmark, overrides)
    from rayalign.actors.process import QUIET_ENV
    from rayalign.launch.by_hand import measure

    os.environ |= QUIET_ENV
    run_dir = saved.run_dir
    with run_dir.lock(), local_logs(run_dir.root / "logs") as logs, own_console(logs / "eval.log") as console:
        inputs = call(lambda: read_benchmarks(asked.config, asked.folder, run_dir.date, run_dir.cache))
        sha256 = str(run_dir.info["inputs"]["model_sha256"])
        model, _ = call(lambda: base_of(str(saved.config["model"]["base"]), base, sha256))
        check_base(asked.config, model)
        measured = measure(asked.config, run_dir, model, asked.adapters, inputs, console, logs)
        _show(console, measured)
        write_report(run_dir.root)
        console.say(f"report: {run_dir.root / 'report.html'}")


def find(saved: SavedRun, rounds: AskedRounds, benchmark: str, overrides: Sequence[str]) -> Asked:
    """What is asked for, as far as files tell, before anything is loaded.

    Raises:
        RayalignError: run, round or benchmark cannot be used.
    """
    config = config_of(saved)
    section, folder = _section(config, benchmark, overrides)
    if isinstance(section, JudgedBenchmark):
        try:
            section = section.model_copy(update={"judge": judge_of(section, config.scoring)})
        except ValueError as error:
            raise ConfigError(str(error)) from None
    alone = config.evaluation.model_copy(update={"benchmarks": [section]})
    return Asked(config.model_copy(update={"evaluation": alone}), _adapters(saved, rounds), folder)


def _section(config: RunConfig, benchmark: str, overrides: Sequence[str]) -> tuple[BenchmarkConfig, Path]:
    if benchmark.endswith(FILE_ENDINGS):
        return load_benchmark(benchmark, overrides), Path(benchmark).parent
    own = {one.label: one for one in config.evaluation.benchmarks}
    data = own[benchmark].to_dict() if benchmark in own else {"type": benchmark}
    source = f"evaluation.benchmarks {benchmark}" if benchmark in own else f"--benchmark {benchmark}"
    return benchmark_from(overridden(data, overrides), source, overrides), Path()


def _adapters(saved: SavedRun, rounds: AskedRounds) -> dict[int, SavedAdapter]:
    finished = [one.index for one in saved.run_dir.rounds()]
    indices = finished if rounds == "all" else [saved.chosen(rounds)[0].index]
    if not indices:
        saved.finished(None)
    return {index: _adapter(saved, index) for index in indices}


def _adapter(saved: SavedRun, index: int) -> SavedAdapter:
    sha256 = saved.run_dir.info.get("inputs", {}).get("model_sha256")
    if sha256 is None:
        raise RunFolderError(
            f"{saved.run_dir.root}/run.json does not say which base model was trained on",
            "what is served could not be compared with it",
            "restore the file from a copy",
        )
    if index == 0:
        return SavedAdapter.base(str(sha256))
    round_dir, _, _ = saved.adapter(index)
    found = round_dir.adapter()
    assert found is not None
    return found


def _show(console: Console, measured: Sequence[Measured]) -> None:
    for one in measured:
        metrics = [
            f"{name} {metric['value']:.4g} [{metric['ci95'][0]:.4g}, {metric['ci95'][1]:.4g}] (n {metric['n']})"
            for name, metric in one.content["metrics"].items()
        ]
        console.say(f"round {one.round_index}: {one.name}: {', '.join(metrics) or 'nothing was measured'}")
        console.say(f"  -> {one.folder}")
