"""What scorers read, found and checked on the driver before an actor starts; it travels to the actors by value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rayalign.config_scoring import FittedCalibration, RuleScoring, Scoring, model_of
from rayalign.scoring.calibration import Line, read_line
from rayalign.scoring.files import find_file
from rayalign.scoring.rubrics import RubricSource, read_rubric
from rayalign.scoring.rule_file import RuleSource, compile_rule, read_rule
from rayalign.scoring.services import Transport


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

    @property
    def version(self) -> str:
        """What a resumed run compares."""
        files = [file and file.version for file in (self.rule, self.line, self.rubric)]
        return "+".join(part for part in (*files, self.model_sha256) if part) or "demo"


def read_sources(
    sections: Sequence[Scoring], folder: Path, read_model: Callable[[Scoring], tuple[Path, str]]
) -> list[ScorerSource]:
    """One per scorer. Users' scorer files are checked by importing them once here.

    Args:
        folder: where relative paths are looked up after the working directory.
        read_model: folder and checksum of a section's model, checked.

    Raises:
        RayalignError: a file is missing or cannot be used.
    """
    return [_read(section, folder, read_model) for section in sections]


def _read(section: Scoring, folder: Path, read_model: Callable[[Scoring], tuple[Path, str]]) -> ScorerSource:
    rule = model = digest = line = None
    if isinstance(section, RuleScoring) and section.function != "demo":
        rule = read_rule(section.function, folder)
        compile_rule(rule)
    if model_of(section) is not None:
        model, digest = read_model(section)
    if isinstance(section.calibration, FittedCalibration):
        line = read_line(find_file("scoring.calibration.file", Path(section.calibration.file).expanduser(), folder))
    return ScorerSource(rule, model, digest, line, read_rubric(section, folder))
