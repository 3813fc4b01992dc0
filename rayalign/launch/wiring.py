"""The second half of the composition root: real parts on a Ray cluster, started together and put into one run.

learner ─┐
scorer  ─┼─► all asked for at once, then waited for ─► evaluator, group builder ─► Run ─► run_rounds
generator┘
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rayalign.actors.autoscaler import told_of_demand
from rayalign.actors.cluster import Cluster, check_nodes, connected
from rayalign.actors.generator import RayGenerator
from rayalign.actors.groups import RayGroupBuilder
from rayalign.actors.judge import ActorTransport, JudgeHandle, Judges
from rayalign.actors.learner import RayLearner
from rayalign.actors.model_source import ModelSource
from rayalign.actors.placement import Placement, keep_off, place, settled
from rayalign.actors.ray_metrics import RayMetrics
from rayalign.actors.scorer import RayScorer
from rayalign.actors.seats import seats_of
from rayalign.actors.turns import TurnGenerator, TurnLearner, Turns
from rayalign.config.run import RunConfig
from rayalign.launch.benchmarks import BenchmarkInputs, BenchmarkParts
from rayalign.launch.inputs import Inputs
from rayalign.launch.session import package_versions, run_folder, tries_scorers
from rayalign.loop.benchmarks import RoundBenchmarks, Runner
from rayalign.loop.evaluator import HeldOutEvaluator
from rayalign.loop.round import Parts, Run
from rayalign.loop.run import run_rounds
from rayalign.loop.sampling import Given, Unscored
from rayalign.parts import Generator, Learner, Scorer
from rayalign.records import JsonObject
from rayalign.rendering.renderer import ChatRenderer
from rayalign.store.run_dir import RunDir
from rayalign.tracking.reporter import RunReporter

TARGETS = ".prometheus"
"""Folder beside the run folders: Prometheus takes a pattern for names of files, not of folders."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a run's parts stand."""

    cluster: Cluster
    placement: Placement
    model: ModelSource
    logs: Path
    """Local folder for the actors' output."""
    metrics: RayMetrics | None
    """Where pools and scores are counted; null where the config turns that off."""


@dataclass(frozen=True, slots=True)
class Actors:
    """The parts that are actors, all of them ready."""

    generator: Generator
    scorer: Scorer
    learner: Learner
    described: list[JsonObject]
    """What each actor says of itself: where it runs, with which versions."""
    turns: Turns | None
    """Whose turn it is; null where each side has its devices for itself."""
    judges: dict[str, list[JudgeHandle]]
    """The actors of every judge that the run holds, by name."""


def run_on_ray(config: RunConfig, run_dir: RunDir, inputs: Inputs, reporter: RunReporter, logs: Path) -> None:
    """Start all actors, run the rounds that are left, stop the actors.

    Args:
        logs: local folder for the actors' output.
    """
    attempt = _this_attempt()
    with connected() as cluster, ExitStack() as started:
        check_nodes(cluster, run_dir)
        metrics = _metrics(config, run_dir, reporter) if config.tracking.prometheus else None
        if metrics is not None:
            started.enter_context(reporter.told(metrics))
        asked, config = config, settled(config, cluster)
        if config is not asked:
            reporter.say("there are not GPUs enough for each side: generators and learner take turns on the same ones")
        site = Site(cluster, place(config, cluster), ModelSource.of(inputs.model, cluster), logs, metrics)
        actors = start_actors(config, run_dir, inputs, reporter, site, started)
        nodes = [{"node_id": node.id, "address": node.address} for node in cluster.nodes]
        attempt |= {"actors": actors.described, "nodes": nodes}
        run_dir.update_info(attempts=[*run_dir.info["attempts"], attempt])
        run = _run_of(config, run_dir, inputs, reporter, actors, site.model)
        if inputs.benchmarks:
            found = runners(inputs.benchmarks, config, run_dir, inputs.model, actors, reporter, started)
            benchmarks = RoundBenchmarks(config, run_dir, found, reporter)
            run = replace(run, parts=replace(run.parts, benchmarks=benchmarks))
        run_rounds(run)


def start_actors(
    config: RunConfig,
    run_dir: RunDir,
    inputs: Inputs,
    reporter: RunReporter,
    site: Site,
    started: ExitStack,
    *,
    scores: bool = True,
) -> Actors:
    """Start all actors and wait for all; `started` ends them, the last one first.

    Args:
        scores: whether the config's scorers are wanted.
    """
    stage = reporter.stage("start actors", 0, 2 + bool(scores and config.scoring))
    waits = told_of_demand(reporter.say) if site.cluster.shared else nullcontext()
    with waits, stage as progress:
        learner = _learner(config, run_dir, site)
        started.callback(learner.close)
        scorer: RayScorer | Unscored = Unscored()
        if scores and config.scoring:
            scorer = _scorer(config, run_dir, inputs, reporter, site)
            started.callback(scorer.close)
        generator = _generator(config, reporter, site, learner)
        started.callback(generator.pool.close)
        own = _benchmark_judges(config, inputs, site, started, scorer)
        described: list[JsonObject] = []
        for part in (scorer, generator.pool, learner):
            if not isinstance(part, Unscored):
                described += part.ready()
                progress.advance(1)
            if isinstance(part, RayScorer) and tries_scorers(config, run_dir):
                part.try_out(inputs.holdout)
        judges = dict(scorer.judges.actors) if isinstance(scorer, RayScorer) else {}
        if own is not None:
            described += own.ready()
            judges |= own.actors
    if not config.cluster.takes_turns:
        return Actors(generator, scorer, learner, described, None, judges)
    turns = Turns({"generators": generator, "learner": learner}, reporter.event)
    return Actors(TurnGenerator(generator, turns), scorer, TurnLearner(learner, turns), described, turns, judges)


