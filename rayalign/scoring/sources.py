"""What scorers read, found and checked on the driver before an actor starts; it travels to the actors by value."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rayalign.config.rewards import FittedCalibration, RuleScoring
from rayalign.config.scoring import Scoring, model_of
from rayalign.config.services import JudgeScoring
from rayalign.rendering.template import UNDATED
from rayalign.scoring.calibration import Line, read_line
from rayalign.scoring.files import find_file
from rayalign.scoring.judges.rubrics import RubricSource, read_rubric
from rayalign.scoring.rules.file import RuleSource, compile_rule, read_rule
from rayalign.scoring.services.transport import Transport
from rayalign.store.files import expanded


@dataclass(frozen=True, slots=True)
class ScorerSource:
    """The files of one scorer; all null for a scorer that needs none."""

    rule: RuleSource | None = None
    model: Path | None = None
    """Folder of the scorer's own model."""
    model_sha256: str | None = None
    line: Line | None = None
    """The fitted calibration."""
    rubric: RubricSource | None = None
    """The file that a judge judges by."""
    transport: Transport | None = None
    """In a scorer actor: how a judge that the run holds itself is asked."""
    date: datetime.date = UNDATED
    """Of the run, for the chat template of the scorer's own model."""

    @property
    def version(self) -> str:
        """What a resumed run compares."""
        rule = None if self.rule and self.rule.shipped else self.rule
        files = [file and file.version for file in (rule, self.line, self.rubric)]
        return "+".join(part for part in (*files, self.model_sha256) if part) or "demo"


@dataclass(frozen=True, slots=True)
class SourceReaders:
    """How the parts of a source are found that this room knows nothing of."""

    model: Callable[[Scoring], tuple[Path, str]]
    """(section) -> folder and checksum of its model, checked."""
    demo_rule: Callable[[str], RuleSource]
    """(function) -> the demo world's rule (`score`) or judge (`judge`)."""


def read_sources(
    sections: Sequence[Scoring], folder: Path, readers: SourceReaders, date: datetime.date = UNDATED
) -> list[ScorerSource]:
    """One per scorer. Users' scorer files are checked by importing them once here.

    Args:
        folder: where relative paths are looked up after the working directory.

    Raises:
        RayalignError: a file is missing or cannot be used.
    """
    return [_read(section, folder, readers, date) for section in sections]


def _read(section: Scoring, folder: Path, readers: SourceReaders, date: datetime.date) -> ScorerSource:
    rule = model = digest = line = None
    if isinstance(section, RuleScoring):
        rule = readers.demo_rule("score") if section.function == "demo" else read_rule(section.function, folder)
        compile_rule(rule)
    elif isinstance(section, JudgeScoring) and section.transport == "demo":
        rule = readers.demo_rule("judge")
    if model_of(section) is not None:
        model, digest = readers.model(section)
    if isinstance(section.calibration, FittedCalibration):
        line = read_line(find_file("scoring.calibration.file", expanded(section.calibration.file), folder))
    return ScorerSource(rule, model, digest, line, read_rubric(section, folder), date=date)
