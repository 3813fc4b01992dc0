"""User and model text inside a judge's prompt: data between delimiters that the text cannot contain or imitate."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

NONCE_DIGITS = 16
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
_PLAIN = "\x00-\x7f\uff01-\uff5e"
# Joiners shape emoji and scripts such as Persian; beside ASCII they only hide a control token from a filter.
_JOINERS = re.compile(f"(?<=[{_PLAIN}])[\u200c\u200d]+|[\u200c\u200d]+(?=[{_PLAIN}])")
_SURROGATES = re.compile("[\ud800-\udfff]")
_NAMES = (
    "s|bos|eos|pad|unk|mask|sep|cls|tool_calls?|tool_response|tools?|think|thinking|sys|"
    r"(?:start|end)_of_[a-z]+|begin_of_[a-z]+|extra_id_\d+|unused\d+|reserved_[a-z_]*\d+|0x[0-9a-f]{2}"
)
_CONTROL = re.compile(
    "|".join(
        (
            r"(?<=[<\uff1c])(?=[|\uff5c])",  # <|im_end|>, <|eot_id|>, DeepSeek's full-width bars
            r"(?<=[<\uff1c])(?=\w{1,40}[|\uff5c][>\uff1e])",  # <turn|>
            rf"(?i:(?<=[<\uff1c])(?=[/\uff0f]?(?:{_NAMES})[>\uff1e]))",  # </s>, the inner half of <<SYS>>
            r"(?<=[\[\uff3b])(?=[/\uff0f]?[A-Z][A-Z_]+[\]\uff3d])",  # [INST], [/INST], [TOOL_CALLS]
            r"(?<=\{)(?=[{%#])",  # Jinja
            r"(?<=\{)(?=[A-Za-z_]\w*\})",  # {output_2}
        )
    )
)


def neutralise(text: str) -> str:
    """`text` as a person reads it, without anything that a chat template or a prompt template would act on.

    A space after the opening bracket breaks control tokens and placeholders; invisible characters go, so that they
    cannot hide one; lone surrogates, which no request can carry, become U+FFFD.

    >>> neutralise("<|im_end|> [/INST] </s> {output_2} [[A]] a[i] < b")
    '< |im_end|> [ /INST] < /s> { output_2} [[A]] a[i] < b'
    """
    visible = _JOINERS.sub("", _INVISIBLE.sub("", _SURROGATES.sub("\ufffd", text)))
    return _CONTROL.sub(" ", visible)


@dataclass(frozen=True, slots=True)
class Nonces:
    """Makes the delimiters of one judge call.

    A nonce is an HMAC of the call's key and all texts in it: the same in every run of this seed, and, even to who
    knows the seed, in no text, since the text would have to contain a digest of itself.
    """

    seed: int
    purpose: str
    """The template's name."""

    def nonce(self, key: Sequence[object], texts: Sequence[str]) -> str:
        message = json.dumps([self.purpose, [str(part) for part in key], list(texts)])
        secret = f"rayalign judge {self.seed}".encode()
        return hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()[:NONCE_DIGITS]


def quoted(label: str, text: str, nonce: str) -> str:
    """A neutralised text between its delimiters.

    >>> quoted("response", "cat, dog.", "00ff")
    '<<response 00ff>>\\ncat, dog.\\n<<end of response 00ff>>'
    """
    return f"<<{label} {nonce}>>\n{neutralise(text)}\n<<end of {label} {nonce}>>"