def _scorer(config: RunConfig, run_dir: RunDir, inputs: Inputs, reporter: RunReporter, site: Site) -> RayScorer:
    return RayScorer(
        config,
        inputs.scorer_sources,
        str(site.logs),
        site.cluster,
        run_dir.cache,
        cpus=site.placement.scorer,
        threads=site.placement.threads,
        say=reporter.say,
        note=reporter.event,
        metrics=site.metrics,
    )


def _benchmark_judges(
    config: RunConfig, inputs: Inputs, site: Site, started: ExitStack, scorer: RayScorer | Unscored
) -> Judges | None:
    """The judges that benchmarks ask and no scorer has started; they count as scorers."""
    there = scorer.judges.actors if isinstance(scorer, RayScorer) else {}
    asked = {one.judge.section.name: one.judge for one in inputs.benchmarks if one.judge is not None}
    own = [judge for name, judge in asked.items() if name not in there and judge.section.transport == "vllm"]
    if not own:
        return None
    sections, sources = [judge.section for judge in own], [judge.source for judge in own]
    cpus, first = site.placement.scorer, len(there)
    threads = site.placement.threads.judge
    judges = Judges(config, sections, sources, str(site.logs), site.cluster, cpus=cpus, threads=threads, first=first)
    started.callback(judges.close)
    return judges


def runners(
    benchmarks: Sequence[BenchmarkInputs],
    config: RunConfig,
    run_dir: RunDir,
    model: Path,
    actors: Actors,
    reporter: RunReporter,
    started: ExitStack,
) -> list[Runner]:
    """The benchmarks of a run, ready to be run on what its generators serve; `started` closes what they open."""
    from rayalign.learning.folders import load_tokenizer

    renderer = ChatRenderer(load_tokenizer(model), config.prompts.template, run_dir.date)
    transports = {name: partial(ActorTransport, handles) for name, handles in actors.judges.items()}
    parts = BenchmarkParts(
        config, run_dir, model, actors.generator, reporter, renderer, run_dir.cache, transports, started
    )
    return [parts.runner(one) for one in benchmarks]


def _generator(config: RunConfig, reporter: RunReporter, site: Site, learner: RayLearner) -> RayGenerator:
    selector, seats = site.placement.generator_labels, []
    # Only when the learner's workers are there is it known on which nodes and GPUs.
    if config.cluster.shares_gpus:
        seats = seats_of(learner.ready(), config.cluster.generators.tensor_parallel)
    elif site.placement.apart:
        selector = keep_off({worker["node_id"] for worker in learner.ready()})
    return RayGenerator(
        site.model,
        config,
        str(site.logs),
        cpus=site.placement.generator,
        threads=site.placement.threads.generator,
        nodes=site.placement.generator_nodes,
        say=reporter.say,
        note=reporter.event,
        metrics=site.metrics,
        label_selector=selector,
        seats=seats,
    )


def _learner(config: RunConfig, run_dir: RunDir, site: Site) -> RayLearner:
    return RayLearner(
        site.model,
        config,
        run_dir.root,
        run_dir.root / "logs" / "ray_train",
        str(site.logs),
        cpus=site.placement.learner,
        threads=site.placement.threads.learner,
        label_selector=site.placement.learner_labels,
    )


def _run_of(
    config: RunConfig, run_dir: RunDir, inputs: Inputs, reporter: RunReporter, actors: Actors, model: ModelSource
) -> Run:
    """All parts of the run, put together."""
    generator, scorer, learner = actors.generator, actors.scorer, actors.learner
    evaluator = HeldOutEvaluator(config, run_dir, inputs.holdout, generator, scorer, learner, reporter)
    group_builder = RayGroupBuilder(run_dir, config, model)
    given = inputs.responses
    return Run(
        config,
        run_dir,
        Parts(generator, scorer, group_builder, learner, evaluator, reporter, actors.turns),
        inputs.prompts,
        inputs.train_ids_N,
        inputs.model_sha256,
        dataset=Given(given.rows, given.count) if given is not None else None,
        revisions=Given(given.revision_rows, given.count_revisions) if given is not None and given.revises else None,
    )


def _metrics(config: RunConfig, run_dir: RunDir, reporter: RunReporter) -> RayMetrics:
    """The run's metrics; Prometheus finds its Ray by a file, unless the run folders are on an object store."""
    last = max((one.index for one in run_dir.rounds()), default=0)
    metrics, folder = RayMetrics(config.run.name, config.run.rounds, last), run_folder(config.run.dir, TARGETS)
    if folder.is_local:
        try:
            metrics.announce(folder.local_path() / f"{config.run.name}.json")
        except OSError as error:
            reporter.say(f"Prometheus is not told where the run's metrics are: {error}")
    return metrics


def _this_attempt() -> JsonObject:
    """What `run.json` keeps of this attempt, beside its nodes and actors."""
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "python": platform.python_version(),
        "packages": package_versions(),
    }
