"""What the user sees while a run goes on: one bar per stage, one line when it ends, one table at the close.

`Console` draws; `RunReporter` is the loop's `Reporter`: it draws, logs events and rewrites the report. Text from
outside (a model's, a scorer's) is shown as it is: never as rich markup, never as terminal control codes.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rayalign.display import MISSING, display, display_order, format_interval, format_value
from rayalign.records import EvalReport
from rayalign.stopping import asked
from rayalign.tracking.pulse import Probe, Pulse

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID


TABLE_METRICS = (
    "pass_rate",
    "mean_reward",
    "win_rate/round_0",
    "win_rate/previous",
    "win_rate/target",
    "kl_base",
    "length_tokens",
    "truncation_rate",
)
WIDTH_WITHOUT_TERMINAL = 200
COLUMN_GAP = 2
BEAT_S, BEAT_OF_BARS_S = 20.0, 1.0
"""How often a stage shows how far it is: by a line where there is no terminal, and by its bar."""
CONTROL_CODES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Stage:
    """One stage of a round while it runs: counts what is done and knows its speed. Safe to advance from threads."""

    def __init__(self, name: str, round_index: int, on_advance: Callable[[], None]) -> None:
        self.name, self.round_index = name, round_index
        self.items = self.tokens = self.under_way = 0
        self._on_advance = on_advance
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._end: float | None = None

    @property
    def title(self) -> str:
        return f"round {self.round_index} · {self.name}"

    @property
    def seconds(self) -> float:
        """Wall seconds since the start, or in all once the stage has ended."""
        return (time.monotonic() if self._end is None else self._end) - self._start

    def advance(self, items: int, tokens: int = 0) -> None:
        with self._lock:
            self.items += items
            self.tokens += tokens
            self.under_way = max(0, self.under_way - items)
        self._on_advance()

    def end(self) -> None:
        self.under_way = 0
        self._end = time.monotonic()

    def so_far(self) -> str:
        """The seconds since the start, and the rates."""
        return " · ".join(filter(None, [f"{self.seconds:.0f} s", self.rates()]))

    def rates(self) -> str:
        """`20.8 items/s · 5.3k tokens/s`; what was not counted is left out."""
        seconds = max(self.seconds, 1e-9)
        counts = [(self.items + self.under_way, "items/s"), (self.tokens, "tokens/s")]
        return " · ".join(f"{_short(count / seconds)} {unit}" for count, unit in counts if count)

    def summary(self, ended: str = "") -> str:
        """The line that stays: wall seconds, items, items/s, tokens/s.

        Args:
            ended: how it ended before its time.
        """
        items = f"{self.items} items" if self.items else ""
        parts = [f"{self.seconds:.1f} s", items, self.rates()]
        return f"{' '.join([self.title, ended]).strip()}  " + " · ".join(part for part in parts if part)


def early_end() -> str:
    """How a stage ended that raised."""
    return "stopped" if asked() else "failed"


class Console:
    """Draws on one stream (default: stdout). Where that is no terminal there are no bars, only lines.

    Stages may overlap (scoring starts while sampling goes on) and may end in any order; all open stages share one
    live display.
    """

    def __init__(self, file: TextIO | None = None, *, live: bool | None = None, width: int | None = None) -> None:
        from rich.console import Console as RichConsole

        self._rich = RichConsole(file=file, width=width, highlight=False, force_terminal=live or None)
        # Asked of the stream too: FORCE_COLOR makes rich take a log file for a terminal.
        self._live = (self._rich.is_interactive and self._rich.file.isatty()) if live is None else live
        if width is None and not self._rich.is_terminal:
            self._rich.width = WIDTH_WITHOUT_TERMINAL
        self._lock = threading.Lock()
        self._progress: Progress | None = None

    def say(self, text: str) -> None:
        """One line for the user, above the bars."""
        self._rich.print(self._printable(text), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(
        self,
        name: str,
        round_index: int,
        total: int,
        done: int = 0,
        probe: Probe | None = None,
        watch: Callable[[Stage], None] = lambda _: None,
    ) -> Iterator[Stage]:
        """A bar over `total` items of which `done` were there before (they do not count towards the speed).

        Args:
            probe: items done of what is under way, for the bar and the lines between.
            watch: told whenever the stage gets further; from several threads.
        """

        def advanced() -> None:
            self._move_bar(bar, stage, done)
            watch(stage)

        stage = Stage(name, round_index, advanced)
        bar = self._open_bar(stage.title, total, done)

        def beat(under_way: int) -> None:
            stage.under_way = max(stage.under_way, min(under_way, total - done - stage.items))
            watch(stage)
            if self._live:
                self._move_bar(bar, stage, done)
            else:
                self.say(f"{stage.title}  {done + stage.items + stage.under_way}/{total} · {stage.so_far()}")

        pulse = Pulse(BEAT_OF_BARS_S if self._live else BEAT_S, beat, probe)
        ended = None
        try:
            yield stage
            ended = ""
        finally:
            pulse.stop()
            stage.end()
            self._close_bar(bar)
            self.say(stage.summary(early_end() if ended is None else ended))

    def metrics(self, report: EvalReport) -> None:
        """One line with what a round measured; nothing where it was not evaluated."""
        names = [name for name in display_order(set(report.metrics)) if name in TABLE_METRICS]
        cells = " · ".join(f"{_heading(name)} {_cell(report, name)}" for name in names)
        if cells:
            self.say(f"round {report.round_index} · {cells}")

    def table(self, reports: Sequence[EvalReport]) -> None:
        """The closing table: a row per evaluated round, a column per metric that any of them has.

        Columns that the terminal has no room for go into a further table below, with the round repeated.
        """
        present = {name for report in reports for name in report.metrics}
        names = [name for name in display_order(present) if name in TABLE_METRICS]
        columns = [[_heading(name), *(_cell(report, name) for report in reports)] for name in names]
        for part in _fit([[self._printable(cell) for cell in column] for column in columns], self._rich.width):
            self._grid([["round", *(str(report.round_index) for report in reports)], *part])

    def grid(self, columns: Sequence[Sequence[str]]) -> None:
        """A table of columns, each with its heading first."""
        self._grid([[self._printable(cell) for cell in column] for column in columns])

    def _grid(self, columns: Sequence[Sequence[str]]) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, padding=(0, COLUMN_GAP - 1, 0, 0), pad_edge=False, show_edge=False)
        for column in columns:
            table.add_column(Text(column[0]), justify="right", no_wrap=True)
        for row in zip(*(column[1:] for column in columns), strict=True):
            table.add_row(*map(Text, row))
        self._rich.print()
        self._rich.print(table)

    def _open_bar(self, title: str, total: int, done: int) -> TaskID | None:
        if not self._live:
            return None
        with self._lock:
            if self._progress is None:
                self._progress = _new_progress(self._rich)
                self._progress.start()
            return self._progress.add_task(self._printable(title), total=total, completed=done, rates="")

    def _move_bar(self, bar: TaskID | None, stage: Stage, done: int) -> None:
        with self._lock:
            if self._progress is not None and bar is not None:
                completed = done + stage.items + stage.under_way
                self._progress.update(bar, completed=completed, rates=self._printable(stage.rates()))

    def _close_bar(self, task: TaskID | None) -> None:
        with self._lock:
            if self._progress is None or task is None:
                return
            self._progress.remove_task(task)
            if not self._progress.tasks:
                self._progress.stop()
                self._progress = None

    def _printable(self, text: str) -> str:
        """Without control codes, and with `?` for what the stream cannot encode (it would raise)."""
        return terminal_text(text, self._rich.encoding)


def terminal_text(text: str, encoding: str | None = "utf-8") -> str:
    """Text from outside as a terminal may show it: `?` for control codes and for what `encoding` does not have."""
    encoding = encoding or "utf-8"
    return CONTROL_CODES.sub("?", text).encode(encoding, "replace").decode(encoding)


def _new_progress(console: RichConsole) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
    )


def _short(rate: float) -> str:
    """`0.42`, `20.8`, `5.3k`, `1.2M`."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if rate >= limit:
            return f"{rate / limit:.1f}{unit}"
    return f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}"


def _heading(name: str) -> str:
    shown = display(name)
    return f"{shown.label} ({shown.unit})" if shown.unit else shown.label


def _cell(report: EvalReport, name: str) -> str:
    metric = report.metrics.get(name)
    if metric is None:
        return MISSING
    style = display(name).style
    return f"{format_value(metric.value, style)} {format_interval(*metric.ci95, style)}"


def _fit(columns: list[list[str]], width: int) -> list[list[list[str]]]:
    """Consecutive columns in as few parts as fit into `width` characters, beside the column of the rounds."""
    parts: list[list[list[str]]] = []
    used = width
    for column in columns:
        needed = max(map(len, column)) + COLUMN_GAP
        if not parts or used + needed > width:
            parts.append([])
            used = len("round")
        parts[-1].append(column)
        used += needed
    return parts
