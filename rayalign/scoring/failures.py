"""What a scorer raises, whatever it is, as the reason of a missing score."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rayalign.errors import InterruptedRunError, RayalignError

STOPS = (KeyboardInterrupt, InterruptedRunError)
"""What ends the run because someone wants it to, wherever it is raised; all else that a scorer raises is a failure."""
LONGEST_REASON = 1000
GIVE_UP = 8
"""After so many answers that failed alone too, and none that did not, the rest is not asked again."""


def reason_of(error: BaseException) -> str:
    """An error in words; also of one that cannot be put into words itself."""
    if isinstance(error, RayalignError):
        return storable(error.found)
    return storable(f"{type(error).__name__}: {in_words(str, error)}")


def in_words(write: Callable[[object], str], value: object) -> str:
    """`str` or `repr` of a value of the user's, which may raise itself."""
    try:
        return write(value)
    except STOPS:
        raise
    except BaseException as error:
        return f"<{type(value).__name__}, whose text raises {type(error).__name__}>"


def storable(text: str) -> str:
    """A reason as a run can store it: not endless, and without lone surrogates, which UTF-8 cannot hold."""
    short = text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"
    return without_surrogates(short)


def without_surrogates(text: str) -> str:
    """The text with a replacement character for each lone surrogate."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Alone:
    """The answers of a failed batch, asked about one by one, so that one bad answer does not lose the others.

    Args:
        count: answers of the batch; one that failed alone is not asked about again.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._failures = 0
        self._worked = False

    def places(self) -> Iterator[int]:
        """Which answer to ask about next; `note` is called in between. Ends early where nothing but failures comes."""
        for place in range(self._count if self._count > 1 else 0):
            if not self._worked and self._failures == GIVE_UP:
                return
            yield place

    def note(self, failed: bool) -> None:
        """Whether that answer failed alone too."""
        self._failures += failed
        self._worked = self._worked or not failed
