"""The event log: whole lines, valid JSON, readable after a kill; and how numbers are written for people."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayalign.display import display, display_order, format_interval, format_value
from rayalign.store.event_log import EventLog, read_events


def test_one_json_object_per_line_with_time_and_event(tmp_path: Path) -> None:
    path = tmp_path / "new" / "metrics.jsonl"
    with EventLog(path) as log:
        log.write("stage", round=1, seconds=0.5)
        log.write("note", text="two\nlines")
    first, second = path.read_text().splitlines()
    event = json.loads(first)
    assert (event.pop("event"), event.pop("round"), event.pop("seconds")) == ("stage", 1, 0.5)
    time = datetime.fromisoformat(event.pop("time"))
    assert time.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)
    assert event == {}
    assert json.loads(second)["text"] == "two\nlines"


def test_lines_are_on_disk_before_the_log_is_closed(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "m.jsonl")
    log.write("a")
    assert [event["event"] for event in read_events(log.path)] == ["a"]
    log.close()
    with pytest.raises(ValueError, match="closed"):
        log.write("b")


def test_every_line_is_one_write(tmp_path: Path) -> None:
    """A second writer on the same file could otherwise land in the middle of a line longer than a buffer."""
    writes: list[bytes] = []

    class Recorder:
        def write(self, data: Any) -> int:
            writes.append(bytes(data))
            return len(data)

        def close(self) -> None: ...

    log = EventLog(tmp_path / "m.jsonl")
    log._file.close()
    log._file = Recorder()  # type: ignore[assignment]
    log.write("big", text="x" * 100_000)
    assert len(writes) == 1
    assert writes[0].endswith(b"\n") and writes[0].count(b"\n") == 1


def test_short_writes_are_continued(tmp_path: Path) -> None:
    written = bytearray()

    class Slow:
        def write(self, data: Any) -> int:
            written.extend(bytes(data[:7]))
            return min(7, len(data))

    log = EventLog(tmp_path / "m.jsonl")
    log._file.close()
    log._file = Slow()  # type: ignore[assignment]
    log.write("a", text="abcdefghijkl")
    assert json.loads(written)["text"] == "abcdefghijkl"


def test_appends_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    for name in ("a", "b"):
        with EventLog(path) as log:
            log.write(name)
    assert [event["event"] for event in read_events(path)] == ["a", "b"]


def test_values_without_json_form(tmp_path: Path) -> None:
    with EventLog(tmp_path / "m.jsonl") as log:
        log.write(
            "x",
            nan=math.nan,
            nested={"inf": [math.inf, 1.0], 3: -math.inf},
            scalar=np.float32(0.5),
            numpy_nan=np.float64("nan"),
            array=np.array([1, 2]),
            flag=np.bool_(True),
            path=Path("a/b"),
            names={"b", "a"},
            surrogate="\ud800",
        )
    (event,) = read_events(log.path)
    assert b"NaN" not in log.path.read_bytes() and b"Infinity" not in log.path.read_bytes()
    del event["time"], event["event"]
    assert event == {
        "nan": None,
        "nested": {"inf": [None, 1.0], "3": None},
        "scalar": 0.5,
        "numpy_nan": None,
        "array": [1, 2],
        "flag": True,
        "path": "a/b",
        "names": ["a", "b"],
        "surrogate": "\ud800",
    }


@pytest.mark.parametrize("field", ["time", "event"])
def test_refuses_fields_that_the_log_writes(tmp_path: Path, field: str) -> None:
    log = EventLog(tmp_path / "m.jsonl")
    with pytest.raises(ValueError, match=f"'{field}'"):
        log.write("a", **{field: 1})
    assert log.path.read_bytes() == b""
    log.close()


def test_torn_last_line_is_skipped_and_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"event": "a"}\n{"event": "b", "te')
    assert [event["event"] for event in read_events(path)] == ["a"]
    with EventLog(path) as log:
        log.write("c")
    assert [event["event"] for event in read_events(path)] == ["a", "c"]
    assert path.read_bytes().startswith(b'{"event": "a"}\n{"event": "b", "te\n')


def test_lines_that_are_no_object_or_no_text_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'3\n[]\n\n\xff\xfe\n{"event": "a"}\n')
    assert list(read_events(path)) == [{"event": "a"}]
    assert list(read_events(tmp_path / "missing.jsonl")) == []


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (0.5312, "percent", "53.1%"),
        (0.5312, "number", "0.531"),
        (-23.44, "number", "-23.4"),
        (12345.6, "number", "12346"),
        (0.00246, "number", "0.0025"),
        (0.0, "number", "0.000"),
        (1.2e-5, "number", "1.2e-05"),
        (3.2e7, "number", "3.2e+07"),
        (None, "number", "\N{EN DASH}"),
        (math.nan, "percent", "\N{EN DASH}"),
    ],
)
def test_format_value(value: float | None, style: Any, text: str) -> None:
    assert format_value(value, style) == text


def test_format_interval() -> None:
    assert format_interval(0.501, 0.5625, "percent") == "[50.1, 56.2]"
    assert format_interval(-1.0, 12.0) == "[-1.000, 12.0]"


def test_display_orders_scorers_after_the_mean_and_strangers_last() -> None:
    names = {"zzz", "kl_base", "mean_reward/rm", "mean_reward", "mean_reward/judge", "pass_rate"}
    expected = ["pass_rate", "mean_reward", "mean_reward/judge", "mean_reward/rm", "kl_base", "zzz"]
    assert display_order(names) == expected
    assert display("mean_reward/rm").label == "reward rm"
    assert (display("win_rate/other").label, display("win_rate/other").style) == ("win rate vs other", "percent")
    equal = display("equal_length_win_rate/target")
    assert (equal.label, equal.style) == ("win rate at equal length vs target", "percent")
    assert display("zzz").label == "zzz"
