"""The console without a terminal and with a forced one, and the reporter's stage events."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from rayalign.parts import Reporter
from rayalign.records import EvalReport, Metric
from rayalign.store.event_log import EventLog, read_events
from rayalign.tracking import console as console_module
from rayalign.tracking.console import Console
from rayalign.tracking.reporter import RunReporter
from rayalign.tracking.sink import StageState


class Clock:
    """Stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(console_module, "time", stopped)
    return stopped


def reporter_with_log(path: Path, write_report: Any = lambda: None) -> tuple[RunReporter, EventLog, io.StringIO]:
    stream, log = io.StringIO(), EventLog(path / "metrics.jsonl")
    return RunReporter(Console(stream), log, write_report), log, stream


def stage_events(log: EventLog) -> list[dict[str, Any]]:
    events = list(read_events(log.path))
    for event in events:
        del event["time"]
    log.close()
    return events


def test_stage_leaves_one_line_without_a_terminal(clock: Clock) -> None:
    """20 items and 10,000 tokens in 4 s: 5 items/s, 2.5k tokens/s."""
    stream = io.StringIO()
    with Console(stream).stage("sample", 2, total=40, done=20) as stage:
        stage.advance(5, tokens=4000)
        stage.advance(15, tokens=6000)
        clock.now += 4
        assert stream.getvalue() == ""
    assert stream.getvalue() == "round 2 · sample  4.0 s · 20 items · 5.00 items/s · 2.5k tokens/s\n"


def test_rates_that_were_not_counted_are_left_out(clock: Clock) -> None:
    stream = io.StringIO()
    console = Console(stream)
    with console.stage("sync", 1, total=1):
        clock.now += 1.5
    with console.stage("score", 1, total=0) as stage:
        stage.advance(3_000_000)
        clock.now += 2
    assert stream.getvalue().splitlines() == [
        "round 1 · sync  1.5 s",
        "round 1 · score  2.0 s · 3000000 items · 1.5M items/s",
    ]


