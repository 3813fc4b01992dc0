"""A rule for short answers: of 10 to 30 words, ended, on the subject, without repetition and in their own words."""

from __future__ import annotations

import re

SHORTEST, LONGEST = 10, 30
RUN = 4


def score(prompt: str, response: str, metadata: dict) -> float | None:
    """The mean of three marks, times a fourth, each from 0 to 1; 1.0 is an answer with nothing to complain about.

    Length: 1 from 10 to 30 words. End: the answer ends as a sentence does, which one that was cut off rarely does.
    Subject: one of the beginnings of words in the prompt's field `about` is in it; 1 where the prompt has none.
    Times its own words: of its runs of four words, the share that is new, neither said before nor in the prompt.

    >>> rain = {"about": ["rain", "wet"]}
    >>> score("", "Rain is water that falls out of clouds and makes the ground wet.", rain)
    1.0
    >>> round(score("", "Rain is water that falls out of clouds and makes the ground", rain), 3)  # no end
    0.667
    >>> score("", "It is wet, it is wet, it is wet, it is wet.", rain)  # 3 new runs of 9
    0.3333333333333333
    >>> score("Explain rain to a child.", "Explain rain to a child.", rain), score("", "", rain)
    (0.0, 0.0)
    >>> score("", "Rain.", rain)  # one word of ten
    0.7000000000000001
    """
    words = _words(response)
    if not words:
        return 0.0
    runs, known = _runs(words), set(_runs(_words(prompt)))
    new = len(set(runs) - known) / len(runs)
    ended = bool(re.search(r"[.!?][\"')\]]*$", response.strip()))
    about = metadata.get("about", [])
    subject = not about or any(word.startswith(beginning) for word in words for beginning in about)
    return new * (_length(len(words)) + ended + subject) / 3


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def _runs(words: list[str]) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + RUN]) for start in range(max(1, len(words) - RUN + 1))]


def _length(words: int) -> float:
    if words < SHORTEST:
        return words / SHORTEST
    return max(0.0, 1 - max(0, words - LONGEST) / LONGEST)
