"""TensorBoard event files, written by tensorboardX, which needs neither torch nor TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rayalign.tracking.tracker import COLUMNS, Answer, Told, TrackedRun, flat

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter
    from tensorboardX.writer import DummyFileWriter, FileWriter


class TensorBoard:
    """A file of events per attempt. What an earlier attempt wrote of a round that comes again is hidden by TensorBoard.

    Args:
        folder: of the event files; the run's name in TensorBoard is its path below `--logdir`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def open(self, run: TrackedRun) -> str:
        from tensorboardX import SummaryWriter
        from tensorboardX.summary import hparams

        # Files are named by the second, and read in the order of their names.
        suffix, lacks = f".{run.next_round:05d}", run.next_round if run.begun else None
        self._writer = SummaryWriter(str(self._folder), purge_step=lacks, filename_suffix=suffix)
        if not run.begun:
            for summary in hparams(flat(run.config), {}):
                self._file.add_summary(summary)
        return run.id

    def tell(self, told: Told) -> None:
        # Its messages are made when it is imported.
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        assert self._writer is not None
        # Not `add_scalar`, which puts another letter in place of some in the names.
        values = [Summary.Value(tag=name, simple_value=value) for name, value in told.points.items()]
        self._file.add_summary(Summary(value=values), told.round_index)
        if told.answers:
            self._writer.add_text("answers", markdown(told.answers), told.round_index)
        self._writer.flush()

    @property
    def _file(self) -> FileWriter | DummyFileWriter:
        assert self._writer is not None and self._writer.file_writer is not None
        return self._writer.file_writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def markdown(answers: Sequence[Answer]) -> str:
    """The answers as a table in Markdown."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *(tuple(_cell(answer[c]) for c in COLUMNS) for answer in answers)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(value: str | float | None) -> str:
    """Text that stays in its cell, and in which nothing is markup."""
    if not isinstance(value, str):
        return "" if value is None else f"{value:.4g}"
    shown = "".join(f"\\{letter}" if letter in "\\`*_{}[]<>()#+-!|~" else letter for letter in value)
    return " ".join(shown.splitlines())