def test_a_long_stage_says_how_far_it_is(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off a terminal by lines: what ended, what was there before, and what is done of what is under way."""
    monkeypatch.setattr(console_module, "BEAT_S", 0.001)
    stream, finished = io.StringIO(), [7]
    with Console(stream).stage("sample", 1, total=40, done=20, probe=lambda: finished[0]) as stage:
        _until(lambda: "round 1 · sample  27/40 · 0 s" in stream.getvalue())
        clock.now += 2
        stage.advance(10, tokens=400)
        # A probe that answers late, or of more than there is, moves nothing back and nothing beyond the end.
        finished[0] = 300
        _until(lambda: "round 1 · sample  40/40 · 2 s · 10.0 items/s · 200.0 tokens/s" in stream.getvalue())
        stage.advance(10, tokens=400)
    assert stream.getvalue().splitlines()[-1] == "round 1 · sample  2.0 s · 20 items · 10.0 items/s · 400.0 tokens/s"


def test_a_probe_that_fails_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "BEAT_S", 0.001)
    stream, asked = io.StringIO(), []

    def probe() -> int:
        asked.append(1)
        raise OSError("the actor is gone")

    with Console(stream).stage("sample", 1, total=4, probe=probe):
        _until(lambda: stream.getvalue().count("0/4") > 3)
    assert len(asked) == 1 and "gone" not in stream.getvalue()


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if condition():
            return
        sleep(0.001)
    raise AssertionError("it never happened")


def test_failed_stage_says_so_and_raises(clock: Clock) -> None:
    stream = io.StringIO()
    with pytest.raises(KeyError, match="boom"), Console(stream).stage("score", 3, total=4) as stage:
        stage.advance(1)
        clock.now += 2
        raise KeyError("boom")
    assert stream.getvalue() == "round 3 · score failed  2.0 s · 1 items · 0.50 items/s\n"


def test_live_bar_shows_counts_rates_and_goes_away(clock: Clock) -> None:
    stream = io.StringIO()
    console = Console(stream, live=True, width=120)
    with console.stage("sample", 2, total=8, done=2) as stage:
        stage.advance(3, tokens=30)
        assert console._progress is not None
        console._progress.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "2/8" in text
    assert "5/8" in text
    assert "tokens/s" in text and "ETA" in text
    assert text.rstrip().splitlines()[-1].startswith("round 2 · sample  0.0 s · 3 items")
    assert console._progress is None


def test_overlapping_stages_share_the_display_and_end_in_any_order() -> None:
    stream = io.StringIO()
    console = Console(stream, live=True, width=120)
    sampling, scoring = console.stage("sample", 1, total=2), console.stage("score", 1, total=2)
    first, second = sampling.__enter__(), scoring.__enter__()
    first.advance(2)
    sampling.__exit__(None, None, None)
    assert console._progress is not None
    second.advance(2)
    scoring.__exit__(None, None, None)
    assert console._progress is None
    assert stream.getvalue().count(" s · 2 items · ") == 2


def test_bar_is_closed_when_the_stage_fails() -> None:
    console = Console(io.StringIO(), live=True, width=120)
    with pytest.raises(RuntimeError), console.stage("train", 1, total=2):
        raise RuntimeError
    assert console._progress is None


def test_threads_lose_no_counts() -> None:
    """A count that dozes off while it is being added gives other threads the time to add theirs."""

    class Slow(int):
        def __radd__(self, other: int) -> int:
            sleep(0.001)
            return int(self) + other

    with Console(io.StringIO()).stage("sample", 1, total=40) as stage:
        threads = [
            threading.Thread(target=lambda: [stage.advance(Slow(1), Slow(2)) for _ in range(10)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (stage.items, stage.tokens) == (40, 80)


def test_say_shows_text_as_it_is() -> None:
    """No markup, no wrapping, no terminal codes, and nothing that the stream cannot encode raises."""
    stream = io.StringIO()
    Console(stream, width=20).say("[red]not markup[/red] [/] " + "long " * 20 + "\x1b[31m\rend")
    assert stream.getvalue() == "[red]not markup[/red] [/] " + "long " * 20 + "?[31m?end\n"
    raw = io.BytesIO()
    ascii_only = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    Console(ascii_only).say("± \ud800 x")
    assert raw.getvalue() == b"? ? x\n"


def report(index: int, **metrics: Metric) -> EvalReport:
    names = {name.replace("__", "/"): metric for name, metric in metrics.items()}
    return EvalReport(index, index, names)


REPORTS = [
    report(
        0,
        distinct_2=Metric(0.1, 10, (0.1, 0.1)),
        pass_rate=Metric(0.4, 10, (0.35, 0.45)),
        mean_reward=Metric(0.5, 10, (0.25, 0.75)),
    ),
    report(1, pass_rate=Metric(0.6, 10, (0.55, 0.65)), win_rate__round_0=Metric(0.7, 10, (0.6, 0.8))),
]


def test_table_has_a_row_per_round_and_only_columns_that_exist() -> None:
    stream = io.StringIO()
    Console(stream).table(REPORTS)
    head, _, *rows = [line.split() for line in stream.getvalue().splitlines() if line.strip()]
    assert " ".join(head) == "round pass rate mean reward win rate vs round 0"
    assert " ".join(rows[0]) == "0 40.0% [35.0, 45.0] 0.500 [0.250, 0.750] \N{EN DASH}"
    assert " ".join(rows[1]) == "1 60.0% [55.0, 65.0] \N{EN DASH} 70.0% [60.0, 80.0]"
    assert len(rows) == 2


def test_narrow_table_is_cut_into_parts_and_loses_nothing() -> None:
    stream = io.StringIO()
    Console(stream, width=50).table(REPORTS)
    lines = stream.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 50
    assert sum(line.startswith("round ") for line in lines) == 2
    for cell in ("40.0% [35.0, 45.0]", "0.500 [0.250, 0.750]", "70.0% [60.0, 80.0]"):
        assert stream.getvalue().count(cell) == 1


@pytest.mark.parametrize("width", range(27, 75))
def test_no_cell_is_shortened_at_any_width(width: int) -> None:
    stream = io.StringIO()
    Console(stream, width=width).table(REPORTS)
    assert max(len(line.rstrip()) for line in stream.getvalue().splitlines()) <= width
    assert len(re.findall(r"\[\S+, \S+\]", stream.getvalue())) == 4
    assert "…" not in stream.getvalue()


def test_table_of_nothing_prints_nothing() -> None:
    stream = io.StringIO()
    Console(stream).table([])
    Console(stream).table([report(0)])
    assert stream.getvalue() == ""


def test_a_round_that_is_done_leaves_a_line_of_its_metrics(tmp_path: Path) -> None:
    reporter, log, stream = reporter_with_log(tmp_path)
    for one in REPORTS:
        reporter.event("round", **one.to_dict(), sync={})
    reporter.event("round", **report(2).to_dict())
    log.close()
    assert stream.getvalue().splitlines() == [
        "round 0 · pass rate 40.0% [35.0, 45.0] · mean reward 0.500 [0.250, 0.750]",
        "round 1 · pass rate 60.0% [55.0, 65.0] · win rate vs round 0 70.0% [60.0, 80.0]",
    ]


def test_reporter_logs_every_stage_end(tmp_path: Path, clock: Clock) -> None:
    reporter, log, stream = reporter_with_log(tmp_path)
    driven: Reporter = reporter
    with driven.stage("sample", 2, total=4, done=1) as stage:
        stage.advance(3, tokens=9)
        clock.now += 1.25
    driven.event("sync", mode="merged")
    assert stage_events(log) == [
        {"event": "stage", "round": 2, "stage": "sample", "seconds": 1.25, "items": 3, "tokens": 9},
        {"event": "sync", "mode": "merged"},
    ]
    assert stream.getvalue().startswith("round 2 · sample  1.2 s")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failed_stage_is_logged_as_failed(tmp_path: Path, clock: Clock, error: type[BaseException]) -> None:
    reporter, log, stream = reporter_with_log(tmp_path)
    with pytest.raises(error), reporter.stage("train", 1, total=4) as stage:
        stage.advance(1)
        clock.now += 2
        raise error
    assert stage_events(log) == [
        {"event": "stage", "round": 1, "stage": "train", "seconds": 2.0, "items": 1, "tokens": 0, "failed": True}
    ]
    assert "train failed" in stream.getvalue()


def test_the_stages_error_is_not_hidden_by_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    reporter, log, _ = reporter_with_log(tmp_path)
    log.close()
    with pytest.raises(RuntimeError, match="the cause"), reporter.stage("train", 1, total=4):
        raise RuntimeError("the cause")


def test_reporter_without_log_still_writes_the_report() -> None:
    calls: list[str] = []
    stream = io.StringIO()
    reporter = RunReporter(Console(stream), None, lambda: calls.append("report"))
    reporter.event("anything", value=1)
    with reporter.stage("sample", 1, total=1):
        pass
    reporter.say("hello")
    assert calls == []
    reporter.write()
    assert calls == ["report"]
    assert stream.getvalue().splitlines()[-1] == "hello"


def test_import_is_light() -> None:
    heavy = "('torch', 'ray', 'rich', 'numpy')"
    code = f"import rayalign.tracking.console, sys; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"


class Listener:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []
        self.states: list[StageState] = []
        self.closed = False

    def event(self, kind: str, fields: Mapping[str, object]) -> None:
        self.events.append((kind, fields["round"]))

    def stage(self, state: StageState) -> None:
        self.states.append(state)

    def close(self) -> None:
        self.closed = True


def test_a_sink_is_told_how_far_stages_are(tmp_path: Path) -> None:
    reporter, log, _ = reporter_with_log(tmp_path)
    listener = Listener()
    with reporter.told(listener):
        with reporter.stage("sample", 1, total=40, done=20) as stage:
            stage.advance(5)
        with pytest.raises(KeyError), reporter.stage("update", 1, total=8):
            raise KeyError
        assert not listener.closed
    assert listener.closed
    reporter.event("training", round=1)
    log.close()
    assert listener.events == [("stage", 1), ("stage", 1)]
    assert listener.states == [
        StageState("sample", 1, 20, 40, True),
        StageState("sample", 1, 25, 40, True),
        StageState("sample", 1, 25, 40, False),
        StageState("update", 1, 0, 8, True),
        StageState("update", 1, 0, 8, False),
    ]
