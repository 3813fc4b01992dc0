"""`rayalign chat`: talk to a round of a run, or to an export, in the terminal or through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from rayalign.commands.chat_source import AskedRound, find_source
from rayalign.records import Message
from rayalign.rendering.renderer import ChatRenderer
from rayalign.tracking.console import terminal_text

if TYPE_CHECKING:
    from rayalign.learning.chat_model import ChatModel

Say = Callable[[str], object]
PROMPT = "> "


class Conversation:
    """Turns as the run rendered its prompts, as many as the model's context takes.

    Args:
        renderer: in template `none` it gives the model the bare text of one message, so that it sees no earlier turns.
        say: gets what is not part of an answer.
    """

    def __init__(
        self, model: ChatModel, renderer: ChatRenderer, *, max_tokens: int, temperature: float, top_p: float, say: Say
    ) -> None:
        self._model, self._renderer, self._say = model, renderer, say
        self._max_tokens, self._temperature, self._top_p = max_tokens, temperature, top_p
        self.messages: list[Message] = []

    def answer(self, text: str) -> Iterator[str]:
        """The answer to `text`, piece by piece; nothing where it does not fit into the context."""
        turn: Message = {"role": "user", "content": text}
        prompt_T, room = self._prompt([*self.messages, turn])
        if room < 1 and self.messages:
            self._say(f"the context of {self._model.context} tokens is full: starting again, without the earlier turns")
            self.messages = []
            prompt_T, room = self._prompt([turn])
        if room < 1:
            self._say(f"{len(prompt_T)} tokens do not fit into the context of {self._model.context}: shorten them")
            return
        pieces = []
        for piece in self._model.stream(
            prompt_T,
            stop_ids=self._renderer.stop_ids,
            max_tokens=min(room, self._max_tokens),
            temperature=self._temperature,
            top_p=self._top_p,
        ):
            pieces.append(piece)
            yield piece
        said = self._renderer.spoken("".join(pieces), self._model.answer_T)
        self.messages += [turn, {"role": "assistant", "content": said}]
        if not self._model.stopped:
            self._say("(cut: the context is full)" if room < self._max_tokens else "(cut at --max-tokens)")

    def _prompt(self, messages: list[Message]) -> tuple[list[int], int]:
        """Token ids, and how many more the context takes."""
        prompt_T = self._renderer.prompt(messages, "this conversation")
        limit = self._model.context
        return prompt_T, self._max_tokens if limit is None else limit - len(prompt_T)


def chat(
    place: str,
    round_index: AskedRound,
    *,
    base: str | None,
    temperature: float | None,
    max_tokens: int | None,
    source: TextIO,
    out: TextIO,
    say: Say,
) -> None:
    """Answer every line of `source` until it ends, or until Ctrl-C.

    Args:
        place: a run's folder or URI, or the folder of an export.
        round_index: whose adapter; 0 is the base model, None the last finished round, "best" the one of the
            best headline metric; an export has but one.
        temperature: None takes the run's, as does `max_tokens`.

    Raises:
        RayalignError: no such round, damaged files, or another base model.
    """
    try:
        conversation = _open(place, round_index, base, temperature, max_tokens, say)
        for line in _lines(source, out):
            if text := line.strip():
                for piece in conversation.answer(text):
                    out.write(terminal_text(piece, out.encoding))
                    out.flush()
                out.write("\n")
                out.flush()
    except KeyboardInterrupt:
        say("")


def _open(
    place: str, round_index: AskedRound, base: str | None, temperature: float | None, max_tokens: int | None, say: Say
) -> Conversation:
    source = find_source(place, round_index, base)
    say(source.shown)
    from rayalign.learning.chat_model import ChatModel

    spoken = source.spoken
    model = ChatModel(source.folder, source.adapter, spoken.dtype, source.tokenizer)
    if spoken.template == "none":
        say("prompts.template is none: the model sees each message alone, as bare text")
    say("one line is one message; Ctrl-D ends")
    return Conversation(
        model,
        ChatRenderer(model.tokenizer, spoken.template, spoken.day),
        max_tokens=spoken.max_tokens if max_tokens is None else max_tokens,
        temperature=spoken.temperature if temperature is None else temperature,
        top_p=spoken.top_p,
        say=say,
    )


def _lines(source: TextIO, out: TextIO) -> Iterator[str]:
    if not (source is sys.stdin and source.isatty()):
        yield from source
        return
    import readline  # noqa: F401 - line editing for input()

    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            out.write("\n")
            return
