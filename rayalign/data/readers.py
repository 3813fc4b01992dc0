"""One small reader for each dataset format: from a row as published to `DatasetRow`. Pure.

A reader raises `BadRow` with the reason where a row cannot be used. Fields that it does not use become metadata; an
object under `metadata` is spread out among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rayalign.data import fields
from rayalign.data.dataset import BadRow, Completion, DatasetRow
from rayalign.data.fields import Row, answers, asked, number, objects, optional_text, prompt_messages, rest, text
from rayalign.errors import DataError
from rayalign.records import Message, Verdict
from rayalign.records.judgment import verdict_of

CHOSEN_IS_REJECTED = "chosen equals rejected"


def read_prompt(record: Row, names: Sequence[str] = fields.PROMPT_FIELDS) -> DatasetRow:
    """A prompt in the first of the fields `names`, with its target where there is one.

    The target is the closing assistant turn, else the first text among `fields.TARGET_FIELDS`. An `answer` stays in the
    metadata too, where the scorer of this name looks for what is right.
    """
    name = fields.prompt_field(record, names)
    used = {name, "input"} if name == "instruction" else {name}
    messages = prompt_messages(record, name)
    target = None
    if messages and messages[-1]["role"] == "assistant":
        messages, target = messages[:-1], messages[-1]["content"]
    asked(messages)
    for answer in fields.TARGET_FIELDS:
        value = _only_turn(record.get(answer))
        if target is None and answer not in used and isinstance(value, str) and value.strip():
            target = value
            if answer != fields.SCORED_FIELD:
                used.add(answer)
    return DatasetRow(messages, [], fields.unicode_text(target) if target is not None else None, rest(record, used))


def _only_turn(value: object) -> object:
    """The text of an answer that stands as a conversation of one assistant turn (TRL); else the value itself."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        return value[0].get("content") if value[0].get("role") == "assistant" else None
    return value


def read_messages(record: Row) -> DatasetRow:
    """`messages` of role and content; a closing assistant turn is the target."""
    return read_prompt(record, ("messages",))


def read_alpaca(record: Row) -> DatasetRow:
    """`instruction`, `input` (may be empty), `output` (the target)."""
    row = read_prompt(record, ("instruction",))
    try:
        text(record, "output")
    except BadRow as bad:
        return DatasetRow(row.messages, [], row.target, rest(row.metadata, {"output"}), {bad.reason: ["answer 1"]})
    return row


def read_ultrachat(record: Row) -> DatasetRow:
    """`messages`, or as first published `data`: texts of user and assistant in turn."""
    if "messages" in record:
        row = read_prompt(record, ("messages",))
        return DatasetRow(row.messages, [], row.target, rest(row.metadata, {"prompt"}))
    turns = objects(record, "data")
    if not all(isinstance(turn, str) for turn in turns):
        raise BadRow(fields.NOT_TEXT)
    said = [{"role": ("user", "assistant")[place % 2], "content": turn} for place, turn in enumerate(turns)]
    return read_prompt({**rest(record, {"data"}), "messages": said}, ("messages",))


def read_ultrafeedback(record: Row) -> DatasetRow:
    """K answers with scores: `completions` as published, or `A0` to `A9` with `score_A0` to `score_A9`."""
    names = [name for name in (f"A{place}" for place in range(10)) if name in record]
    prompt = fields.prompt_field(record, ("instruction", "prompt"))
    if "completions" in record or not names:
        completions, left_out = answers(objects(record, "completions"), _rated)
        used = {prompt, "completions"}
    else:
        pairs = [{"text": record[name], "score": record.get(f"score_{name}")} for name in names]
        completions, left_out = answers(pairs, lambda pair: Completion(_answer(pair, "text"), number(pair, "score")))
        used = {prompt, *names, *(f"score_{name}" for name in names)}
    messages = asked(prompt_messages(record, prompt))
    return DatasetRow(messages, completions, None, rest(record, used), left_out)


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
    return DatasetRow(_asked(record, "prompt"), completions, best.text, rest(record, {"prompt", "answers"}), left_out)


