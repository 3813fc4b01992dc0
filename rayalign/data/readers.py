"""One small reader for each dataset format: from a row as published to `DatasetRow`. Pure.

Those of pairs and of single answers that are good or bad stand in `data/pair_readers.py`.

A reader raises `BadRow` with the reason where a row cannot be used. Fields that it does not use become metadata; an
object under `metadata` is spread out among them. `data/funnel.py` does the rest for all formats: it puts system turn
and history before the conversation, and checks what was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rayalign.data import fields
from rayalign.data.dataset import BadRow, Completion, DatasetRow
from rayalign.data.fields import (
    CHATS,
    Row,
    answer_to,
    answers,
    asked_in,
    number,
    objects,
    optional_text,
    prompt_in,
    rest,
    text,
)
from rayalign.data.literals import turns_in
from rayalign.data.turns import NOT_TEXT, is_conversation
from rayalign.errors import DataError
from rayalign.records import JsonObject, Message, Verdict
from rayalign.records.judgment import verdict_of


def read_prompt(record: Row, names: Sequence[str] = fields.PROMPT_FIELDS, *, alone: bool = False) -> DatasetRow:
    """A prompt in the first of the fields `names`, with its target where there is one.

    The target is the closing assistant turn, else the first answer among `fields.TARGET_FIELDS`. An `answer` stays in
    the metadata too, where the scorer of this name looks for what is right.

    Args:
        alone: whether the field is the whole prompt, but for the `input` of an instruction.
    """
    name = fields.prompt_field(record, names)
    (messages, used), target = prompt_in(record, name, alone=alone), None
    if messages[-1]["role"] == "assistant":
        messages, target = messages[:-1], messages[-1]["content"]
    for answer in fields.TARGET_FIELDS:
        value = turns_in(record.get(answer), answer)
        if target is not None or answer in used or not (is_conversation(value) or _is_text(value)):
            continue
        messages, target = answer_to(record, answer, messages)
        if answer != fields.SCORED_FIELD:
            used.add(answer)
    return DatasetRow(messages, [], target, rest(record, used))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _without(record: Row, name: str) -> JsonObject:
    return {key: value for key, value in record.items() if key != name}


def read_messages(record: Row) -> DatasetRow:
    """`messages`, or `conversations` (ShareGPT); a closing assistant turn is the target."""
    return read_prompt(record, CHATS)


def read_alpaca(record: Row) -> DatasetRow:
    """`instruction`, `input` (may be empty), `output` (the target)."""
    row = read_prompt(record, ("instruction",))
    if not is_conversation(turns_in(record.get("output"), "output")):
        try:
            text(record, "output")
        except BadRow as bad:
            return replace(row, metadata=_without(row.metadata, "output"), left_out={bad.reason: ["answer 1"]})
    return row


def read_ultrachat(record: Row) -> DatasetRow:
    """`messages`, or as first published `data`: texts of user and assistant in turn."""
    if "messages" in record:
        row = read_prompt(record, ("messages",))
        return replace(row, metadata=_without(row.metadata, "prompt"))
    turns = objects(record, "data")
    if not all(isinstance(turn, str) for turn in turns):
        raise BadRow(NOT_TEXT)
    said = [{"role": ("user", "assistant")[place % 2], "content": turn} for place, turn in enumerate(turns)]
    return read_prompt({**_without(record, "data"), "messages": said}, ("messages",))


def read_ultrafeedback(record: Row) -> DatasetRow:
    """K answers with scores: `completions` as published, or `A0`, `A1`, ... with `score_A0`, `score_A1`, ..."""
    names = fields.numbered(record, "A")
    prompt = fields.prompt_field(record, ("instruction", "prompt", "question", "query"))
    messages, used = prompt_in(record, prompt)
    if "completions" in record or not names:
        completions, left_out = answers(objects(record, "completions"), _rated)
        return DatasetRow(messages, completions, None, rest(record, {*used, "completions"}), left_out)
    if is_conversation(turns_in(record.get(names[0]), names[0])):
        messages, _ = answer_to(record, names[0], messages)

    def read(pair: Row) -> Completion:
        (name,) = pair
        same, answer = answer_to(record, name, messages)
        if same != messages:
            raise BadRow("an answer to another conversation")
        return Completion(answer, number(record, f"score_{name}"))

    completions, left_out = answers([{name: record.get(name)} for name in names], read)
    return DatasetRow(
        messages, completions, None, rest(record, {*used, *names, *(f"score_{name}" for name in names)}), left_out
    )


def _rated(item: Row) -> Completion:
    score, critique = number(item, "overall_score"), optional_text(item, "critique")
    verdict = _verdict(critique, score) if critique is not None else None
    return Completion(text(item, "response"), score, critique, verdict)


def read_nectar(record: Row) -> DatasetRow:
    """`prompt`, a dialogue, and `answers` with ranks: the best (rank 1) is the target, the score is minus the rank."""
    completions, left_out = answers(
        objects(record, "answers"), lambda item: Completion(text(item, "answer"), -number(item, "rank"))
    )
    best = max(completions, key=lambda completion: completion.score or 0.0)
    messages, used = asked_in(record, "prompt")
    return DatasetRow(messages, completions, best.text, rest(record, {*used, "answers"}), left_out)


def read_judgments(record: Row) -> DatasetRow:
    """Alpaca with a `judgment` (null where the answer is without fault), and perhaps `score` and a better `i_ans`."""
    if "judgment" not in record:
        fields.require(record, "judgment")
    score = number(record, "score") if record.get("score") is not None else None
    judgment = record["judgment"] if record["judgment"] is None else text(record, "judgment")
    verdict = _verdict(judgment, score)
    completion = Completion(text(record, "output"), score, judgment, verdict, optional_text(record, "i_ans"))
    fields.prompt_field(record, ("instruction",))
    messages, used = prompt_in(record, "instruction")
    used |= {"output", "judgment", "score", "i_ans"}
    return DatasetRow(messages, [completion], None, rest(record, used))


def _verdict(judgment: str | None, score: float | None) -> Verdict:
    try:
        return verdict_of(judgment, score)
    except DataError as error:
        reason = "no judgment beside a low score" if judgment is None else error.found
        raise BadRow(reason, why=error.why, remedy=error.remedy) from None


def read_shepherd(record: Row) -> DatasetRow:
    """`question`, `answer`, `feedback`."""
    feedback = text(record, "feedback")
    completion = Completion(text(record, "answer"), None, feedback, _verdict(feedback, None))
    text(record, "question")
    messages, used = prompt_in(record, "question")
    return DatasetRow(messages, [completion], None, rest(record, {*used, "answer", "feedback"}))


def split_critiques(record: Row) -> list[tuple[str, Row]]:
    """A passage with many questions, as rows of one question each."""
    data = fields.require(record, "data")
    if not isinstance(data, Mapping):
        raise BadRow("data is not an object")
    passage = fields.require(data, "passage")
    if not isinstance(passage, Mapping):
        raise BadRow("passage is not an object")
    shared = {**_without(record, "data"), "passage": passage}
    questions = [item if isinstance(item, Mapping) else {} for item in objects(data, "questions")]
    return [(f"question {place}", {**shared, **item}) for place, item in enumerate(questions, 1)]


def read_critique(record: Row) -> DatasetRow:
    """One question on a `passage` and its `answers`, each with `feedback`: rating (1 to 7), critiques, refinements."""
    shared = record["passage"]
    assert isinstance(shared, Mapping)  # `split_critiques` has seen to it
    passage, question = text(shared, "text"), text(record, "question")
    completions, left_out = answers(objects(record, "answers"), _criticised)
    used = {"passage", "question", "answers", "rankings"}
    messages: list[Message] = [{"role": "user", "content": f"{passage}\n{question}"}]
    return DatasetRow(messages, completions, None, rest(record, used), left_out)


def _criticised(item: Row) -> Completion | None:
    answer, feedback = text(item, "answer"), fields.require(item, "feedback")
    if not isinstance(feedback, Mapping):
        raise BadRow("feedback is not an object")
    if feedback.get("skip"):
        raise BadRow("skipped by the labeler")
    score = number(feedback, "rating")
    critiques = [one for one in feedback.get("critiques") or [] if isinstance(one, Mapping)]
    judgment = " ".join(text(one, "text").strip() for one in critiques) or None
    revisions = [optional_text(one, "refinement") for one in critiques]
    verdict: Verdict = _verdict(None, score) if judgment is None else "flawed"
    return Completion(answer, score, judgment, verdict, revisions[-1] if revisions else None)


def read_alpaca_eval(record: Row) -> DatasetRow:
    """`instruction`, `output`, `generator`: one model's answer, which is also the reference answer."""
    fields.prompt_field(record, ("instruction",))
    messages, used = prompt_in(record, "instruction")
    metadata = rest(record, {*used, "output"})
    try:
        output = text(record, "output")
    except BadRow as bad:
        # Some published models gave no answer; the instruction stays one of the benchmark's.
        return DatasetRow(messages, [], None, metadata, {bad.reason: ["answer 1"]})
    return DatasetRow(messages, [Completion(output)], output, metadata)
