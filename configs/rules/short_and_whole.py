"""A rule for short answers: of 10 to 40 words, ended, without repetition, on the subject."""

from __future__ import annotations

import re

SHORTEST, LONGEST = 10, 40


def score(prompt: str, response: str, metadata: dict) -> float | None:
    """The mean of four marks, each from 0 to 1; 1.0 is an answer with nothing to complain about.

    Length: 1 from 10 to 40 words. End: the answer ends as a sentence does, which one that was cut off rarely does.
    Repetition: the share of different ones among its runs of three words. Subject: one of the beginnings of words in
    the prompt's field `about` is in it; 1 where the prompt has no such field.

    >>> rain = {"about": ["rain", "wet"]}
    >>> score("", "Rain is water that falls out of clouds and makes the ground wet.", rain)
    1.0
    >>> score("", "Rain is water that falls out of clouds and makes the ground", rain)  # no end
    0.75
    >>> score("", "It is wet, it is wet, it is wet, it is wet.", rain)  # 3 different runs of 10
    0.825
    >>> score("", "Rain.", rain), score("", "", rain)  # one word of ten; no answer
    (0.775, 0.0)
    """
    words = re.findall(r"[\w'-]+", response.lower())
    if not words:
        return 0.0
    runs = [tuple(words[start : start + 3]) for start in range(len(words) - 2)]
    repetition = len(set(runs)) / len(runs) if runs else 1.0
    ended = bool(re.search(r"[.!?][\"')\]]*$", response.strip()))
    about = metadata.get("about", [])
    subject = not about or any(word.startswith(beginning) for word in words for beginning in about)
    return (_length(len(words)) + ended + repetition + subject) / 4


def _length(words: int) -> float:
    if words < SHORTEST:
        return words / SHORTEST
    return max(0.0, 1 - max(0, words - LONGEST) / LONGEST)
