"""The composition root: from a config to real parts, wired and run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rayalign.config import RunConfig
from rayalign.config_file import redact, with_defaults
from rayalign.console import Console, RunReporter
from rayalign.errors import RunFolderError
from rayalign.inputs import Inputs, make_demo_models, read_inputs
from rayalign.metrics import open_log
from rayalign.records import SCHEMA_VERSION
from rayalign.run_dir import Place, RunDir
from rayalign.saved_run import SavedRun
from rayalign.session import catch_signals, interruptible, local_logs, own_console, run_folder
from rayalign.storage import Folder


def describe(config: RunConfig) -> str:
    """What a run would start where, in words (`--dry-run`)."""
    from rayalign.actors.placement import describe_placement

    return f"{describe_placement(config)}\nrun folder: {run_folder(config.run.dir, config.run.name)}"


def run(config: RunConfig, *, fork: str | None = None, config_dir: Path = Path()) -> Path | str:
    """Run or resume all rounds of a config; returns the run folder, a URI where it is on an object store.

    Args:
        fork: go on from the finished rounds of this config's run folder, under this new name.
        config_dir: where relative scorer paths are looked up after the working directory.
    """
    if fork is not None:
        config = _fork(config, fork)
    run_dir = RunDir(run_folder(config.run.dir, config.run.name))
    from rayalign.actors.process import QUIET_ENV

    os.environ |= QUIET_ENV
    make_demo_models(config)
    with (
        run_dir.lock(),
        interruptible(),
        local_logs(run_dir.root / "logs") as logs,
        own_console(logs / "driver.log") as console,
    ):
        _run(config, run_dir, config_dir, console, logs)
    return run_dir.root.local_path() if run_dir.root.is_local else str(run_dir.root)


def _run(config: RunConfig, run_dir: RunDir, config_dir: Path, console: Console, logs: Path) -> None:
    saved = redact(config.to_dict())
    existed = run_dir.check(saved, with_defaults)
    console.say(f"{'resuming' if existed else 'run'} {config.run.name} -> {run_dir.root}")
    inputs = read_inputs(config, config_dir, console, logs)
    # Only now: a run whose inputs could not be read leaves no folder that a mended config would not fit.
    run_dir.open(saved, with_defaults)
    run_dir.keep_inputs(_inputs_read(inputs))
    with open_log(run_dir.root / "metrics.jsonl") if config.tracking.jsonl else contextlib.nullcontext() as log:
        reporter = RunReporter(console, log, lambda: write_report(run_dir.root))
        reporter.event("start", attempt=len(run_dir.info.get("attempts", [])))
        if run_dir.round(config.run.rounds).finished:
            console.say("all rounds are done")
        else:
            from rayalign.wiring import run_on_ray

            # Ray puts its own handler of SIGTERM, which ends the process at once.
            run_on_ray(config, run_dir, inputs, reporter, logs, on_connect=catch_signals)
    write_report(run_dir.root)
    console.table(_reports(run_dir))
    console.say(f"report: {run_dir.root / 'report.html'}")


def write_report(root: Place | str) -> Folder:
    """Rewrite `report.html` from the run folder.

    Raises:
        RunFolderError: the folder holds no run, or one of another schema version.
    """
    from rayalign.dashboard.report import ReportData, render_report
    from rayalign.run_dir import write_file

    run = SavedRun.at(root)
    run_dir, config = run.run_dir, run.config
    rounds = [report for r in run_dir.rounds() if (report := r.report()) is not None]
    status = f"{max(0, len(rounds) - 1)} of {config['run']['rounds']} rounds"
    page = render_report(ReportData(config["run"]["name"], status, config, run_dir.info, rounds))
    write_file(run_dir.root / "report.html", page.encode("utf-8", "replace"))
    return run_dir.root / "report.html"


def _fork(config: RunConfig, name: str) -> RunConfig:
    """Copy the finished rounds of the config's run folder to a new run, which then takes the config as it is now."""
    source = RunDir(run_folder(config.run.dir, config.run.name))
    forked = RunConfig.model_validate({**config.to_dict(), "run": {**config.to_dict()["run"], "name": name}})
    target = RunDir(run_folder(forked.run.dir, forked.run.name))
    if source.saved_config() is None:
        raise RunFolderError(f"--fork {name}: {source.root} is not a run", "there is nothing to go on from",
                             "set run.name to the run that you want to fork")  # fmt: skip
    source.check_schema()
    if target.saved_config() is not None:
        return forked
    for finished in source.rounds():
        _copy_files(finished.root, target.round(finished.index).root)
    # Other prompts and scorers are what a fork is for; another base model would not fit the adapters.
    inputs = {"model_sha256": source.info["inputs"]["model_sha256"]}
    target.update_info(schema_version=SCHEMA_VERSION, inputs=inputs, forked_from=str(source.root), attempts=[])
    target.save_config(redact(forked.to_dict()))
    return forked


def _copy_files(source: Folder, target: Folder) -> None:
    """Copy all files of a folder; the round's own commit comes last, so that a copy cut short is no round."""
    for name in sorted(source.files(), key=lambda name: (name == "COMMIT.json", name)):
        (target / name).write_bytes((source / name).read_bytes())


def _inputs_read(inputs: Inputs) -> dict[str, Any]:
    """What a resumed run must read again."""
    return {
        "model_sha256": inputs.model_sha256,
        "train_prompts": _digest(identity.decode() for identity in inputs.train_ids_N),
        "holdout_prompts": _digest(prompt.id for prompt in inputs.holdout),
        "scorers": [source.version for source in inputs.scorer_sources],
        "responses": inputs.responses.version if inputs.responses is not None else None,
    }


def _digest(ids: Iterator[str]) -> str:
    import hashlib

    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def _reports(run_dir: RunDir) -> list[Any]:
    from rayalign.records import EvalReport

    return [EvalReport.from_dict(report) for r in run_dir.rounds() if (report := r.report()) and report["metrics"]]
