"""A new run that goes on from another run's finished rounds (`--fork`)."""

from __future__ import annotations

from collections.abc import Iterable

from rayalign.config.file import redact, with_defaults
from rayalign.config.run import RunConfig
from rayalign.errors import RunFolderError
from rayalign.launch.session import run_folder
from rayalign.records import SCHEMA_VERSION, JsonObject
from rayalign.stopping import check
from rayalign.store.changes import AFTER_SAMPLES, differences
from rayalign.store.folder import Folder
from rayalign.store.round_dir import shard_name
from rayalign.store.run_dir import UNBEGUN, RunDir


def forked_config(config: RunConfig, name: str) -> RunConfig:
    """The config of a run that goes on from the finished rounds of the config's run folder.

    Raises:
        RunFolderError: that is no run, or the folder of that name holds something else.
    """
    source = RunDir(run_folder(config.run.dir, config.run.name))
    forked = RunConfig.model_validate({**config.to_dict(), "run": {**config.to_dict()["run"], "name": name}})
    target = RunDir(run_folder(forked.run.dir, forked.run.name))
    if source.saved_config() is None:
        raise RunFolderError(
            f"--fork {name}: {source.root} is not a run",
            "there is nothing to go on from",
            "set run.name to the run that you want to fork",
        )
    source.check_schema()
    if target.saved_config() is None:
        target.refuse_foreign({*UNBEGUN, "rounds"})
    return forked


def fork_run(config: RunConfig, name: str) -> RunConfig:
    """Copy the finished rounds of the config's run folder to a new run, which then takes the config as it is now.

    Errors are those of `forked_config`.
    """
    forked = forked_config(config, name)
    source, target = (RunDir(run_folder(one.run.dir, one.run.name)) for one in (config, forked))
    if target.saved_config() is not None:
        return forked
    for finished in source.rounds():
        # The round's own commit comes last, so that a copy cut short is no round.
        files = sorted(finished.root.files(), key=lambda name: (name == "COMMIT.json", name))
        _copy_files(finished.root, target.round(finished.index).root, files)
    # Other prompts and scorers are what a fork is for; another base model would not fit the adapters.
    inputs = {"model_sha256": source.info["inputs"]["model_sha256"]}
    facts = {"schema_version": SCHEMA_VERSION, "date": str(source.date), "attempts": []}
    target.update_info(**facts, inputs=inputs, forked_from=str(source.root))
    target.save_config(redact(forked.to_dict()))
    return forked


def keep_samples(config: RunConfig, run_dir: RunDir, inputs: JsonObject) -> int:
    """Copy to a fork that has not begun what its source's unfinished round holds and this config does not change.

    Args:
        inputs: checksums of what the fork reads.

    Returns:
        Shards of samples and scores that were kept.
    """
    facts = run_dir.info
    source = RunDir(facts.get("forked_from", run_dir.root))
    saved, index = source.saved_config(), len(run_dir.rounds())
    round_dir, target = source.round(index), run_dir.round(index)
    if source.root == run_dir.root or saved is None or facts["attempts"] or target.commits():
        return 0
    changed = differences(with_defaults(saved), redact(config.to_dict()))
    if source.info.get("inputs") != inputs or not all(key.startswith(AFTER_SAMPLES) for key in changed):
        return 0
    if any(key.startswith(("evaluation.gate", "guards")) for key in changed):
        return 0  # the round may now start from another adapter than the one that sampled
    kept = round_dir.shards("train")
    for name in ["prompts", *(shard_name("train", shard) for shard in kept)]:
        if (commit := round_dir.committed(name)) is not None:
            _copy_files(round_dir.root, target.root, commit["files"])
            target.commit(name, **commit)
    return len(kept)


def _copy_files(source: Folder, target: Folder, names: Iterable[str]) -> None:
    for name in names:
        check()
        (target / name).write_bytes((source / name).read_bytes())
