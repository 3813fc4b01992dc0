"""Chat completions as endpoints and gateways really send them, whole or streamed, read into a `Reply`.

body ─► chunks: the JSON object, or what was streamed (SSE, or an object per line) ─► choices, joined ─► Reply

What can be read is read: a field that is missing, or of an odd type, matters only where the text hangs on it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from rayalign.scoring.services.bodies import parse_body
from rayalign.scoring.services.calls import OK, Failure
from rayalign.scoring.services.transport import Key, Reply, unusable

Chunk = Mapping[str, object]
_NONE = "no chat completion"
_CUT = {
    "length", "max_tokens", "max_output_tokens", "max_new_tokens", "max_completion_tokens", "max_length", "token_limit",
    "model_length", "model_context_window_exceeded", "truncated",
}  # fmt: skip
"""Finish reasons of a reply that reached its limit, as endpoints spell them, in lower case."""
_BROKEN = {
    "error", "abort", "aborted", "cancelled", "canceled", "timeout", "network_error", "insufficient_system_resource",
}  # fmt: skip
"""Those of a reply that something ended which a later attempt may not meet."""
_WITHHELD = {
    "content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii", "refusal",
    "guardrail_intervened", "guardrails", "moderation", "sensitive",
}  # fmt: skip
"""Those of a reply that is not all the model's own, or that it did not want to give."""
_FINISHES = ("finish_reason", "finish_details", "native_finish_reason", "incomplete_details")
_TEXTS = ("text", "output_text")
"""Types of the parts of a message that are its text."""
_STREAM = re.compile("(?:data|event|id|retry):")
_COMMENTS = re.compile(r"(?:\s*:[^\r\n]*(?=[\r\n]|\Z))+")
"""Lines by which gateways keep a connection open, before whatever they send in the end."""
_LINES = re.compile(r"\r\n|\n|\r")
_DONE = "[DONE]"
_WORD = re.compile(r"\[?[\w .!-]{0,40}\]?")
"""What stands between a stream's chunks and is none; a part of a chunk has brackets, quotes or colons."""
_MOST_TOKENS = 1e12


def read_completion(body: str, key: Key) -> Reply:
    """The reply in the body of a completion.

    Raises:
        Failure: there is none, or an error stands in its place.
    """
    chunks, done = _chunks(body, key)
    found = [_choices(chunk) for chunk in chunks]
    choices = [choice for some in found for choice in some]
    for place in [*chunks, *choices, *(_part(choice, name) for choice in choices for name in ("message", "delta"))]:
        if _complains(place.get("error")):
            raise unusable(_NONE, json.dumps(place), place, key)
    if not choices:
        raise unusable(_NONE, body, chunks[0] if chunks else None, key)
    if max(map(len, found)) > 1 or len({str(choice.get("index") or 0) for choice in choices}) > 1:
        raise Failure("error", f"{_NONE}: several choices, where one was asked for", code=OK)
    finish, kind = _finish([*chunks, *choices])
    truncated = kind in _CUT
    text = _joined(choices, "content") or _only_reasoned(choices)
    if not text and not truncated:
        raise Failure("error", f"a message without text ({_why_empty(choices, finish, key)})", code=OK)
    if kind in _WITHHELD or kind in _BROKEN:
        reason = f"a reply that the endpoint ended (finish_reason {key.reason(finish or '')}): {key.reason(text)}"
        raise Failure("error", reason, again=kind in _BROKEN, code=OK)
    if not (done or finish or text.rstrip("`\r\n ").endswith("}")):
        # A verdict is an object: where its last bracket is there, all of it is, whatever was to follow.
        raise Failure("error", f"a stream that broke off: {key.reason(text)}", again=True, code=OK)
    return Reply(text, truncated, *_tokens([*chunks, *choices]))


def _chunks(body: str, key: Key) -> tuple[list[Chunk], bool]:
    """The objects of a body, and whether nothing can be missing behind them."""
    text = body.removeprefix("\ufeff")
    text = (text[comments.end() :] if (comments := _COMMENTS.match(text)) else text).strip()
    try:
        if _STREAM.match(text):
            events = list(_events(text))
            return [event for event in events if isinstance(event, Mapping)], _DONE in events
        try:
            value = parse_body(text)
        except ValueError:
            # An object per line is how some servers stream; a single line that is no JSON fails again.
            lines = [line for line in _LINES.split(text) if line.strip() and not line.startswith(":")]
            return _objects(map(parse_body, lines)), False
        return _objects(value if isinstance(value, list) else [value]), True
    except ValueError:
        raise unusable(_NONE, body, None, key) from None


def _objects(values: Iterable[object]) -> list[Chunk]:
    found: list[Chunk] = []
    for value in values:
        if not isinstance(value, Mapping):
            raise ValueError("not an object")
        found.append(value)
    return found


def _events(text: str) -> Iterator[object]:
    """The data of server-sent events as JSON, `[DONE]` as it stands; an event called error becomes `{"error": data}`.

    Lines that begin with a colon are comments, by which gateways keep a connection open.
    """
    events: list[tuple[bool, list[str]]] = [(False, [])]
    for line in _LINES.split(text):
        name, _, value = line.partition(":")
        if name == "data":
            events[-1][1].append(value.removeprefix(" "))
        elif name == "event":
            events[-1] = (value.strip() == "error", events[-1][1])
        elif not line:
            events.append((False, []))
    for i, (failed, lines) in enumerate(events):
        if failed:
            yield {"error": _told("\n".join(lines).strip())}
            continue
        try:
            yield from _data(lines)
        except ValueError:
            # The connection ended within the last event: what is missing then is said of the whole.
            if i < len(events) - 1:
                raise


