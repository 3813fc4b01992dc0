"""The run's page is written beside the run."""

from __future__ import annotations

import threading

import pytest

from rayalign.tracking.page_writer import PageWriter


def test_a_round_does_not_wait_for_the_page_and_the_last_state_is_written() -> None:
    gate, state, written = threading.Event(), [0], list[int]()

    def write() -> None:
        seen = state[0]
        assert gate.wait(60)
        written.append(seen)

    pages = PageWriter(write)
    for number in range(1, 5):
        state[0] = number
        pages.ask()
    assert written == []
    gate.set()
    pages.finish()
    assert written[-1] == 4 and len(written) <= 2
    state[0] = 5
    pages.ask()
    pages.finish()
    assert written[-1] == 5


def test_what_a_write_raises_is_raised_once_where_the_page_is_next_asked_for() -> None:
    errors = [OSError("disk full")]

    def write() -> None:
        if errors:
            raise errors.pop()

    pages = PageWriter(write)
    pages.ask()
    with pytest.raises(OSError, match="disk full"):
        pages.finish()
    pages.ask()
    pages.finish()
    errors.append(OSError("again"))
    pages.ask()
    while pages._at_work:
        pass
    with pytest.raises(OSError, match="again"):
        pages.ask()
