"""Held-out prompts of a run: in its folder, or of a run of an older version in its `prompts.source`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from rayalign.config.run import RunConfig
from rayalign.errors import DataError, RayalignError, RunFolderError
from rayalign.launch.inputs import prompt_rows
from rayalign.records import Prompt, ScoredPurpose
from rayalign.store.held_out import read_held_out
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir
from rayalign.store.saved_run import SavedRun


def config_of(saved: SavedRun) -> RunConfig:
    """The run's own config.

    Raises:
        RunFolderError: this version cannot read it.
    """
    try:
        return RunConfig.model_validate(saved.config, strict=True)
    except ValidationError as error:
        found = f"{saved.run_dir.root}/config.yaml: {error.errors()[0]['msg']}"
        remedy = "use the rayalign version that made it"
        raise RunFolderError(found, "this version cannot read it", remedy) from None


def held_out(config: RunConfig, folder: Path, *, targets: bool) -> Iterator[Prompt]:
    """The prompts of the run's source, without tokens; the held-out ones are among them.

    Args:
        folder: where a relative source is looked up after the working directory.
        targets: whether the demo world's get their reference answers.

    Raises:
        DataError: the source cannot be read.
    """
    try:
        for row in prompt_rows(config.prompts, folder, targets=targets).rows:
            yield Prompt(row.id, row.messages, [], row.target, row.metadata)
    except DataError as error:
        why = f"held-out prompts are read from the run's prompts.source, which cannot be used: {error.why}"
        raise DataError(error.found, why, "run this where the run was started, or put the file back") from None


def known(saved: SavedRun, wanted: Collection[str]) -> dict[str, Prompt]:
    """Those of the wanted held-out prompts that the run's folder holds, or of an older run its source, by id.

    A source that cannot be read here has none.
    """
    try:
        kept = read_held_out(saved.run_dir.root)
    except RunFolderError:
        kept = []
    found = {prompt.id: prompt for prompt in kept if prompt.id in wanted}
    if len(found) == len(wanted):
        return found
    try:
        config = config_of(saved)
        for prompt in held_out(config, Path(), targets=config.reads_targets):
            if prompt.id in wanted:
                found.setdefault(prompt.id, prompt)
                if len(found) == len(wanted):
                    break
    except RayalignError:
        pass
    return found


def nothing_there(run_dir: RunDir, round_dir: RoundDir, purpose: ScoredPurpose) -> RunFolderError:
    """Why a round has no answers of this purpose."""
    rounds = run_dir.root / "rounds"
    if (number := round_dir.root.name) not in rounds.names():
        there = ", ".join(str(int(name)) for name in rounds.names() if name.isdecimal()) or "none"
        return RunFolderError(
            f"{run_dir.root} has no round {int(number)}", f"its rounds: {there}", "set --round to one"
        )
    others = [other for other in get_args(ScoredPurpose) if round_dir.shards(other)]
    remedy = f"add --samples {others[0]}" if others else "let the run go on until a shard is committed"
    return RunFolderError(
        f"round {int(number)} of {run_dir.root} has no {purpose} samples",
        f"it has {' and '.join(others) or 'no samples at all'}",
        remedy,
    )
