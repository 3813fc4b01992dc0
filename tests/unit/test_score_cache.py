"""The cache of judgments and rewards: exact keys, several processes, damage, speed."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rayalign.errors import ConfigError
from rayalign.scoring.services.cache import FILE, ScoreCache, cache_key

MESSAGES = [{"role": "user", "content": "List two animals."}]
OWN: dict[str, Any] = {"template": "rating", "scorer": "judge", "version": "1", "seed": 0}


def key(text: str | int) -> bytes:
    return cache_key(MESSAGES, [str(text)], **OWN)


def open_db(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / FILE)


def test_every_part_of_a_key_counts() -> None:
    base = key("cat")
    assert base == cache_key(MESSAGES, ["cat"], **OWN)
    others = [
        key("cat."),
        cache_key([{"role": "system", "content": "List two animals."}], ["cat"], **OWN),
        cache_key([*MESSAGES, *MESSAGES], ["cat"], **OWN),
        cache_key(MESSAGES, ["cat", "dog"], **OWN),
        cache_key(MESSAGES, ["dog", "cat"], **OWN),
        cache_key(MESSAGES, ["cat"], **OWN, metadata={"count": 2}),
        *(cache_key(MESSAGES, ["cat"], **{**OWN, **change})
          for change in ({"template": "cut"}, {"scorer": "x"}, {"version": "2"}, {"seed": 1})),
    ]  # fmt: skip
    assert len({base, *others}) == 1 + len(others)
    assert len(base) == 32


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_texts_do_not_run_into_each_other(one: list[str], other: list[str]) -> None:
    assert (cache_key(MESSAGES, one, **OWN) == cache_key(MESSAGES, other, **OWN)) == (one == other)


def test_values_come_back_in_the_order_of_the_keys(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    cache.put({key(i): {"reward": i / 3, "judgment": "a \ud800 b"} for i in range(1000)})
    asked = [key(i) for i in (5, 1000, 999, 5, 0)]
    assert [value and value["reward"] for value in cache.get(asked)] == [5 / 3, None, 333.0, 5 / 3, 0.0]
    assert (cache.hits, cache.misses) == (4, 1)
    assert cache.get([]) == []
    cache.close()
    again = ScoreCache(tmp_path)
    assert [value["reward"] for value in again.get([key(i) for i in range(1000)])] == [i / 3 for i in range(1000)]
    again.close()


@pytest.mark.parametrize("damage", ["value = x'00'", "value = substr(value, 2)", "checksum = x'00'", "value = NULL",
                                    "value = 'text'", "checksum = NULL"])  # fmt: skip
def test_a_damaged_entry_is_a_miss_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ScoreCache(tmp_path)
    cache.put({key("a"): 1, key("b"): 2})
    with open_db(tmp_path) as db:
        db.execute(f"UPDATE scores SET {damage} WHERE key = ?", (key("a"),))
    db.close()
    with caplog.at_level(logging.WARNING):
        assert cache.get([key("a"), key("b")]) == [None, 2]
    assert "damaged" in caplog.text
    cache.put({key("a"): 3})
    assert cache.get([key("a"), key("b")]) == [3, 2]
    cache.close()


def test_an_entry_moved_to_another_key_is_a_miss(tmp_path: Path) -> None:
    """The checksum covers the key: a right value in a wrong place is another answer's score."""
    cache = ScoreCache(tmp_path)
    cache.put({key("a"): 1})
    with open_db(tmp_path) as db:
        db.execute("UPDATE scores SET key = ?", (key("b"),))
    db.close()
    assert cache.get([key("b")]) == [None]
    cache.close()


@pytest.mark.parametrize("where", [0, 100, 5000])
def test_a_damaged_file_costs_the_cache_and_no_score(
    tmp_path: Path, where: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Overwritten at its head, in its first page, and in the pages of the entries."""
    cache = ScoreCache(tmp_path)
    cache.put({key(i): i for i in range(1000)})
    cache.close()
    path = tmp_path / FILE
    content = path.read_bytes()
    path.write_bytes(content[:where] + b"\xa5" * (len(content) - where))
    with caplog.at_level(logging.WARNING):
        cache = ScoreCache(tmp_path)
        values = cache.get([key(i) for i in range(1000)])
        cache.put({key(5): 5})
    assert values == [None] * 1000
    assert "damaged" in caplog.text
    cache.close()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cache: "):
        ScoreCache(tmp_path / "file" / "below")


WRITER = """
import sys
from rayalign.scoring.services.cache import ScoreCache
from tests.unit.test_score_cache import key
cache, start = ScoreCache(sys.argv[1]), int(sys.argv[2])
for i in range(start, start + 400):
    cache.put({key(i): i, key("shared"): "same"})
    assert cache.get([key(i), key("shared")]) == [i, "same"]
cache.close()
"""


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    """Three write at once, with overlapping ranges, and read what they wrote; nothing is lost."""
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(start)], cwd=root) for start in (0, 200, 400)
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    cache = ScoreCache(tmp_path)
    assert cache.get([key(i) for i in range(801)]) == [*range(800), None]
    cache.close()


def test_several_threads_share_a_cache(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    failures: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for i in range(start, start + 200):
                cache.put({key(i): i})
                assert cache.get([key(i)]) == [i]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache.close()
    assert failures == []


def test_hits_are_fast(tmp_path: Path) -> None:
    """20,000 hits a second are asked for; a tenth of that here, in time of this process, since others may be busy."""
    cache = ScoreCache(tmp_path)
    keys = [key(i) for i in range(5000)]
    cache.put({one: {"reward": 0.5, "judgment": "Too short. " * 20} for one in keys})
    started = time.process_time()
    for start in range(0, 5000, 64):
        assert None not in cache.get(keys[start : start + 64])
    rate = len(keys) / (time.process_time() - started)
    cache.close()
    print(f"{rate:,.0f} hits/s")
    assert rate > 2000
