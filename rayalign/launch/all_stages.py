"""`rayalign all`: SFT ─► reward model ─► rounds ─► report, each stage skipped where it is done.

`stage:sft` and `stage:reward_model` in a later stage's config stand for the models that the earlier ones made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rayalign.config.run import RunConfig
from rayalign.config.stages import STAGE_PREFIX, AllConfig, StageConfig, StageKind
from rayalign.launch.session import run_folder
from rayalign.launch.stage import describe_result, run_stage
from rayalign.records import JsonObject
from rayalign.tracking.trackers import make_trackers

STAGES: tuple[StageKind, ...] = ("sft", "reward_model")


def stage_config(config: AllConfig, kind: StageKind) -> StageConfig | None:
    """The stage's own config, with its folder and the models before it filled in; None where it is left out."""
    section = getattr(config, kind)
    if section is None:
        return None
    data = section.to_dict()
    data["model"]["base"] = _resolve(config, data["model"]["base"])
    return StageConfig.model_validate({**data, "run": _place(config, kind)})


def rounds_config(config: AllConfig) -> RunConfig:
    """The rounds' config, with its folder and the models before it filled in."""
    data = config.rounds.to_dict()
    data["run"] |= _place(config, "rounds")
    data["model"]["base"] = _resolve(config, data["model"]["base"])
    for scoring in data["scoring"]:
        if isinstance(scoring.get("model"), str):
            scoring["model"] = _resolve(config, scoring["model"])
    return RunConfig.model_validate(data)


def run_all(config: AllConfig, config_dir: Path, say: Callable[[str], None]) -> Path | str:
    """Run what is left of all stages; returns the rounds' run folder."""
    from rayalign.launch import run as launch

    rounds, lines = rounds_config(config), []
    # Here already: what the rounds lack is to be known before the stages are trained.
    make_trackers(rounds.tracking, run_folder(rounds.run.dir, rounds.run.name))
    for kind in STAGES:
        stage = stage_config(config, kind)
        if stage is not None:
            lines.append(describe_result(kind, run_stage(kind, stage, config_dir)))
    folder = launch.run(rounds, config_dir=config_dir)
    say("\n".join(["", "all stages are done", *lines, f"rounds: report in {folder}/report.html"]))
    return folder


def _place(config: AllConfig, stage: str) -> JsonObject:
    root = run_folder(config.run.dir, config.run.name)
    return {"name": stage, "dir": str(root), "seed": config.run.seed}


def _resolve(config: AllConfig, model: str) -> str:
    if not model.startswith(STAGE_PREFIX):
        return model
    return str(run_folder(config.run.dir, config.run.name) / model.removeprefix(STAGE_PREFIX) / "model")
