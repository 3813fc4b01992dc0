"""The loop's `Reporter`: draws on the console, logs events, and rewrites the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rayalign.records import EvalReport
from rayalign.store.event_log import EventLog
from rayalign.tracking.console import Console, Stage, early_end
from rayalign.tracking.pulse import Probe
from rayalign.tracking.sink import Sink, StageState


class RunReporter:
    """The loop's `Reporter`: what the console shows, what `metrics.jsonl` keeps, and when the report is rewritten.

    Args:
        log: null where the config turns the log off.
        write_report: renders the report from the run folder.
    """

    sinks: list[Sink]
    """Who else is told; the last one added is closed first."""

    def __init__(self, console: Console, log: EventLog | None, write_report: Callable[[], object]) -> None:
        self.console, self.log, self._write_report = console, log, write_report
        self.sinks = []

    def say(self, text: str) -> None:
        self.console.say(text)

    def event(self, kind: str, **fields: object) -> None:
        if self.log is not None:
            self.log.write(kind, **fields)
        if kind == "round":
            self.console.metrics(EvalReport.from_dict(fields))
        for sink in self.sinks:
            sink.event(kind, fields)

    @contextmanager
    def stage(
        self, name: str, round_index: int, total: int, done: int = 0, probe: Probe | None = None
    ) -> Iterator[Stage]:
        """A bar while the stage runs; an event `stage` when it ends, with `failed` if by an exception, or `stopped`."""

        def watch(stage: Stage, running: bool = True) -> None:
            state = StageState(name, round_index, done + stage.items + stage.under_way, total, running)
            for sink in self.sinks:
                sink.stage(state)

        with self.console.stage(name, round_index, total, done, probe, watch) as stage:
            watch(stage)
            try:
                yield stage
            except BaseException:
                stage.end()
                watch(stage, running=False)
                # The stage's own error is the one to see, not that the log could not be written after it.
                with suppress(OSError, ValueError):
                    self._log_stage(stage, **{early_end(): True})
                raise
            stage.end()
            watch(stage, running=False)
            self._log_stage(stage)

    def write(self) -> None:
        self._write_report()

    @contextmanager
    def told(self, sink: Sink) -> Iterator[None]:
        """Have `sink` told of everything as long as this lasts, then close it."""
        self.sinks.append(sink)
        try:
            yield
        finally:
            self.sinks.remove(sink)
            sink.close()

    def _log_stage(self, stage: Stage, **flags: bool) -> None:
        counts = {"seconds": round(stage.seconds, 3), "items": stage.items, "tokens": stage.tokens}
        self.event("stage", round=stage.round_index, stage=stage.name, **counts, **flags)
