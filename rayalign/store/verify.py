"""What is wrong with a run folder, what becomes of it, and the repair: damaged parts are set aside, never deleted.

    a commit's file, of a finished round  ─► written again from `COMMIT.json`, and that one from them
    what the round still needs            ─► set aside with all that hangs on it; a resume makes it again
    what is used up (trained on)          ─► stays as it is: made again it would be another run's

A finished round whose answers to held-out prompts, scores of these or report are damaged is evaluated again by its own
adapter; the last round is trained again where its adapter is damaged, an earlier one is lost for good.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rayalign.store.contents import contents_of
from rayalign.store.damage import Problem, damaged_log, lost_rounds, problems_of
from rayalign.store.files import leaves, write_json
from rayalign.store.folder import Folder
from rayalign.store.round_dir import RoundDir, is_whole, read_commit
from rayalign.store.run_dir import RunDir

Fate = Literal["restore", "redo", "lost"]
SET_ASIDE = "set_aside"
"""The folder of the run under which damaged files are kept."""
TRAINED_ON = ("prompts", "train", "sampling", "revision", "groups")
"""Kinds of commits that a round's update is made of."""
EVALUATION = ("evaluation", "greedy", "target")
AGAIN = {
    "prompts": "draw its prompts again",
    "train": "sample the shard again",
    "sampling": "count its answers again",
    "revision": "sample the revisions again",
    "groups": "build its groups again",
    "adapter": "train it again",
    "refused": "train it again",
}
"""What a resume does where a kind of commit is not there."""
EVALUATED = "evaluate it again"
BUILT_UPON = "later rounds were built upon it; a --fork from before it makes another"


@dataclass(frozen=True, slots=True)
class Finding:
    """A thing that is wrong, and what becomes of it."""

    round: int | None
    """Null where it is the run's."""
    commit: str | None
    """Of the round; null where the round itself is not whole."""
    what: str
    fate: Fate
    then: str
    """What the repair or a resume does, in words."""

    def __str__(self) -> str:
        where = "" if self.round is None else f"round {self.round}: "
        return f"{where}{self.what}; {self.then}"


def findings(run_dir: RunDir, *, whole: bool = True) -> list[Finding]:
    """What is wrong with a run's folder, in order; nothing where all is well.

    Args:
        whole: compare all hashes and contents; else only those of rounds that are not finished and of the last
            adapter, which is what a resume reads, and sizes.
    """
    finished = {one.index for one in run_dir.rounds()}
    last = max(finished, default=-1)
    found = [_of_lost(run_dir, index, what, last) for index, what in lost_rounds(run_dir).items()]
    for one in run_dir.begun_rounds():
        done = one.index in finished
        problems = list(problems_of(one, hashes=whole or not done))
        if done and not whole and one.index == last:
            problems += [new for new in problems_of(one, hashes=True, only="adapter") if new not in problems]
        if whole:
            problems += contents_of(run_dir, one, {problem.commit for problem in problems})
        found += [_finding(run_dir, one, problem, done) for problem in problems]
    logs = damaged_log(run_dir) if whole else []
    return found + [Finding(None, None, what, "lost", "the rounds are whole without it") for what in logs]


def _of_lost(run_dir: RunDir, index: int, what: str, last: int) -> Finding:
    round_dir = run_dir.round(index)
    if "report" in round_dir.commits() and not list(problems_of(round_dir, hashes=False)):
        return Finding(index, None, what, "restore", "it is written again from commits/")
    if index > last:
        return Finding(index, None, what, "redo", "a resume goes on with it")
    if index == 0 or "adapter" in round_dir.commits():
        return Finding(index, None, what, "redo", f"a resume will {EVALUATED}")
    return Finding(index, None, what, "lost", BUILT_UPON)


def _finding(run_dir: RunDir, round_dir: RoundDir, problem: Problem, finished: bool) -> Finding:
    name, index = problem.commit, round_dir.index
    if name is None:
        return Finding(index, name, problem.what, "restore", "it is written again from commits/")
    if problem.what.startswith(f"the commit {name} ") and is_whole(round_dir.known_commits().get(name)):
        return Finding(index, name, problem.what, "restore", "it is written again from COMMIT.json")
    kind = _kind(name)
    if finished and kind in TRAINED_ON:
        return Finding(index, name, problem.what, "lost", "it was trained on already, and is not made again")
    if kind == "adapter" and any("adapter" in one.commits() for one in _after(run_dir, round_dir)):
        return Finding(index, name, problem.what, "lost", BUILT_UPON)
    return Finding(index, name, problem.what, "redo", f"a resume will {AGAIN.get(kind, EVALUATED)}")


