"""Benchmarks on the adapters of a finished run: the actors of a run without its scorers, and the same proof before
anything is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rayalign.actors.cluster import check_nodes, connected
from rayalign.actors.model_source import ModelSource
from rayalign.actors.placement import place, settled
from rayalign.config.run import RunConfig
from rayalign.data.prompt_store import PromptStore
from rayalign.evaluation.benchmarks.base import Asked
from rayalign.launch.benchmarks import BenchmarkInputs, fitting
from rayalign.launch.inputs import Inputs
from rayalign.launch.wiring import Actors, Site, runners, start_actors
from rayalign.loop.adapter_sync import AdapterSync
from rayalign.loop.benchmarks import Runner, run_at
from rayalign.loop.sampling import sampling_plan
from rayalign.records import JsonObject, SavedAdapter, Shard
from rayalign.rendering.renderer import ChatRenderer
from rayalign.store.benchmark_dir import BenchmarkDir
from rayalign.store.folder import Folder
from rayalign.store.run_dir import RunDir
from rayalign.tracking.console import Console
from rayalign.tracking.reporter import RunReporter

CANARIES = (
    "Name three animals.",
    "What is two plus two?",
    "Write one sentence about the sea.",
    "List some fruits in alphabetical order.",
    "Why is the sky blue?",
    "Give me a short recipe.",
    "Say hello in French.",
    "What should I read next?",
)
"""Asked of the base before anything else; what generators and learner make of its answers is compared."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a benchmark measured on a round."""

    round_index: int
    name: str
    folder: Folder
    content: JsonObject
    """Type, metrics and facts."""


def measure(
    config: RunConfig,
    run_dir: RunDir,
    model: Path,
    adapters: Mapping[int, SavedAdapter],
    benchmarks: Sequence[BenchmarkInputs],
    console: Console,
    logs: Path,
) -> list[Measured]:
    """Serve one adapter after the other, each proven, and run all benchmarks on it.

    Args:
        config: the run's, with these benchmarks; their judges are written out, not named.
        model: folder of the base.
        adapters: by round.
    """
    reporter = RunReporter(console, None, lambda: None)
    inputs = _inputs(config, model, adapters, benchmarks)
    with connected() as cluster, ExitStack() as started:
        check_nodes(cluster, run_dir)
        config = settled(config, cluster)
        site = Site(cluster, place(config, cluster), ModelSource.of(model, cluster), logs, metrics=None)
        actors = start_actors(config, run_dir, inputs, reporter, site, started, scores=False)
        ready = runners(benchmarks, config, run_dir, model, actors, reporter, started)
        sync = _sync(config, run_dir, model, actors, reporter)
        sync.start(SavedAdapter.base(inputs.model_sha256))
        measured = []
        for index, served in sorted(adapters.items()):
            with reporter.stage("sync", index, 1) as progress:
                if served.files is not None:
                    sync.sync(served)
                progress.advance(1)
            measured += [_measured(run_dir, index, runner, served, reporter) for runner in ready]
        return measured


def _inputs(
    config: RunConfig, model: Path, adapters: Mapping[int, SavedAdapter], benchmarks: Sequence[BenchmarkInputs]
) -> Inputs:
    """What actors read of a run's inputs, where nothing is trained and nothing scored."""
    sha256 = next(iter(adapters.values())).record.base_model_sha256
    return Inputs(model, sha256, PromptStore(), np.array([], dtype="S16"), [], [], benchmarks=list(benchmarks))


def _sync(config: RunConfig, run_dir: RunDir, model: Path, actors: Actors, reporter: RunReporter) -> AdapterSync:
    from rayalign.learning.folders import load_tokenizer

    renderer = ChatRenderer(load_tokenizer(model), config.prompts.template, run_dir.date)
    asked = [Asked(text, [{"role": "user", "content": text}]) for text in CANARIES]
    canaries = fitting(renderer, config.prompts.max_tokens, "sync proof", reporter)(asked)
    plan = dataclasses.replace(sampling_plan(config, 0, "train"), responses=1)
    return AdapterSync(actors.generator, actors.learner, Shard(0, tuple(canaries)), plan, config.sync.tolerance)


def _measured(run_dir: RunDir, index: int, runner: Runner, served: SavedAdapter, reporter: RunReporter) -> Measured:
    at = BenchmarkDir.beside(run_dir, index, runner.name, runner.marks(index, served))
    return Measured(index, runner.name, at.round_dir.root, run_at(at, runner, served, reporter))
