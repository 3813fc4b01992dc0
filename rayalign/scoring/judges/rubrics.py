"""Rubrics: texts that a judge judges by, inline or in a file that travels by value to the scorer actors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rayalign.config.scoring import Scoring
from rayalign.config.services import JudgeScoring, RubricFile
from rayalign.errors import DataError
from rayalign.scoring.files import find_file, read_text
from rayalign.store.files import expanded


@dataclass(frozen=True, slots=True)
class RubricSource:
    """A rubric file."""

    path: str
    text: str

    @property
    def version(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def read_rubric(section: Scoring, folder: Path) -> RubricSource | None:
    """The section's rubric file, looked up in the working directory, then in `folder`; None where it names none.

    Raises:
        DataError: it is missing, empty, or no UTF-8 text.
    """
    if not isinstance(section, JudgeScoring) or not isinstance(section.rubric, RubricFile):
        return None
    name = section.rubric.file
    path = find_file("scoring.rubric.file", expanded(name), folder)
    text = read_text("scoring.rubric.file", path)
    if not text.strip():
        raise DataError(f"scoring.rubric.file: {path}", "it is empty", "write the rubric, or remove the key")
    return RubricSource(str(path), text)


def rubric_text(section: JudgeScoring, source: RubricSource | None) -> str | None:
    if source is not None:
        return source.text
    return section.rubric if isinstance(section.rubric, str) else None