def _after(run_dir: RunDir, round_dir: RoundDir) -> list[RoundDir]:
    return [one for one in run_dir.begun_rounds() if one.index > round_dir.index]


def _kind(name: str) -> str:
    return name.partition("-")[0]


def repair(run_dir: RunDir, found: Sequence[Finding]) -> None:
    """Write again what can be, and set aside what a resume has to make again; the caller holds the run's lock."""
    stamp = _stamp()
    for one in found:
        if one.round is None or one.fate == "lost":
            continue
        round_dir = run_dir.round(one.round)
        if one.fate == "restore":
            _restore(run_dir, round_dir, one.commit, stamp)
        elif one.commit is not None:
            _set_aside(run_dir, round_dir, one.commit, stamp)


def mend(run_dir: RunDir, say: Callable[[str], None]) -> None:
    """Repair what a resume would stumble over, and say so; the caller holds the run's lock."""
    found = findings(run_dir, whole=False)
    for one in found:
        say(f"damaged: {one}")
    repair(run_dir, found)


def set_round_aside(run_dir: RunDir, round_dir: RoundDir) -> None:
    """Have a round begin anew; what there is of it is kept."""
    _move(run_dir, round_dir, round_dir.commits(), _stamp())


def _stamp() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}"


def _restore(run_dir: RunDir, round_dir: RoundDir, name: str | None, stamp: str) -> None:
    damaged = "COMMIT.json" if name is None else f"commits/{name}.json"
    content = round_dir.known_commits().get(name) if name is not None else None
    (round_dir.root / damaged).move(_kept(run_dir, round_dir, stamp) / damaged)
    if name is not None:
        write_json(round_dir.root / damaged, content)
    else:
        adapter = (read_commit(round_dir.commit_bytes("adapter") or b"") or {}).get("adapter", {})
        round_dir.finish(adapter_sha256=adapter.get("sha256"))


def _kept(run_dir: RunDir, round_dir: RoundDir, stamp: str) -> Folder:
    return run_dir.root / SET_ASIDE / stamp / round_dir.relative


def _set_aside(run_dir: RunDir, round_dir: RoundDir, name: str, stamp: str) -> None:
    """A commit and what hangs on it; first of all `COMMIT.json`, so that a kill leaves a round that is not finished."""
    hang_on = _that_hang_on(round_dir, name)
    if "adapter" in (name, *hang_on):
        for other in _after(run_dir, round_dir):
            if (other.sampler() or 0) >= round_dir.index:
                _move(run_dir, other, other.commits(), stamp)
    _move(run_dir, round_dir, [*hang_on, name], stamp)


def _move(run_dir: RunDir, round_dir: RoundDir, names: Sequence[str], stamp: str) -> None:
    run_dir.forget_finished()
    moved = ["COMMIT.json"]
    for one in names:
        moved += [f"commits/{one}.json", *_files_of(round_dir, one)]
    for relative in moved:
        (round_dir.root / relative).move(_kept(run_dir, round_dir, stamp) / relative)


def _that_hang_on(round_dir: RoundDir, name: str) -> list[str]:
    """Commits that are of no use, or not of the same answers, without another one."""
    kind, shard = _kind(name), name.rpartition("-")[2]
    names = [one for one in round_dir.commits() if one != name]
    if kind in ("train", "revision"):
        kept = {"prompts", "train", "sampling"}
        return [one for one in names if _kind(one) not in kept and (_kind(one) != "revision" or shard in one)]
    if kind in TRAINED_ON:
        return []
    if kind in ("adapter", "refused"):
        return [one for one in names if _kind(one) not in (*TRAINED_ON, "adapter", "refused")]
    if kind == "benchmark":
        # Names of benchmarks may have dashes: what is not an answer is made of the answers.
        return [one for one in names if one == "report" or (_kind(one) == "benchmark" and "-answers-" not in one)]
    repeats = re.compile(rf"repeat[0-9]+-{shard}")
    return [one for one in names if one == "report" or (kind in EVALUATION and repeats.fullmatch(one))]


def _files_of(round_dir: RoundDir, name: str) -> list[str]:
    commit = read_commit(round_dir.commit_bytes(name) or b"")
    return [relative for relative in (commit or {}).get("files", {}) if not leaves(relative)]
