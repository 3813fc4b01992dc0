"""Questions of a judged benchmark, the conversations that they make, and what a judge is shown of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayalign.errors import DataError
from rayalign.evaluation.benchmarks.base import Answers, Asked
from rayalign.records import JudgeQuestion, JudgeTask, Message

Texts = tuple[str, ...]
"""One text per turn of a question."""
Shown = list[tuple[str, str]]
"""(what it is, text from outside)."""


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation to be had: what was said before, and the user's turns, each answered in its time.

    Example:
        >>> q = Question("81", ("Write a haiku.", "Now in French."), category="writing")
        >>> [message["role"] for message in q.conversation(("Autumn ...",))]
        ['user', 'assistant', 'user']
    """

    id: str
    turns: Texts
    category: str | None = None
    reference: Texts = ()
    """A right answer to each turn, or none at all."""
    lead: tuple[Message, ...] = ()
    """What stands before the first turn: a system turn, earlier turns."""

    def conversation(self, answers: Texts) -> list[Message]:
        """The conversation up to the turn that follows these answers."""
        messages = list(self.lead)
        for turn, answer in zip(self.turns[: len(answers)], answers, strict=True):
            messages += [{"role": "user", "content": turn}, {"role": "assistant", "content": answer}]
        return [*messages, {"role": "user", "content": self.turns[len(answers)]}]

    def shown(self, turn: int, *, reference: bool) -> Shown:
        """The question up to a turn, with the right answers where there are some and they are wanted."""
        blocks: Shown = [(f"earlier {message['role']} turn", message["content"]) for message in self.lead]
        for i in range(turn + 1):
            blocks.append((self.label("question", i), self.turns[i]))
            if reference and self.reference:
                blocks.append((self.label("reference answer", i), self.reference[i]))
        return blocks

    def label(self, what: str, turn: int) -> str:
        """Name of a text of a turn; the only turn needs no number."""
        return what if len(self.turns) == 1 else f"{what} {turn + 1}"


def next_turn(questions: Sequence[Question], turn: int, answers: Answers) -> list[Asked]:
    """What the model is asked in a turn: the questions that have one, and an answer to each turn before it."""
    return [
        Asked(question.id, question.conversation(texts))
        for question in questions
        if turn < len(question.turns) and len(texts := texts_of(answers, question)) == turn
    ]


def texts_of(answers: Answers, question: Question) -> Texts:
    """The answers to a question, as far as it got."""
    return tuple(answer.text for answer in answers.get(question.id, ()))


def to_grade(question: Question, answers: Texts, turn: int, task: JudgeTask, *, reference: bool) -> JudgeQuestion:
    """The question to a judge that grades the answer to a turn, and sees all before it."""
    shown = question.shown(turn, reference=reference)
    shown += [(question.label("answer", i), answers[i]) for i in range(turn + 1)]
    return JudgeQuestion(f"{question.id} turn {turn + 1} grade", task=task, shown=tuple(shown))


def mt_bench_question(row: Mapping[str, object], place: str) -> Question:
    """A row of MT-Bench's question file: `question_id`, `category`, `turns`, perhaps `reference`.

    Raises:
        DataError: the row is none.
    """
    turns, reference = _texts(row.get("turns")), _texts(row.get("reference", []))
    name, category = row.get("question_id"), row.get("category")
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise _unusable(place, "question_id", "it names the question")
    if not turns or not all(turn.strip() for turn in turns):
        raise _unusable(place, "turns", "a list of the user's texts is needed")
    if reference is None or len(reference) not in (0, len(turns)):
        raise _unusable(place, "reference", "it holds one text for each turn, or is left out")
    if category is not None and not isinstance(category, str):
        raise _unusable(place, "category", "it is a text, or left out")
    return Question(str(name), tuple(turns), category, tuple(reference))


def _texts(value: object) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(text, str) for text in value) else None


def _unusable(place: str, field: str, why: str) -> DataError:
    remedy = 'write rows as {"question_id": 81, "category": "writing", "turns": ["...", "..."]}'
    return DataError(f"{place}: {field} cannot be used", why, remedy)


def given_answers(row: Mapping[str, object], place: str) -> tuple[str, Texts]:
    """(question id, answers) of a row of MT-Bench's answer files, {"question_id", "choices": [{"turns": [...]}]}, or of
    a result's `rows.jsonl`, {"id", "answers": [...]}.

    Raises:
        DataError: the row is neither.
    """
    name, found = row.get("question_id", row.get("id")), row.get("answers")
    choices = row.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        found = choices[0].get("turns")
    texts = _texts(found)
    if texts is None or not isinstance(name, str | int) or isinstance(name, bool):
        why = "an id and a text per turn are needed"
        remedy = 'write rows as {"question_id": 81, "choices": [{"turns": ["...", "..."]}]}'
        raise DataError(f"{place}: no answers", why, remedy)
    return str(name), tuple(texts)


def distinct(questions: Sequence[Question], path: str) -> list[Question]:
    """The questions, if there are some and no two have the same id.

    Raises:
        DataError: two have, or there is none.
    """
    if not questions:
        raise DataError(f"{path} holds no questions", "there is nothing to ask", "name another file")
    names = [question.id for question in questions]
    if twins := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: two questions are called {twins[0]}", "their answers would mix", "rename one")
    return list(questions)
