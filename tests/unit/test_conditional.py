"""Two writers on a run folder on S3: the store refuses the second one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rayalign.errors import RayalignError, RunFolderError, StoreError
from rayalign.store import lease
from rayalign.store.conditional import Conditional, conditional
from rayalign.store.folder import Folder
from rayalign.store.lease import Lease
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir
from tests.object_store import ObjectStore

SECONDS = 0.5
RACES = 200


@pytest.fixture
def root(object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(lease, "LEASE_S", SECONDS)
    return Folder(object_store.uri(tmp_path.name))


def at(folder: Folder) -> Conditional:
    there = conditional(folder)
    assert there is not None
    return there


def race(*actions: Callable[[], object]) -> list[object]:
    """What the actions give or raise, all begun at once."""
    start, results = threading.Barrier(len(actions)), [None] * len(actions)

    def act(place: int, action: Callable[[], Any]) -> None:
        start.wait()
        try:
            results[place] = action()
        except RayalignError as error:
            results[place] = error

    threads = [threading.Thread(target=act, args=numbered) for numbered in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(results)


def test_a_put_is_made_once_and_over_what_was_read(root: Folder) -> None:
    file = at(root / "x.json")
    assert file.read() is None
    first = file.put(b"1", over=None)
    assert first is not None
    assert file.put(b"2", over=None) is None
    second = file.put(b"2", over=first)
    assert file.put(b"3", over=first) is None
    assert file.read() == (b"2", second)
    file.delete(first)
    assert file.read() == (b"2", second)
    assert second is not None
    file.delete(second)
    assert file.read() is None
    assert file.put(b"4", over=second) is None


def test_a_put_whose_answer_was_lost_counts_as_made(root: Folder) -> None:
    """The client tries again, and the store refuses what is there already."""
    file = at(root / "x.json")
    tag = file.put(b"1", over=None)
    assert file.put(b"1", over=None) == tag


def test_other_places_have_no_conditions(tmp_path: Path) -> None:
    for place in (str(tmp_path / "x"), "gs://bucket/x", "memory://bucket/x"):
        assert conditional(Folder(place)) is None


def test_without_boto3_the_lease_is_read_back(root: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayalign.store.conditional.find_spec", lambda _: None)
    run_dir = RunDir(root)
    with run_dir.lock():
        assert run_dir.may_be_shared
        run_dir.update_info(x=1)


@pytest.mark.parametrize("answer", ["heedless", "not implemented"])
def test_a_store_without_conditions_is_found_out(root: Folder, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    whole = Conditional._ask

    def ask(self: Conditional, what: str, expected: set[str], **fields: Any) -> Any:
        conditions = {"IfNoneMatch", "IfMatch"} & fields.keys()
        if conditions and answer == "not implemented":
            raise NotImplementedError(what)
        return whole(self, what, expected, **{name: fields[name] for name in fields.keys() - conditions})

    monkeypatch.setattr(Conditional, "_ask", ask)
    run_dir = RunDir(root)
    with run_dir.lock():
        assert run_dir.may_be_shared
        run_dir.round(1).commit("x", {})
    assert run_dir.round(1).commits() == ["x"]


@pytest.mark.parametrize("left", [None, b'{"owner": "dead", "host": "far", "pid": 7, "counter": 3}', b"{"])
def test_of_two_that_take_the_lock_at_once_one_has_it(
    root: Folder, left: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raced often: over nothing, a dead holder's lock and a torn one."""
    for turn in range(RACES // 3 + 1):
        path = root / f"{turn}.json"
        if left is not None:
            path.write_bytes(left)
        both = [Lease(path, root, 0.05) for _ in range(2)]
        outcomes = race(*(one.take for one in both))
        losers = [one for one in outcomes if isinstance(one, RunFolderError)]
        assert len(losers) == 1, f"turn {turn}: {outcomes}"
        winner = both[outcomes.index(None)]
        assert winner.atomic
        assert json.loads(path.read_text())["owner"] == winner._own["owner"]
        winner.release()
        assert not path.exists()


def test_of_two_that_commit_at_once_what_one_wrote_stands(root: Folder) -> None:
    """One of them was held up and does not know that the other took the folder over."""
    owner = ["a", "b"]
    for turn in range(RACES):
        holder = turn % 2

        def check(who: int, holder: int = holder) -> None:
            if who != holder:
                raise StoreError(f"taken over by {owner[holder]}")

        def write(who: int, turn: int = turn, check: Callable[[int], None] = check) -> None:
            folder = RoundDir((root / f"{turn}").fenced(lambda: check(who)), 1)
            folder.commit("x", folder.write("a.bin", owner[who].encode()))

        outcomes = race(*(lambda who=who: write(who) for who in range(2)))
        assert outcomes[holder] is None, f"turn {turn}: {outcomes}"
        stored = RoundDir(root / f"{turn}", 1)
        assert stored.committed("x") is not None
        assert (root / f"{turn}" / "a.bin").read_bytes() == owner[holder].encode()


def test_a_writer_that_was_held_up_does_not_write_over_a_commit(root: Folder) -> None:
    first, second = RunDir(root), RunDir(root)
    slow = first.round(1)
    with first.lock():
        lease_of_first = first._lock._lease
        assert lease_of_first is not None
        # As a process that is stopped: it renews nothing, and checked before it stopped.
        lease_of_first._stop.set()
        lease_of_first._thread.join()
        with second.lock():
            quick = second.round(1)
            quick.commit("x", quick.write("a.bin", b"second"))
            slow._before_commit = None
            with pytest.raises(StoreError, match="taken over"):
                slow.write("a.bin", b"first")
            with pytest.raises(StoreError, match="taken over"):
                slow.commit("x", {})
            assert quick.committed("x") is not None
            # The holder itself may write again what it made.
            quick.commit("x", quick.write("a.bin", b"again"))
            assert quick.committed("x") is not None
