"""The composition root: from a config to real parts, wired and run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from rayalign.config.file import redact, with_defaults
from rayalign.config.run import RunConfig
from rayalign.dashboard.page import write_report
from rayalign.data.prompt_store import PromptStore
from rayalign.errors import EXIT_BAD_INPUT, RayalignError
from rayalign.launch.fork import fork_run, keep_samples
from rayalign.launch.inputs import Inputs, read_inputs
from rayalign.launch.models import make_demo_models
from rayalign.launch.session import local_logs, own_console, run_folder, tries_scorers
from rayalign.launch.settled import settle
from rayalign.records import EvalReport, JsonObject
from rayalign.scoring.trial import some_prompts, try_rules
from rayalign.stopping import call
from rayalign.store.event_log import open_log
from rayalign.store.held_out import write_held_out
from rayalign.store.run_dir import RunDir
from rayalign.store.verify import mend
from rayalign.tracking.console import Console
from rayalign.tracking.reporter import RunReporter
from rayalign.tracking.tracker import Tracker
from rayalign.tracking.trackers import Couriers, make_trackers

UNCONDITIONAL = (
    "the run folder's store is not asked to refuse a second writer (on S3: pip install rayalign[s3]): only the lease "
    "keeps one away, so see that no two machines run this command"
)


def run(config: RunConfig, *, fork: str | None = None, config_dir: Path = Path()) -> Path | str:
    """Run or resume all rounds of a config; returns the run folder, a URI where it is on an object store.

    Args:
        fork: go on from the finished rounds of this config's run folder, under this new name.
        config_dir: where relative scorer paths are looked up after the working directory.
    """
    config, chosen = settle(config, RunDir(run_folder(config.run.dir, config.run.name)).saved_config())
    if fork is not None:
        config = fork_run(config, fork)
    run_dir = RunDir(run_folder(config.run.dir, config.run.name))
    existed = run_dir.check(redact(config.to_dict()), with_defaults)
    from rayalign.actors.process import QUIET_ENV

    os.environ |= QUIET_ENV
    trackers = make_trackers(config.tracking, run_dir.root)
    call(lambda: make_demo_models(config))
    with (
        run_dir.lock(),
        local_logs(run_dir.root / "logs") as logs,
        own_console(logs / "driver.log") as console,
    ):
        console.say(f"{'resuming' if existed else 'run'} {config.run.name} -> {run_dir.root}")
        if run_dir.may_be_shared:
            console.say(UNCONDITIONAL)
        for line in chosen:
            console.say(line)
        _run(config, run_dir, config_dir, console, logs, trackers)
    return run_dir.root.local_path() if run_dir.root.is_local else str(run_dir.root)


def _run(
    config: RunConfig,
    run_dir: RunDir,
    config_dir: Path,
    console: Console,
    logs: Path,
    trackers: Mapping[str, Tracker],
) -> None:
    inputs = call(lambda: read_and_try(config, run_dir, config_dir, console, logs))
    # Only now: a run whose inputs could not be read leaves no folder that a mended config would not fit.
    run_dir.open(redact(config.to_dict()), with_defaults)
    mend(run_dir, console.say)
    checksums = inputs_read(inputs)
    run_dir.keep_inputs(checksums)
    write_held_out(run_dir.root, inputs.holdout)
    if kept := keep_samples(config, run_dir, checksums):
        console.say(f"of the unfinished round {kept} shards of samples were kept")
    with open_log(run_dir.root / "metrics.jsonl") if config.tracking.jsonl else contextlib.nullcontext() as log:
        reporter = RunReporter(console, log, lambda: write_report(run_dir.root))
        reporter.event("start", attempt=len(run_dir.info.get("attempts", [])))
        with reporter.told(Couriers(trackers, run_dir, redact(config.to_dict()), console.say)):
            _rounds(config, run_dir, inputs, reporter, logs)
    write_report(run_dir.root)
    console.table(_reports(run_dir))
    console.say(f"report: {run_dir.root / 'report.html'}")


def _rounds(config: RunConfig, run_dir: RunDir, inputs: Inputs, reporter: RunReporter, logs: Path) -> None:
    if run_dir.round(config.run.rounds).finished:
        reporter.say("all rounds are done")
        return
    from rayalign.launch.wiring import run_on_ray

    try:
        run_on_ray(config, run_dir, inputs, reporter, logs)
    except RayalignError as error:
        # As above: what a first start refuses can be mended under the same name.
        if error.exit_code == EXIT_BAD_INPUT and not run_dir.begun:
            run_dir.forget()
        run_dir.explain(error)
        raise


def read_and_try(
    config: RunConfig, run_dir: RunDir, config_dir: Path, console: Console, logs: Path, *, dry: bool = False
) -> Inputs:
    """All inputs, and the rules among them tried.

    Args:
        dry: call no service, and write nothing to the run folder.
    """
    cache = None if dry else run_dir.cache
    inputs = read_inputs(config, config_dir, console, logs, run_dir.date, cache, ask_services=not dry)
    if tries_scorers(config, run_dir):
        try_rules(
            config.scorer_settings, inputs.scorer_sources, some_prompts(inputs.holdout), config.limits.score_timeout_s
        )
    return inputs


def inputs_read(inputs: Inputs) -> JsonObject:
    """What a resumed run must read again. A change of the chat template shows in the tokens."""
    held_out = PromptStore()
    held_out.add(inputs.holdout)
    contents = {"prompt": inputs.prompts.digests(inputs.train_ids_N), "holdout": held_out.digests(held_out.ids()[0])}
    return {
        "model_sha256": inputs.model_sha256,
        "train_prompts": _digest(identity.decode() for identity in inputs.train_ids_N),
        "holdout_prompts": _digest(prompt.id for prompt in inputs.holdout),
        "scorers": [source.version for source in inputs.scorer_sources],
        "responses": inputs.responses.version if inputs.responses is not None else None,
        **{f"{part}_{what}": digest for part, found in contents.items() for what, digest in found.items()},
    }


def _digest(ids: Iterator[str]) -> str:
    import hashlib

    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def _reports(run_dir: RunDir) -> list[EvalReport]:
    return [EvalReport.from_dict(report) for r in run_dir.rounds() if (report := r.report()) and report["metrics"]]
