"""The files of benchmarks with a judge, and of `instructions`: questions, baselines' answers, rubrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from rayalign.config.benchmarks import (
    ArenaBenchmark,
    ComparedBenchmark,
    InstructionsBenchmark,
    MTBenchmark,
    RatingBenchmark,
    baseline_name,
)
from rayalign.config.rewards import ConstraintsScoring
from rayalign.config.services import RubricFile
from rayalign.data.dataset import BadRow
from rayalign.data.prompts import PromptRow, load_prompt_rows
from rayalign.data.sources import locate, open_source
from rayalign.errors import DataError
from rayalign.evaluation.benchmarks.arena import Arena
from rayalign.evaluation.benchmarks.base import Asked
from rayalign.evaluation.benchmarks.duels import Opponents
from rayalign.evaluation.benchmarks.following import Following
from rayalign.evaluation.benchmarks.mt_bench import MTBench
from rayalign.evaluation.benchmarks.questions import Question, Texts, distinct, given_answers, mt_bench_question
from rayalign.evaluation.benchmarks.rating import Rating, rating_task, scale_in
from rayalign.launch.constraints import has_constraints
from rayalign.records import JsonObject, Prompt
from rayalign.scoring.constraints import ConstraintsScorer
from rayalign.scoring.files import find_file, read_text
from rayalign.store.files import expanded

SCALE = (1, 10)


def read_rating(section: RatingBenchmark, folder: Path) -> Rating:
    """
    Args:
        folder: where relative paths are looked up after the working directory; so in all readers.

    Raises:
        DataError: a file cannot be used; so in all readers.
    """
    items = [Asked(row.id, row.messages) for row in _prompts(section.questions, folder, section.limit)]
    rubric = _rubric(section.label, section.rubric, folder)
    if rubric is None and section.scale is None:
        return Rating(items)
    lowest, highest = section.scale or scale_in(rubric or "") or SCALE
    return Rating(items, rating_task(rubric or "How good the answer is, all in all.", (lowest, highest)))


def read_mt_bench(section: MTBenchmark, folder: Path) -> MTBench:
    source = locate(section.questions, folder)
    rows = islice(_records(source, "turns"), section.limit)
    questions = distinct([mt_bench_question(row, place) for place, row in rows], source)
    answers = {name: _given_turns(file) for name, file in _files(section, folder)}
    return MTBench(questions, _answering(section, questions, answers))


def read_arena(section: ArenaBenchmark, folder: Path) -> Arena:
    rows = _prompts(section.questions, folder, section.limit)
    questions = [_question(row) for row in rows]
    answers = {
        name: {row.id: (row.target,) for row in load_prompt_rows(file).rows if row.target is not None}
        for name, file in _files(section, folder)
    }
    opponents = _answering(section, questions, answers)
    return Arena(questions, opponents, _rubric(section.label, section.rubric, folder))


def read_instructions(section: InstructionsBenchmark, folder: Path) -> Following:
    """Prompts without constraints are left out."""
    prompts = [
        Prompt(row.id, row.messages, [], metadata=row.metadata)
        for row in _prompts(section.questions, folder, None)
        if has_constraints(row.metadata, row.messages[-1]["content"], section.field, row.where)
    ]
    if not prompts:
        found = f"{section.label}: no prompt of {section.questions} has constraints in {section.field!r}"
        raise DataError(found, "there is nothing to check", "name the field that holds them, or another file")
    checks = ConstraintsScorer(ConstraintsScoring(type="constraints", field=section.field)).version
    return Following(prompts[: section.limit], section.field, checks)


def _question(row: PromptRow) -> Question:
    *lead, last = row.messages
    return Question(row.id, (last["content"],), lead=tuple(lead))


def _prompts(source: str, folder: Path, limit: int | None) -> list[PromptRow]:
    """The first prompts of a source, each once."""
    rows = load_prompt_rows(locate(source, folder)).rows
    every: dict[str, PromptRow] = {}
    for row in rows:
        every.setdefault(row.id, row)
        if len(every) == limit:
            break
    return list(every.values())


def _records(source: str, field: str) -> Iterator[tuple[str, JsonObject]]:
    """(place, row) of all rows of a source that are objects.

    Raises:
        DataError: one is none.
    """
    for row in open_source(source, is_row=lambda record: field in record):
        if isinstance(row.record, BadRow):
            raise row.record.error(row.name)
        if not isinstance(row.record, Mapping):
            raise DataError(f"{row.name} is no object", f"a row has the field {field}", "mend or remove that row")
        yield row.name, dict(row.record)


def _files(section: ComparedBenchmark, folder: Path) -> list[tuple[str, str]]:
    """(name, place) of the baselines that are files."""
    return [(baseline_name(one), locate(one, folder)) for one in section.files]


def _given_turns(file: str) -> dict[str, Texts]:
    return dict(given_answers(row, place) for place, row in _records(file, "choices"))


def _answering(section: ComparedBenchmark, questions: Sequence[Question], opponents: Opponents) -> Opponents:
    """The answers to these questions alone.

    Raises:
        DataError: a baseline has none of them.
    """
    asked = {question.id for question in questions}
    found = {name: {i: texts for i, texts in own.items() if i in asked} for name, own in opponents.items()}
    if silent := [name for name, own in found.items() if not own]:
        raise DataError(
            f"{section.label}: baseline {silent[0]} answers none of the questions of {section.questions}",
            "there is nothing to compare",
            "give answers to the same questions, word for word or by the same ids",
        )
    return found


def _rubric(label: str, rubric: str | RubricFile | None, folder: Path) -> str | None:
    if not isinstance(rubric, RubricFile):
        return rubric
    key = f"{label}: rubric.file"
    path = find_file(key, expanded(rubric.file), folder)
    text = read_text(key, path)
    if not text.strip():
        raise DataError(f"{key}: {path}", "it is empty", "write the rubric, or remove the key")
    return text
