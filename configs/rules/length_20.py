"""A rule to copy from: answers of about 20 words are best."""

from __future__ import annotations

WANTED_WORDS = 20


def score(prompt: str, response: str) -> float | None:
    """1.0 for exactly 20 words, falling evenly to 0.0 at no words and at 40 or more.

    >>> score("Describe a rainy day.", "word " * 20), score("Describe a rainy day.", "word " * 15)
    (1.0, 0.75)
    """
    words = len(response.split())
    return max(0.0, 1.0 - abs(words - WANTED_WORDS) / WANTED_WORDS)