def _told(data: str) -> object:
    """What an event called error says: JSON, or words, or nothing."""
    try:
        return parse_body(data) or "an error without a word"
    except ValueError:
        return data or "an error without a word"


def _data(lines: Sequence[str]) -> list[object]:
    """One event's data; where it is no JSON as a whole, each of its lines is: the blank lines between are missing.

    A line of a word, such as ping, only keeps the connection open.
    """
    whole = "\n".join(lines).strip()
    if _WORD.fullmatch(whole):
        return [whole] if whole == _DONE else []
    try:
        return [parse_body(whole)]
    except ValueError:
        told = [one for line in lines if (one := line.strip()) == _DONE or not _WORD.fullmatch(one)]
        return [one if one == _DONE else parse_body(one) for one in told]


def _finish(places: Sequence[Chunk]) -> tuple[str | None, str]:
    """Why a reply ended, as the endpoint says it last, and in lower case; where it was cut or ended for it, that."""
    said = [reason for place in places for name in _FINISHES if (reason := _reason(place.get(name)))]
    kinds = [re.sub(r"[ -]", "_", reason.lower()) for reason in said]
    bad = [i for i, kind in enumerate(kinds) if kind in _CUT | _BROKEN | _WITHHELD]
    place = bad[-1] if bad else len(said) - 1
    return (said[place], kinds[place]) if said else (None, "")


def _reason(value: object) -> str:
    """A finish reason, which some servers put into an object: {"type": "length"}."""
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("type", "reason", "finish_reason") if value.get(name)), None)
    return "" if value is None or isinstance(value, Mapping | list) else str(value)


def _complains(error: object) -> bool:
    """Whether an error is one: some gateways send the field with every reply, empty."""
    return any(error.values()) if isinstance(error, Mapping) else bool(error)


def _choices(chunk: Chunk) -> list[Chunk]:
    choices = chunk.get("choices")
    return [one for one in choices if isinstance(one, Mapping)] if isinstance(choices, list) else []


def _joined(choices: Sequence[Chunk], name: str) -> str:
    """A field's text, over all deltas of a stream; or over its messages, which some streams send in place of them."""
    deltas = "".join(_text(_part(choice, "delta").get(name)) for choice in choices)
    messages = [_text(_part(choice, "message").get(name)) for choice in choices]
    old = "".join(_text(choice.get("text")) for choice in choices) if name == "content" else ""
    return deltas or _of_messages([text for text in messages if text]) or old


def _of_messages(texts: Sequence[str]) -> str:
    """The text of a stream of messages: its pieces joined, unless each holds all before it, or the last repeats all."""
    grows = all(later.startswith(one) for one, later in pairwise(texts))
    return texts[-1] if texts and (grows or texts[-1] == "".join(texts[:-1])) else "".join(texts)


def _part(choice: Chunk, name: str) -> Chunk:
    part = choice.get(name)
    return part if isinstance(part, Mapping) else {}


def _text(content: object) -> str:
    """Text, or the texts of a part or of a list of parts; a model's thoughts among them do not count."""
    texts: list[object] = []
    for part in content if isinstance(content, list) else [content]:
        if not isinstance(part, dict):
            texts.append(part)
        elif part.get("type") in (None, *_TEXTS):
            texts.append(part.get("text"))
    return "".join(text for text in texts if isinstance(text, str))


def _only_reasoned(choices: Sequence[Chunk]) -> str:
    """Reasoning that is one object and nothing else, where there is no text: servers file constrained replies there.

    Any other reasoning is no reply: a verdict in it may be one that the model thought of and dropped.
    """
    thoughts = _reasoning(choices).strip()
    return thoughts if thoughts.startswith("{") and thoughts.endswith("}") else ""


def _reasoning(choices: Sequence[Chunk]) -> str:
    return _joined(choices, "reasoning_content") or _joined(choices, "reasoning")


def _why_empty(choices: Sequence[Chunk], finish: str | None, key: Key) -> str:
    if refusal := _joined(choices, "refusal"):
        return f"refusal: {key.reason(refusal)}"
    only = ", reasoning alone" if _reasoning(choices) else ""
    return f"finish_reason {key.reason(finish or 'none')}{only}"


def _tokens(places: Sequence[Chunk]) -> tuple[int | None, int | None]:
    """Tokens of the question and of the reply, from the last place that counts them."""
    usages: list[Chunk] = [usage for place in places if isinstance(usage := place.get("usage"), dict)]
    usage = usages[-1] if usages else {}
    return _count(usage, "prompt_tokens", "input_tokens"), _count(usage, "completion_tokens", "output_tokens")


def _count(usage: Chunk, *names: str) -> int | None:
    """The first of the counts that is there, also as a float or in quotes; None for what is no count."""
    value = next((usage[name] for name in names if usage.get(name) is not None), None)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return round(number) if math.isfinite(number) and 0 <= number < _MOST_TOKENS else None
