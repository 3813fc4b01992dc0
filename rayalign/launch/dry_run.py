"""`--dry-run`: all that a run looks at before it starts anything, and what it would do; nothing is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rayalign.config.file import redact, resolved_yaml, with_defaults
from rayalign.config.run import RunConfig
from rayalign.config.stages import STAGE_PREFIX, AllConfig, StageConfig, StageKind
from rayalign.launch.all_stages import STAGES, rounds_config, stage_config
from rayalign.launch.fork import forked_config
from rayalign.launch.inputs import Inputs, prompt_rows
from rayalign.launch.models import make_demo_models
from rayalign.launch.run import inputs_read, read_and_try
from rayalign.launch.session import own_console, run_folder
from rayalign.launch.settled import settle
from rayalign.launch.stage import describe_result, say_rows, stage_defaults, stage_folder
from rayalign.launch.stage_inputs import read_stage_inputs
from rayalign.scoring.service_scorers import calls_a_service
from rayalign.stopping import call
from rayalign.store.run_dir import RunDir
from rayalign.store.stage_dir import StageDir
from rayalign.tracking.console import Console
from rayalign.tracking.trackers import make_trackers

Say = Callable[[str], None]


def dry_run(config: RunConfig, config_dir: Path, say: Say, fork: str | None = None) -> None:
    """Show the config, read and check all inputs as the run would; then say what it would start where, and do.

    Services are not called. The project's own models are made where they are not in the cache.

    Args:
        config_dir: where relative paths are looked up after the working directory.
        fork: as of `run`; nothing is copied.

    Raises:
        RayalignError: the one that would end the run before its actors start.
    """
    config, chosen = settle(config, RunDir(run_folder(config.run.dir, config.run.name)).saved_config())
    whose = config if fork is None else forked_config(config, fork)
    run_dir = RunDir(run_folder(whose.run.dir, whose.run.name))
    # Of a fork that is not there yet only rounds may have been copied, which `forked_config` knows.
    begun = fork is None or run_dir.saved_config() is not None
    existed = begun and run_dir.check(redact(whose.to_dict()), with_defaults)
    make_trackers(whose.tracking, run_dir.root)
    say(resolved_yaml(whose))
    for line in chosen:
        say(line)
    _rounds(whose, run_dir, config_dir, say, existed=existed)


def dry_stage(kind: StageKind, config: StageConfig, config_dir: Path, say: Say) -> None:
    """Show a stage's config, and read and check its inputs. Arguments and errors as of `dry_run`."""
    folder = stage_folder(config)
    existed = RunDir(folder, forkable=False).check({"stage": kind, **redact(config.to_dict())}, stage_defaults)
    say(resolved_yaml(config))
    _stage(kind, config, config_dir, say, existed=existed)


def dry_all(config: AllConfig, config_dir: Path, say: Say) -> None:
    """Show the config of all stages, and check each as far as the models that it needs are made. As `dry_run`."""
    rounds = rounds_config(config)
    run_dir = RunDir(run_folder(rounds.run.dir, rounds.run.name))
    rounds, chosen = settle(rounds, run_dir.saved_config())
    existed = run_dir.check(redact(rounds.to_dict()), with_defaults)
    make_trackers(rounds.tracking, run_dir.root)
    for line in (resolved_yaml(config), *chosen):
        say(line)
    made: set[str] = set()
    for kind in STAGES:
        if (stage := stage_config(config, kind)) is not None:
            there = RunDir(folder := stage_folder(stage), forkable=False)
            begun = there.check({"stage": kind, **redact(stage.to_dict())}, stage_defaults)
            if StageDir(folder).finished() is None:
                made.add(f"{STAGE_PREFIX}{kind}")
            if getattr(config, kind).model.base in made:
                say(f"{kind}: its base is made by an earlier stage, and is looked at then")
            else:
                _stage(kind, stage, config_dir, say, existed=begun)
    used = {config.rounds.model.base, *(str(getattr(one, "model", None)) for one in config.rounds.scoring)}
    if waits := sorted(used & made):
        prompt_rows(rounds.prompts, config_dir, targets=rounds.reads_targets)
        say(f"rounds: {', '.join(waits)} is made by an earlier stage; what needs it is looked at then")
    else:
        _rounds(rounds, run_dir, config_dir, say, existed=existed)


def _rounds(config: RunConfig, run_dir: RunDir, config_dir: Path, say: Say, *, existed: bool) -> None:
    call(lambda: make_demo_models(config))
    with _scratch() as (folder, console):
        inputs = call(lambda: read_and_try(config, run_dir, config_dir, console, folder, dry=True))
        if existed:
            run_dir.check_inputs(inputs_read(inputs))
    for line in _plan(config, inputs, run_dir):
        say(line)


def _stage(kind: StageKind, config: StageConfig, config_dir: Path, say: Say, *, existed: bool) -> None:
    stage = StageDir(stage_folder(config))
    run_dir = RunDir(stage.root, forkable=False)
    if (facts := stage.finished()) is not None:
        say(f"{describe_result(kind, facts)}; done before")
        return
    with _scratch() as (folder, console):
        inputs = call(lambda: read_stage_inputs(kind, config, config_dir, StageDir(folder), run_dir.date))
        if existed:
            run_dir.check_inputs(inputs.digests())
        data = say_rows(config, inputs, console)
    from rayalign.actors.devices import Wish, describe_devices

    training = config.training
    for line in describe_devices([Wish(f"{kind}-{i}", training.gpus) for i in range(training.workers)]):
        say(line)
    say(f"{kind}: {data['steps']} optimizer steps; folder: {stage.root}, {'resumed' if existed else 'new'}")


@contextmanager
def _scratch() -> Iterator[tuple[Path, Console]]:
    """A folder that does not stay, and a console whose log is in it."""
    with tempfile.TemporaryDirectory(prefix="rayalign-") as name, own_console(Path(name) / "driver.log") as console:
        yield Path(name), console


def _plan(config: RunConfig, inputs: Inputs, run_dir: RunDir) -> Iterator[str]:
    """What a run would start, and what it would do, in lines."""
    # Here and not before: whoever wrote something wrong does not wait for Ray's import.
    from rayalign.actors.devices import describe_devices, wishes
    from rayalign.actors.placement import describe_placement, settled_here
    from rayalign.launch.shares import describe_shares

    config = settled_here(config)
    yield describe_placement(config)
    yield from describe_devices(wishes(config))
    yield from describe_shares(config, inputs.model)

    training, rounds = config.training, config.run.rounds
    prompts = min(config.prompts.per_round, len(inputs.train_ids_N))
    steps = training.most_steps(prompts)
    answers = "given" if config.samples is not None else f"{config.sampling.responses} answers each"
    held_out = f"{len(inputs.holdout)} held-out prompts x {config.evaluation.responses} answers"
    yield (
        f"a round: {prompts} prompts ({answers}), evaluated on {held_out}; at most {steps} optimizer steps: {prompts} "
        f"groups if none is dropped, training.group_batch {training.group_batch}, training.epochs {training.epochs}"
    )
    yield f"all {rounds} rounds: at most {rounds * steps} optimizer steps"
    if services := [section.name for section in config.scoring if calls_a_service(section)]:
        yield f"services were not called: {', '.join(services)}"
    done = max((one.index for one in run_dir.rounds()), default=None)
    state = "new" if run_dir.saved_config() is None else "begun" if done is None else f"finished up to round {done}"
    yield f"run folder: {run_dir.root} ({state}); nothing was written there, logs/ neither"