def read_preference(record: Row) -> DatasetRow:
    """`chosen` and `rejected`, texts or conversations, with a `prompt` or without (then it is what both begin with)."""
    chosen, rejected = fields.require(record, "chosen"), fields.require(record, "rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _pair(record, *_text_pair(record))
    if not isinstance(chosen, list) or not isinstance(rejected, list):
        raise BadRow("chosen and rejected are neither two texts nor two conversations")
    return _pair(record, *_conversation_pair(record))


def read_hh_rlhf(record: Row) -> DatasetRow:
    """`chosen` and `rejected` are whole dialogues of "Human:" and "Assistant:", alike up to the last answer."""
    sides = [fields.dialogue(text(record, name), name) for name in ("chosen", "rejected")]
    (*messages, chosen), (*others, rejected) = sides
    if messages != others:
        raise BadRow("chosen and rejected answer different dialogues")
    if chosen["role"] != "assistant" or rejected["role"] != "assistant":
        raise BadRow("no closing answer")
    return _pair(record, messages, chosen["content"], rejected["content"])


def _text_pair(record: Row) -> tuple[list[Message], str, str]:
    chosen, rejected = text(record, "chosen"), text(record, "rejected")
    if record.get("prompt") is not None:
        return _asked(record, "prompt"), chosen, rejected
    if chosen == rejected:
        raise BadRow(CHOSEN_IS_REJECTED)
    same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    same = min(len(chosen), len(rejected)) if same is None else same
    while same and not chosen[same - 1].isspace():
        same -= 1
    if not chosen[:same].strip():
        raise BadRow("no prompt, and chosen and rejected do not begin alike")
    return [{"role": "user", "content": chosen[:same].rstrip()}], chosen[same:], rejected[same:]


def _conversation_pair(record: Row) -> tuple[list[Message], str, str]:
    chosen, rejected = (fields.conversation(_turns(record, name), name) for name in ("chosen", "rejected"))
    lead: list[Message] = []
    if record.get("prompt") is not None:
        lead = _conversation_of(record, "prompt")
    alike = 0
    while alike < min(len(chosen), len(rejected)) - 1 and chosen[alike] == rejected[alike]:
        alike += 1
    if alike:
        lead, chosen, rejected = chosen[:alike], chosen[alike:], rejected[alike:]
    for side in (chosen, rejected):
        if len(side) != 1 or side[0]["role"] != "assistant":
            raise BadRow("chosen and rejected differ in more than the last answer")
    return lead, chosen[0]["content"], rejected[0]["content"]


def _turns(record: Row, name: str) -> list[Row]:
    turns = objects(record, name)
    if not turns:
        raise BadRow(f"{name} is empty")
    objects_only = [turn for turn in turns if isinstance(turn, Mapping)]
    if len(objects_only) < len(turns):
        raise BadRow(f"{name} is neither text nor a conversation")
    return objects_only


def _pair(record: Row, messages: list[Message], chosen: str, rejected: str) -> DatasetRow:
    asked(messages)
    pair = {"chosen": chosen, "rejected": rejected}
    completions = [Completion(text(pair, "chosen"), 1.0), Completion(text(pair, "rejected"), 0.0)]
    if chosen == rejected:
        raise BadRow(CHOSEN_IS_REJECTED)
    # Some sources repeat the chosen conversation under `messages`.
    return DatasetRow(messages, completions, None, rest(record, {"prompt", "messages", *pair}))


def read_unpaired(record: Row) -> DatasetRow:
    """`prompt`, `completion`, `label`: true for a good answer (score 1), false for a bad one (0)."""
    label = fields.require(record, "label")
    if not isinstance(label, bool):
        raise BadRow("label is neither true nor false")
    completion = Completion(_answer(record, "completion"), float(label))
    return DatasetRow(_asked(record, "prompt"), [completion], None, rest(record, {"prompt", "completion", "label"}))


def read_judgments(record: Row) -> DatasetRow:
    """Alpaca with a `judgment` (null where the answer is without fault), and perhaps `score` and a better `i_ans`."""
    if "judgment" not in record:
        fields.require(record, "judgment")
    score = number(record, "score") if record.get("score") is not None else None
    judgment = record["judgment"] if record["judgment"] is None else text(record, "judgment")
    verdict = _verdict(judgment, score)
    completion = Completion(text(record, "output"), score, judgment, verdict, optional_text(record, "i_ans"))
    used = {"instruction", "input", "output", "judgment", "score", "i_ans"}
    fields.prompt_field(record, ("instruction",))
    return DatasetRow(asked(prompt_messages(record, "instruction")), [completion], None, rest(record, used))


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
    question = {"role": "user", "content": text(record, "question")}
    return DatasetRow([question], [completion], None, rest(record, {"question", "answer", "feedback"}))


def split_critiques(record: Row) -> list[tuple[str, Row]]:
    """A passage with many questions, as rows of one question each."""
    data = fields.require(record, "data")
    if not isinstance(data, Mapping):
        raise BadRow("data is not an object")
    passage = fields.require(data, "passage")
    if not isinstance(passage, Mapping):
        raise BadRow("passage is not an object")
    shared = {**rest(record, {"data"}), "passage": passage}
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
    messages, metadata = asked(prompt_messages(record, "instruction")), rest(record, {"instruction", "input", "output"})
    try:
        output = text(record, "output")
    except BadRow as bad:
        # Some published models gave no answer; the instruction stays one of the benchmark's.
        return DatasetRow(messages, [], None, metadata, {bad.reason: ["answer 1"]})
    return DatasetRow(messages, [Completion(output)], output, metadata)


def _asked(record: Row, name: str) -> list[Message]:
    return asked(_conversation_of(record, name))


def _conversation_of(record: Row, name: str) -> list[Message]:
    """The conversation in a field, also where it is a dialogue of Human: and Assistant: with the answer left open."""
    value = fields.require(record, name)
    if not fields.is_dialogue(value):
        return prompt_messages(record, name)
    messages = fields.dialogue(value, name)
    return messages[:-1] if messages[-1] == {"role": "assistant", "content": ""} else messages


def _answer(record: Row, name: str) -> str:
    """An answer that is a text, or a conversation that ends in one."""
    value = record.get(name)
    if isinstance(value, list) and value:
        turns = fields.conversation(_turns(record, name), name)
        if turns[-1]["role"] != "assistant":
            raise BadRow("no closing answer")
        return text({name: turns[-1]["content"]}, name)
    return text(record, name)
