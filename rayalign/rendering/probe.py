"""What a chat template does with a conversation, found out by rendering one of marker texts.

    <|im_start|>user\nQUESTION<|im_end|>\n<|im_start|>assistant\n                          with a generation prompt
    <|im_start|>user\nQUESTION<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nANSWER<|im_end|>\n
                             └──────── closing ─────────────────┘└──────── lead ───────┘      └── tail ──┘
                                                                                              └─ end ─┘

A model is sampled behind the first; the second is the same conversation with an answer that is given. An answer is
what stands behind the generation prompt, from its lead to the token that ends it. Some templates for models that think
aloud open the thinking in the generation prompt (`<think>`) and leave it out where an answer is given: what is opened
is then no part of a given conversation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rayalign.errors import ModelError
from rayalign.records import Message
from rayalign.rendering.template import Refusal, Template, owner_of

TEXT = (
    ' <b>&"isn\'t 5% of the case…"</b>\n\n\t{it} \\' + " is so" * 60 + "  **two**  \n\n\n    `four` \t\n\r\n"
    "# \ufb01 \u00bd \uff21 e\u0301 \u00e9 \u00a0\u200b “quoted” -- … ... 🐟 [it](is) $x_1$ <br>\n"
    "```\n\tso\n```\n---\n|a| |b|\n.so"
)
"""What escaping, changes of case, joined lines or spaces, plain or normalised characters, stripped marks or a limit of
length would not leave as it is; trimming does."""
WORDS = ("qorVex", "zanThil", "wubRik", "yelMar", "jelGund")
QUESTION, ANSWER, SYSTEM, AGAIN, THOUGHT = (word + TEXT for word in WORDS)
"""The marker texts: no template writes them of itself."""
_THINKING = re.compile(r"\s*([<\[][^<>\[\]]*(think|thought|reason)[^<>\[\]]*[>\]]\s*)+", re.IGNORECASE)
"""Tags that open thinking, and perhaps close it again."""
_USER: Message = {"role": "user", "content": QUESTION}
_ANSWERED: Message = {"role": "assistant", "content": ANSWER}
_SYSTEM: Message = {"role": "system", "content": SYSTEM}
_AGAIN: Message = {"role": "user", "content": AGAIN}


@dataclass(frozen=True, slots=True)
class Form:
    """How a template puts an answer behind a conversation."""

    end: int | None
    """The id of the token that ends an answer: the first special one behind it, else the tokenizer's EOS, if any."""
    parts: bool = False
    """Whether contents must be given as lists of parts."""
    closing: str = ""
    """What stands between the last message and the answer's lead."""
    lead: str = ""
    """What stands between the generation prompt and an answer."""
    special_lead: str = ""
    """The part of `lead` to the end of its last special token, which no text of sampled tokens shows."""
    tail: str = ""
    """What stands behind an answer."""
    before_end: str = ""
    """The part of `tail` before the token that ends the answer."""
    opened: str = ""
    """What the generation prompt ends with and a given answer does not stand behind."""
    system: str | None = None
    """What is wrong with how a system message comes out; null where nothing is."""
    turns: str | None = None
    """What is wrong with how earlier turns come out; null where nothing is."""
    drops_thinking: bool = False
    """Whether a <think> block in an answer is left out."""


def probe(template: Template, remedy: str) -> Form:
    """Render one user and assistant pair, with a system message and with a second question too; see what comes out.

    Raises:
        ModelError: the template refuses the pair, leaves a text out or changes it, or does not continue its generation
            prompt; or an answer ends with what is no token.
    """
    owner = f"the chat template of {owner_of(template.tokenizer)}"
    failures = []
    for parts in (False, True):
        try:
            prompt = template.render([_USER], reply=True, parts=parts)
            pair = template.render([_USER, _ANSWERED], reply=False, parts=parts)
            break_at = _comes_out(prompt, pair)
        except Refusal as error:
            failures.append(str(error))
        else:
            return _form(template, owner, prompt, pair, break_at, parts, remedy)
    why = " (as text), ".join(failures) + " (as a list of parts)"
    raise ModelError(f"{owner} does not render one user and one assistant message", why, remedy)


def _comes_out(prompt: str, pair: str) -> int:
    """Where the answer begins in `pair`.

    Raises:
        Refusal: a marker does not come out as it is.
    """
    if lost := _lost([_USER], prompt) or _lost([_USER, _ANSWERED], pair):
        raise Refusal(lost)
    return pair.rindex(ANSWER)


