"""The second half of the composition root: real parts on a Ray cluster, started together and put into one run."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rayalign.actors.cluster import Cluster, check_nodes, connected
from rayalign.actors.generator import RayGenerator
from rayalign.actors.groups import RayGroupBuilder
from rayalign.actors.learner import RayLearner
from rayalign.actors.model_source import ModelSource
from rayalign.actors.placement import keep_off, place
from rayalign.actors.scorer import RayScorer
from rayalign.config.run import RunConfig
from rayalign.launch.inputs import Inputs
from rayalign.launch.session import package_versions
from rayalign.loop.evaluator import HeldOutEvaluator
from rayalign.loop.round import Run, Stages
from rayalign.loop.run import run_rounds
from rayalign.loop.sampling import Given, Unscored
from rayalign.parts import Scorer
from rayalign.store.run_dir import RunDir
from rayalign.tracking.reporter import RunReporter


def run_on_ray(
    config: RunConfig,
    run_dir: RunDir,
    inputs: Inputs,
    reporter: RunReporter,
    logs: Path,
    *,
    on_connect: Callable[[], object],
) -> None:
    """Start all actors, run the rounds that are left, stop the actors.

    Args:
        logs: local folder for the actors' output.
        on_connect: called as soon as Ray runs (it replaces the process's signal handlers).
    """
    parts: list[Any] = []
    attempt = {
        "started": _now(),
        "host": platform.node(),
        "python": platform.python_version(),
        "packages": package_versions(),
    }
    with connected() as cluster:
        on_connect()
        try:
            check_nodes(cluster, run_dir)
            run = _wire(config, run_dir, inputs, reporter, logs, cluster, parts, attempt)
            run_dir.update_info(attempts=[*run_dir.info["attempts"], attempt])
            run_rounds(run)
        finally:
            for part in reversed(parts):
                part.close()


def _wire(
    config: RunConfig,
    run_dir: RunDir,
    inputs: Inputs,
    reporter: RunReporter,
    logs: Path,
    cluster: Cluster,
    parts: list[Any],
    attempt: dict[str, Any],
) -> Run:
    """Start all actors, wait for all, and put them together."""
    placement = place(config, cluster)
    model, storage = ModelSource.of(inputs.model, cluster), run_dir.root / "logs" / "ray_train"
    with reporter.stage("start actors", 0, 2 + bool(config.scoring)) as progress:
        learner = RayLearner(
            *(model, config, run_dir.root, storage, str(logs)),
            cpus=placement.learner,
            label_selector=placement.learner_labels,
        )
        parts.append(learner)
        scorer: Scorer = Unscored()
        if config.scoring:
            scorer = RayScorer(
                *(config, inputs.scorer_sources, str(logs), cluster, run_dir.cache),
                cpus=placement.scorer,
                say=reporter.say,
            )
            parts.append(scorer)
        selector = placement.generator_labels
        if placement.apart:
            selector = keep_off({worker["node_id"] for worker in learner.ready()})
        generator = RayGenerator(
            model, config, str(logs), cpus=placement.generator, say=reporter.say, label_selector=selector
        )
        parts.append(generator.pool)
        actors = []
        for part in (*parts[1:], learner):
            actors += part.ready()
            progress.advance(1)
    attempt["actors"] = actors
    attempt["nodes"] = [{"node_id": node.id, "address": node.address} for node in cluster.nodes]
    evaluator = HeldOutEvaluator(config, run_dir, inputs.holdout, generator, scorer, learner, reporter)
    stages = Stages(generator, scorer, RayGroupBuilder(run_dir, config, model), learner, evaluator, reporter)
    given = inputs.responses
    return Run(
        *(config, run_dir, stages, inputs.prompts, inputs.train_ids_N, inputs.model_sha256),
        dataset=Given(given.rows, given.count) if given is not None else None,
        revisions=Given(given.revision_rows, given.count_revisions) if given is not None and given.revises else None,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
