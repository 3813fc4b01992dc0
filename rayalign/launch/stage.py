"""`rayalign sft` and `rayalign reward-model`: one training stage, from its config to its finished folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa

from rayalign.config.file import redact, with_defaults
from rayalign.config.guidance import stage_remarks
from rayalign.config.stages import StageConfig, StageKind
from rayalign.errors import ConfigError
from rayalign.launch.models import MADE, find_base
from rayalign.launch.session import local_logs, own_console, package_versions, run_folder
from rayalign.launch.stage_inputs import StageInputs, read_stage_inputs
from rayalign.learning.gguf import notices
from rayalign.records import JsonObject
from rayalign.stopping import call
from rayalign.store.files import write_file, write_json
from rayalign.store.model_checks import check_files, count_parameters
from rayalign.store.run_dir import RunDir
from rayalign.store.stage_dir import StageDir
from rayalign.store.tables import parquet_bytes
from rayalign.tracking.console import Console

TITLES: dict[StageKind, str] = {"sft": "SFT", "reward_model": "reward model"}


def stage_folder(config: StageConfig) -> Path:
    """Where the stage writes.

    Raises:
        ConfigError: on an object store.
    """
    folder = run_folder(config.run.dir, config.run.name)
    if not folder.is_local:
        raise ConfigError(
            f"run.dir: {config.run.dir} is an object store",
            "checkpoints are written to files",
            "set run.dir to a folder, one that all nodes mount where there are several",
        )
    return folder.local_path()


def run_stage(kind: StageKind, config: StageConfig, config_dir: Path = Path()) -> JsonObject:
    """Train a stage, go on with one that was stopped, or do nothing where it is done; returns its `stage.json`.

    Args:
        config_dir: where a relative `data.source` is looked up after the working directory.

    Raises:
        RunFolderError: the folder belongs to another config, or its data changed.
    """
    stage = StageDir(stage_folder(config))
    run_dir = RunDir(stage.root, forkable=False)
    saved = {"stage": kind, **redact(config.to_dict())}
    existed = run_dir.check(saved, stage_defaults)
    if config.model.base in MADE:
        call(lambda: find_base(config.model.base))
    with (
        run_dir.lock(),
        local_logs(run_dir.root / "logs") as logs,
        own_console(logs / "driver.log") as console,
    ):
        facts = stage.finished()
        if facts is not None:
            console.say(f"{TITLES[kind]}: done before -> {stage.root}")
        else:
            console.say(f"{'resuming ' if existed else ''}{TITLES[kind]} -> {stage.root}")
            facts = _train(kind, config, config_dir, stage, run_dir, saved, console, logs)
        console.say(describe_result(kind, facts))
    return facts


def stage_defaults(saved: JsonObject) -> JsonObject:
    settings = {key: value for key, value in saved.items() if key != "stage"}
    return {**saved, **with_defaults(settings, StageConfig)}


def describe_result(kind: StageKind, facts: JsonObject) -> str:
    """One line on a finished stage."""
    data, metrics = facts["data"], facts["metrics"]
    measured = [
        f"{name.replace('_', ' ')} {metrics[name]:.4g}"
        for name in ("loss", "token_accuracy", "accuracy")
        if metrics.get(name) is not None
    ]
    found = f"held out: {', '.join(measured)}" if measured else "not measured"
    return f"{TITLES[kind]}: {data['rows']} rows, {metrics['steps']} steps, {facts['seconds']:.0f} s; {found}"


def _train(
    kind: StageKind,
    config: StageConfig,
    config_dir: Path,
    stage: StageDir,
    run_dir: RunDir,
    saved: JsonObject,
    console: Console,
    logs: Path,
) -> JsonObject:
    started = time.monotonic()
    inputs = call(lambda: read_stage_inputs(kind, config, config_dir, stage, run_dir.date))
    for notice in notices(inputs.base, f"model.base {config.model.base}"):
        console.say(notice)
    # Only now: a stage whose inputs could not be read leaves no folder that a mended config would not fit.
    run_dir.open(saved, stage_defaults)
    run_dir.keep_inputs(inputs.digests())
    data = write_rows(config, stage, inputs, console, logs)
    from rayalign.actors.process import QUIET_ENV

    os.environ |= QUIET_ENV
    from rayalign.actors.cluster import check_nodes, connected
    from rayalign.actors.stage_trainer import StageTrainer

    with connected() as cluster:
        check_nodes(cluster, run_dir)
        with console.stage(kind, 0, data["steps"]) as progress:
            trainer = StageTrainer(kind, config, stage, inputs.base, cluster, logs)
            metrics = trainer.wait(progress.advance)
    return stage.finish(
        stage=kind,
        config=saved,
        data={**data, **inputs.digests()},
        metrics=metrics,
        seconds=time.monotonic() - started,
        packages=package_versions(),
    )


def write_rows(config: StageConfig, stage: StageDir, inputs: StageInputs, console: Console, logs: Path) -> JsonObject:
    """Write the rows for the workers; returns their counts."""
    for part, found in (("train", inputs.train), ("holdout", inputs.holdout)):
        schema = pa.schema([(name, pa.list_(pa.int32())) for name in found.rows[0]])
        write_file(stage.rows(part), parquet_bytes(found.rows, schema))
    write_json(logs / "skipped_rows.json", {"train": inputs.train.skipped, "holdout": inputs.holdout.skipped})
    return say_rows(config, inputs, console)


def say_rows(config: StageConfig, inputs: StageInputs, console: Console) -> JsonObject:
    """Say what a stage is trained on; returns the counts."""
    skipped = {name: found.skipped for name, found in (("train", inputs.train), ("holdout", inputs.holdout))}
    rows, training = len(inputs.train.rows), config.training
    console.say(f"{rows} rows to train on, {len(inputs.holdout.rows)} held out")
    if inputs.note:
        console.say(f"data.source: {inputs.note}")
    for name, reasons in skipped.items():
        for reason, names in reasons.items():
            console.say(f"{len(names)} {name} rows left out, {reason} (all in logs/skipped_rows.json)")
    trained = rows * training.epochs
    steps = -(-trained // training.batch)
    parameters = count_parameters(check_files(inputs.base, "model.base").values())
    for remark in stage_remarks(config, parameters, steps):
        console.say(remark)
    return {
        "rows": rows,
        "tokens": inputs.train.tokens,
        "held_out": len(inputs.holdout.rows),
        "skipped": {name: {r: len(names) for r, names in reasons.items()} for name, reasons in skipped.items()},
        "repeated": -trained % training.batch,
        "steps": steps,
    }
