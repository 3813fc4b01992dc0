"""Which committed files of a run are missing or are not what their commits say."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from rayalign.records import JsonObject
from rayalign.store.files import FileFacts, leaves
from rayalign.store.folder import Folder
from rayalign.store.round_dir import SEAL, RoundDir, is_whole, read_commit
from rayalign.store.run_dir import RunDir
from rayalign.store.run_state import last_events


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a round."""

    commit: str | None
    """Null for `COMMIT.json`, which holds all of them."""
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
    unreadable = {one.index for one in run_dir.begun_rounds() if one.index not in finished and one.ended}
    told = (one.get("round") for one in last_events(run_dir.root / "metrics.jsonl") if one.get("event") == "round")
    before = _before(run_dir, max(begun, default=0), finished)
    last = max([before, *finished, *(one for one in told if isinstance(one, int))])
    return {
        index: "has no COMMIT.json that can be read" if index in begun else "is missing: its folder is not there"
        for index in sorted({*range(last + 1), *unreadable})
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
    names, head = round_dir.commits(), round_dir.commit_facts()
    inside, differs = (head or {}).get("commits", {}), False
    for name in sorted({*names, *inside} if only is None else {only} & {*names, *inside}):
        if (content := round_dir.commit_bytes(name)) is None:
            # One that is under another name in both is that of the damaged one.
            if not set(names) - set(inside):
                yield Problem(name, f"the commit {name} is missing")
        elif (commit := read_commit(content)) is None or _lacks_its_seal(commit, inside.get(name)):
            yield Problem(name, f"the commit {name} cannot be read")
        else:
            differs = differs or commit != inside.get(name, commit)
            for relative, facts in commit["files"].items():
                if (problem := _problem(round_dir.root, relative, facts, hashes)) is not None:
                    yield Problem(name, f"{relative} {problem}")
    if head is not None and only is None and (differs or not _fits(head, names)):
        yield Problem(None, "COMMIT.json is damaged")


def _lacks_its_seal(commit: JsonObject, told: JsonObject | None) -> bool:
    """Whether a commit has lost its own hash, which `COMMIT.json` still has."""
    return SEAL not in commit and SEAL in (told or {})


def _fits(head: JsonObject, names: Collection[str]) -> bool:
    """Whether `COMMIT.json` is what the commits say, as far as these are whole."""
    inside = head["commits"]
    if set(names) - set(inside) or not all(map(is_whole, inside.values())):
        return False
    adapter = inside.get("adapter", {}).get("adapter", {}).get("sha256")
    return head.get("adapter_sha256") == adapter and isinstance(head.get("schema_version"), int)


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
