"""Questions with answers that services are tried on before anything is sampled."""

from __future__ import annotations

from rayalign.records import Prompt, Sample

_TEXTS = (
    ("How many legs does a cat have?", ("4", "A cat has two legs.")),
    ("Name three animals.", ("cat, dog, horse", "cat, table")),
    ("Write one sentence about a cat.", ("The cat sleeps in the sun.", "A dog is not a cat.")),
)
_TOKEN = 0
"""Services see texts; the token ids of what nobody sampled are of no use to them."""


def canned_answers() -> list[tuple[Prompt, tuple[Sample, Sample]]]:
    """A few questions, each with two answers of which the first is better."""
    found = []
    for i, (question, texts) in enumerate(_TEXTS):
        prompt = Prompt(f"canned {i}", [{"role": "user", "content": question}], [_TOKEN])
        first, second = (Sample(prompt.id, k, text, [_TOKEN], [0.0], "stop", 0, 0) for k, text in enumerate(texts))
        found.append((prompt, (first, second)))
    return found