def _lost(messages: list[Message], text: str) -> str | None:
    """Why a rendering does not do for its messages, if so."""
    for message in messages:
        if message["content"] not in text:
            changed = message["content"].split()[0].lower() in text.lower()
            return f"the content of the {message['role']} message {'is changed' if changed else 'does not come out'}"
    return None


def _form(template: Template, owner: str, prompt: str, pair: str, at: int, parts: bool, remedy: str) -> Form:
    asked, lead, opened = _beginning(owner, prompt, pair[:at], remedy)
    tail = pair[at + len(ANSWER) :]
    closing = asked[asked.rindex(QUESTION) + len(QUESTION) :]
    end, before_end = _ending(template, owner, tail, parts, remedy)
    aloud: Message = {"role": "assistant", "content": f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"}
    system = _wrong(template, [_SYSTEM, _USER], parts)
    turns = [_USER, _ANSWERED, _AGAIN]
    wrong = _wrong(template, turns, parts) or (_wrong(template, [_SYSTEM, *turns], parts) if system is None else None)
    return Form(
        end, parts, closing, lead, _special(template, lead), tail, before_end, opened, system, wrong,
        _drops(template, aloud, parts),
    )  # fmt: skip


def _special(template: Template, lead: str) -> str:
    """The lead to the end of its last special token."""
    marks = [token.content for token in template.tokenizer.added_tokens_decoder.values() if token.special]
    return lead[: max((lead.rindex(mark) + len(mark) for mark in marks if mark in lead), default=0)]


def _beginning(owner: str, prompt: str, before: str, remedy: str) -> tuple[str, str, str]:
    """(the generation prompt but for what it opens, lead, what it opens).

    Args:
        before: the pair up to the answer.

    Raises:
        ModelError: an answer does not stand behind the generation prompt.
    """
    differ = (place for place, (one, other) in enumerate(zip(prompt, before, strict=False)) if one != other)
    common = next(differ, min(len(prompt), len(before)))
    opened, lead = prompt[common:], before[common:]
    if not opened or (_THINKING.fullmatch(opened) and not lead.strip()):
        return prompt[:common], lead, opened
    raise ModelError(
        f"{owner} does not put an answer behind its generation prompt",
        f"where the model answers it writes {_shown(prompt)}, and before an answer that is there {_shown(before)}: "
        "an answer would be learned in another place than it is sampled in",
        remedy,
    )


def _ending(template: Template, owner: str, tail: str, parts: bool, remedy: str) -> tuple[int | None, str]:
    """(id of the token that ends an answer, what stands before it).

    Raises:
        ModelError: something stands behind the answer that is no token.
    """
    tokenizer = template.tokenizer
    added = tokenizer.added_tokens_decoder
    for special in (True, False):
        found = [
            (tail.index(token.content), -len(token.content), number)
            for number, token in added.items()
            if token.special == special and token.content.strip() and token.content in tail
        ]
        if found:
            place, _, end = min(found)
            return end, tail[:place]
    # Some templates write the generation prompt behind every conversation, which is no end.
    if not tail.strip() or not _behind_answer(template, parts).startswith(tail.rstrip()):
        return tokenizer.eos_token_id if isinstance(tokenizer.eos_token_id, int) else None, ""
    pieces = tokenizer(tail.strip(), add_special_tokens=False)["input_ids"]
    if len(pieces) == 1:
        return pieces[0], tail[: tail.index(tail.strip())]
    raise ModelError(
        f"{owner} ends an answer with {tail.strip()!r}, which is {len(pieces)} tokens",
        "sampling stops at a token: no answer would end",
        f"add it to the tokenizer as a special token, or {remedy}",
    )


def _behind_answer(template: Template, parts: bool) -> str:
    """What stands between an answer and the next question, and the question."""
    try:
        text = template.render([_USER, _ANSWERED, _USER], reply=False, parts=parts)
    except Refusal:
        return ""
    return text[text.rindex(ANSWER) + len(ANSWER) :] if ANSWER in text else ""


def _wrong(template: Template, messages: list[Message], parts: bool) -> str | None:
    """What is wrong with how the messages come out before the model's turn; None where nothing is."""
    try:
        lost = _lost(messages, template.render(messages, reply=True, parts=parts))
    except Refusal as error:
        return f"the chat template refuses it: {error}"
    return lost and f"with the chat template {lost}"


def _drops(template: Template, aloud: Message, parts: bool) -> bool:
    try:
        return THOUGHT not in template.render([_USER, aloud], reply=False, parts=parts)
    except Refusal:
        return False


def _shown(text: str) -> str:
    """The end of a text, for an error."""
    return repr(text[text.rindex(QUESTION) + len(QUESTION) :] if QUESTION in text else text)
