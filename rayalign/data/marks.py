"""Texts that are a conversation as a chat template writes it: the run's own template would write its marks again. Pure.

<|im_start|>user ...<|im_end|>    <s>[INST] ... [/INST]    <start_of_turn>user ...    <|start_header_id|>user ...
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rayalign.data.dataset import BadRow, DatasetRow
from rayalign.records import Message, prompt_id

_WHO = "(?:system|user|assistant|human|gpt|model|bot|developer|tool)"
_BAR = "[|\uff5c]"
_BOS = rf"(?:<s>|<bos>|<BOS_TOKEN>|<\|begin_of_text\|>|<\|startoftext\|>|<{_BAR}begin.of.sentence{_BAR}>)"
_TURN = (
    rf"<\|(?:im_start|start_header_id|start_of_role|start|turn|{_WHO}|im_{_WHO})\|>|<start_of_turn>"
    rf"|<{_BAR}(?:User|Assistant|System){_BAR}>|<\|(?:START_OF_TURN|USER|CHATBOT|SYSTEM)_TOKEN\|>|GPT4 Correct User:"
)
_OPENING = re.compile(rf"\s*(?:{_BOS}\s*)*(?:{_TURN}|\[INST\]\s*<<SYS>>)|\s*{_BOS}\s*\[INST\]")
_CLOSING = re.compile(
    r"(?:<\|(?:im_end|im_sep|eot_id|eom_id|eot|end|end_of_text|end_of_turn|end_of_role|endoftext|end_header_id|return)\|>"
    rf"|(?:<\|im_start\|>|<start_of_turn>){_WHO}|<\|{_WHO}\|>|<end_of_turn>|<eos>|<\|END_OF_TURN_TOKEN\|>"
    rf"|<{_BAR}(?:end.of.sentence|Assistant){_BAR}>|\[/INST\]|(?:^|\n)[^\S\n]*Assistant:|ASSISTANT:"
    r"|(?:^|\n)[^\S\n]*#+ ?(?:Response|Assistant):?)\s*\Z"
)
MARKED = "holds the marks of a chat template"
_TAIL = 60
"""Characters at the end of a text in which such a mark stands."""
_SPEAKER = re.compile(
    r"^\s*(?:#{1,4}\s*(?:human|user|assistant|system|instruction|response)\b|(?:human|user|assistant|system):)|\[/?INST\]",
    re.IGNORECASE | re.MULTILINE,
)


def has_marks(text: str) -> bool:
    """Whether a text begins as a template writes a turn, or ends as it ends one or opens an answer."""
    left_over = text[-_TAIL:].rstrip().endswith("</s>") and "<s>" not in text  # with <s> it is HTML
    return _OPENING.match(text) is not None or _CLOSING.search(text[-_TAIL:]) is not None or left_over


def written_twice(messages: Sequence[Message], *, templated: bool) -> bool:
    """Whether a turn has such marks and a template writes them again; without one (`none`) they are the turn's own."""
    return templated and any(has_marks(message["content"]) for message in messages)


def unmarked(rows: Iterable[DatasetRow], skipped: dict[str, list[str]], *, templated: bool) -> Iterator[DatasetRow]:
    """The rows but for those whose turns are `written_twice`; the prompt ids of these are added to `skipped`."""
    for row in rows:
        if written_twice(row.messages, templated=templated):
            skipped.setdefault(f"the prompt {MARKED}", []).append(prompt_id(row.messages))
        else:
            yield row


def refuse_templated(text: str) -> None:
    """Raise where an answer has such marks.

    Raises:
        BadRow: it does.
    """
    if has_marks(text):
        raise BadRow(
            f"a text {MARKED}",
            why="the run's own template would write such marks once more around it",
            remedy="give the conversation as messages with role and content, and answers without such marks",
        )


def names_speakers(text: str) -> bool:
    """Whether a line of a text says who speaks, as a template would: "### Human: ", "USER: ".

    >>> names_speakers("### Human: Hi"), names_speakers("The user: who?")
    (True, False)
    """
    return _SPEAKER.search(text) is not None
