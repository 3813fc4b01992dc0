"""Prompts on disk."""

import dataclasses
import threading

import pytest
from hypothesis import given, strategies as st

from rayalign.data.drawing import HOLDOUT, OTHER, TRAIN, UNMARKED
from rayalign.data.prompt_store import PromptStore
from rayalign.records import Prompt


def prompt(number: int, target: str | None = None, **metadata: object) -> Prompt:
    messages = [{"role": "user", "content": f"Ask \u2028 {number} 🐟"}]
    return Prompt(f"{number:016x}", messages, [number, 1, 2], target, dict(metadata))  # pyright: ignore[reportArgumentType]


@given(order=st.permutations(range(30)), asked=st.lists(st.integers(0, 29)))
def test_it_gives_what_was_added(order: list[int], asked: list[int]) -> None:
    store = PromptStore()
    store.add(prompt(number, f"target {number}" if number % 2 else None, n=number) for number in order)
    ids, _ = store.ids()
    assert [int(identity, 16) for identity in ids] == order
    assert store.take([f"{number:016x}".encode() for number in asked]) == [
        prompt(number, f"target {number}" if number % 2 else None, n=number) for number in asked
    ]


def test_more_than_one_query() -> None:
    store = PromptStore()
    store.add(map(prompt, range(1234)))
    ids, _ = store.ids()
    assert len(store) == 1234 and [p.token_ids[0] for p in store.stream(ids[::-1])] == list(range(1234))[::-1]


def test_a_twin_gives_the_target_that_lacked() -> None:
    store = PromptStore()
    store.add([prompt(1, n=1), prompt(2, "b"), prompt(1, "a", n=2), prompt(2, "c"), prompt(1, "d")])
    assert store.duplicates == 3
    assert store.take(store.ids()[0]) == [prompt(1, "a", n=1), prompt(2, "b")]


def test_marks() -> None:
    store = PromptStore()
    store.add([prompt(i, split=mark) for i, mark in enumerate(["train", "holdout", "test", 7])] + [prompt(9)])
    assert store.ids()[1].tolist() == [TRAIN, HOLDOUT, OTHER, OTHER, UNMARKED]


def test_an_id_that_is_not_here() -> None:
    store = PromptStore()
    assert store.ids()[0].tolist() == [] and store.take([]) == []
    with pytest.raises(KeyError):
        store["0" * 16]


def test_threads_share_it() -> None:
    store = PromptStore()
    store.add(map(prompt, range(100)))
    ids, found = store.ids()[0], []
    threads = [threading.Thread(target=lambda: found.append(store.take(ids))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[prompt(i) for i in range(100)]] * 4


def test_digests_tell_what_changed() -> None:
    def digests(*prompts: Prompt) -> dict[str, str]:
        store = PromptStore()
        store.add([*prompts, prompt(9, "not asked for")])
        return store.digests(store.ids()[0][: len(prompts)])

    first = digests(prompt(1, "a", n=1, m=2), prompt(2))
    assert digests(prompt(1, "a", m=2, n=1), prompt(2)) == first
    for changed, other in (
        ("targets", (prompt(1, "b", n=1, m=2), prompt(2))),
        ("targets", (prompt(1, "a", n=1, m=2), prompt(2, ""))),
        ("metadata", (prompt(1, "a", n=1, m=3), prompt(2))),
        ("tokens", (dataclasses.replace(prompt(1, "a", n=1, m=2), token_ids=[1]), prompt(2))),
    ):
        assert {name for name, digest in digests(*other).items() if digest != first[name]} == {changed}
