"""Readers of formats that compare: two answers of which one is better, and answers that are good or bad. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from rayalign.data import fields
from rayalign.data.dataset import BadRow, Completion, DatasetRow
from rayalign.data.fields import Row, answer_to, asked_in, rest, text, way_out
from rayalign.data.literals import turns_in
from rayalign.data.marks import has_marks, names_speakers
from rayalign.data.names import part_of
from rayalign.data.turns import conversation, dialogue, dialogue_on, is_blank, is_dialogue, joined
from rayalign.records import Message

CHOSEN_IS_REJECTED = "chosen equals rejected"
AS_TURNS = "give chosen and rejected as messages with role and content, or the prompt in a field of its own"
UNREAD = ("problem", "task", "post", "text", "request", "user_prompt", "user_input", "human")
"""Fields that hold a prompt which no reader knows to read."""


def read_preference(record: Row) -> DatasetRow:
    """`chosen` and `rejected`, texts or conversations, behind the prompt that the row has in a field of its own.

    Where nothing in the row names a prompt, it is what both begin with.
    """
    chosen, rejected = (turns_in(fields.require(record, name), name) for name in ("chosen", "rejected"))
    name = fields.asking_field(record)
    if name is None and is_dialogue(chosen) and is_dialogue(rejected):
        return read_hh_rlhf(record)
    lead, used = ([], set()) if name is None else asked_in(record, name)
    chosen, rejected = dialogue_on(chosen, lead, "chosen"), dialogue_on(rejected, lead, "rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        pair = _split_texts(record) if name is None else (lead, chosen, rejected)
    elif isinstance(chosen, list | Mapping) and isinstance(rejected, list | Mapping):
        pair = _split_conversations(chosen, rejected, lead)
    else:
        raise BadRow("chosen and rejected are neither two texts nor two conversations")
    return _pair(record, used, *pair)


def read_hh_rlhf(record: Row) -> DatasetRow:
    """`chosen` and `rejected` are whole dialogues of "Human:" and "Assistant:", alike up to the last answer."""
    sides = [dialogue(text(record, name), name) for name in ("chosen", "rejected")]
    (*messages, chosen), (*others, rejected) = sides
    if messages != others:
        raise BadRow("chosen and rejected answer different dialogues")
    if chosen["role"] != "assistant" or rejected["role"] != "assistant":
        raise BadRow("no closing answer")
    return _pair(record, set(), messages, chosen["content"], rejected["content"])


def _split_texts(record: Row) -> tuple[list[Message], str, str]:
    """The common beginning of two texts, up to a space, and what follows it."""
    for name in record:
        if (part_of(name) in ("system", "history", "passage") or name in UNREAD) and not is_blank(record[name]):
            raise BadRow(f"no prompt beside {name}", why="it may hold the prompt", remedy=way_out("NAME"))
    chosen, rejected = text(record, "chosen"), text(record, "rejected")
    if chosen == rejected:
        raise BadRow(CHOSEN_IS_REJECTED)
    same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    same = min(len(chosen), len(rejected)) if same is None else same
    while same and not chosen[same - 1].isspace():
        same -= 1
    if not chosen[:same].strip():
        raise BadRow("no prompt, and chosen and rejected do not begin alike")
    if names_speakers(chosen[:same]) or has_marks(chosen[:same]):
        why = "the marks of its turns would be learned as words"
        raise BadRow("no prompt, and chosen and rejected are whole conversations in one text", why=why, remedy=AS_TURNS)
    return [{"role": "user", "content": chosen[:same].rstrip()}], chosen[same:], rejected[same:]


def _split_conversations(a: object, b: object, lead: list[Message]) -> tuple[list[Message], str, str]:
    """What two conversations answer, `lead` before it, and their last turns."""
    chosen, rejected = conversation(a, "chosen"), conversation(b, "rejected")
    alike = 0
    while alike < min(len(chosen), len(rejected)) - 1 and chosen[alike] == rejected[alike]:
        alike += 1
    shared, chosen, rejected = chosen[:alike], chosen[alike:], rejected[alike:]
    for side in (chosen, rejected):
        if len(side) != 1 or side[0]["role"] != "assistant":
            raise BadRow("chosen and rejected differ in more than the last answer")
    answer = chosen[0]["content"]
    return joined(_unanswered(lead, answer), shared, "chosen"), answer, rejected[0]["content"]


def _unanswered(lead: list[Message], answer: str) -> list[Message]:
    """The prompt's conversation without the chosen answer, where it repeats that at its end."""
    return lead[:-1] if lead and lead[-1] == {"role": "assistant", "content": answer} else lead


def _pair(record: Row, used: set[str], messages: list[Message], chosen: str, rejected: str) -> DatasetRow:
    pair = {"chosen": chosen, "rejected": rejected}
    completions = [Completion(text(pair, "chosen"), 1.0), Completion(text(pair, "rejected"), 0.0)]
    if chosen == rejected:
        raise BadRow(CHOSEN_IS_REJECTED)
    return DatasetRow(_unanswered(messages, chosen), completions, None, rest(record, {*used, *pair}))


def read_unpaired(record: Row) -> DatasetRow:
    """A prompt, its `completion`, and `label` (or `kto_tag`): true for a good answer (score 1), false for a bad one.

    The answer may also be an `output` or `response`, or the closing turn of the prompt's conversation.
    """
    tag = "kto_tag" if "label" not in record and "kto_tag" in record else "label"
    label = fields.require(record, tag)
    if not isinstance(label, bool):
        raise BadRow(f"{tag} is neither true nor false")
    name = fields.asking_field(record) or fields.prompt_field(record, ("prompt",))
    messages, used = asked_in(record, name)
    used.add(tag)
    answer = next((one for one in ("completion", "output", "response") if one in record), "completion")
    if answer not in record and messages[-1]["role"] == "assistant":
        *messages, last = messages
        completion = text({answer: last["content"]}, answer)
    else:
        messages, completion = answer_to(record, answer, messages)
    return DatasetRow(messages, [Completion(completion, float(label))], None, rest(record, {*used, answer}))
