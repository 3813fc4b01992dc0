"""Which committed files of a run are missing or are not what their commits say."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from rayalign.records import JsonObject
from rayalign.store.files import FileFacts
from rayalign.store.folder import Folder
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir
from rayalign.store.run_state import last_events


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one commit of a round."""

    commit: str
    what: str
    """In words; a file's path counts from the round's folder."""


def damaged(run_dir: RunDir, *, hashes: bool = False) -> list[str]:
    """What is wrong with a run's rounds, in words, in order; nothing where all is whole.

    Args:
        hashes: read every committed file whole and compare its hash; else only sizes are compared.
    """
    found = [f"round {index} {lost}" for index, lost in lost_rounds(run_dir).items()]
    for one in run_dir.begun_rounds():
        found += [f"round {one.index}: {problem.what}" for problem in problems_of(one, hashes=hashes)]
    return found + damaged_log(run_dir)


def damaged_log(run_dir: RunDir) -> list[str]:
    """What is wrong with the event log of a run that has finished rounds, in words; no commit names it."""
    log = run_dir.root / "metrics.jsonl"
    if not run_dir.rounds() or not log.exists() or last_events(log):
        return []
    return ["metrics.jsonl has no event that can be read"]


def lost_rounds(run_dir: RunDir) -> dict[int, str]:
    """The rounds that a run had finished, by its log or by a later round, and that are not whole any more: why not."""
    begun = {one.index for one in run_dir.begun_rounds()}
    finished = {one.index for one in run_dir.rounds()}
    told = (one.get("round") for one in last_events(run_dir.root / "metrics.jsonl") if one.get("event") == "round")
    before = _before(run_dir, max(begun, default=0), finished)
    last = max([before, *finished, *(one for one in told if isinstance(one, int))])
    return {
        index: "has no COMMIT.json that can be read" if index in begun else "is missing: its folder is not there"
        for index in range(last + 1)
        if index not in finished
    }


def _before(run_dir: RunDir, begun: int, finished: Collection[int]) -> int:
    """The last round that was finished before this one began: not the one just before it, while that one trained or
    was evaluated."""
    if begun - 1 in finished:
        return begun - 1
    try:
        ahead = run_dir.round(begun).began_beside() or run_dir.round(begun).sampler() == begun - 2
    except (ValueError, AttributeError, OSError):
        ahead = False
    return begun - 1 - ahead


def problems_of(round_dir: RoundDir, *, hashes: bool, only: str | None = None) -> Iterator[Problem]:
    """What is wrong with a round's commits.

    Args:
        hashes: as of `damaged`.
        only: the one commit that is looked at; null for all.
    """
    names = round_dir.commits()
    for name in sorted({*names, *round_dir.known_commits()}):
        if only not in (None, name):
            continue
        if name not in names:
            yield Problem(name, f"the commit {name} is missing")
            continue
        try:
            text = (round_dir.root / "commits" / f"{name}.json").find_bytes()
            files = files_of(json.loads(text or b"null"))
        except (ValueError, TypeError, KeyError, AttributeError, OSError):
            yield Problem(name, f"the commit {name} cannot be read")
            continue
        for relative, facts in files.items():
            if (problem := _problem(round_dir.root, relative, facts, hashes)) is not None:
                yield Problem(name, f"{relative} {problem}")


def files_of(commit: JsonObject) -> dict[str, FileFacts]:
    """The files that a commit names, as seen from its round's folder.

    Raises:
        TypeError, KeyError, AttributeError: it is none.
    """
    files = commit["files"].items()
    return {relative: {"bytes": facts["bytes"], "sha256": facts["sha256"]} for relative, facts in files}


def leaves(relative: str) -> bool:
    """Whether a path leads out of the folder that it counts from."""
    return posixpath.isabs(relative) or ".." in posixpath.normpath(relative).split("/")


def _problem(root: Folder, relative: str, facts: FileFacts, hashes: bool) -> str | None:
    if leaves(relative):
        return "is outside of its round's folder"
    place = root / relative
    size = _size(place)
    if size is None:
        return "is missing"
    if size != facts["bytes"]:
        return f"has {size} bytes, its commit says {facts['bytes']}"
    try:
        return "has other content than its commit says" if hashes and place.sha256() != facts["sha256"] else None
    except OSError as error:
        return f"cannot be read ({error.strerror or type(error).__name__})"


def _size(place: Folder) -> int | None:
    filesystem, path = place.filesystem_and_path()
    with place.explained():
        return filesystem.get_file_info(path).size
