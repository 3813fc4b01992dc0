"""What scorers that call a service share: what the cache knows is not asked, and what is asked goes to the cache.

questions ─► cache, under each version that counts ─┬─ known ────────────────────────────────► answers, in order
                                                    └─ missing ─► requests, all at once ─► cache ─┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rayalign.scoring.services.cache import ScoreCache
from rayalign.scoring.services.calls import LoopThread

T = TypeVar("T")
Q = TypeVar("Q")
"""What is asked about: one answer, or a pair of them."""
A = TypeVar("A")
"""What came of it, failures included."""


@dataclass(frozen=True, slots=True)
class Questions(Generic[Q, A]):
    """How questions are put to a service, and how its answers are kept."""

    ask: Callable[[Sequence[Q], float], Awaitable[Sequence[A]]]
    """Makes one request about some questions, until a time of the event loop's clock; one answer per question."""
    keys: Sequence[Callable[[Q], bytes]]
    """A question's key under each version whose answers count; answers are kept under the first."""
    read: Callable[[object], A | None]
    """The answer that a stored value gives; None where it gives none."""
    stored: Callable[[A], object]
    """The value to store of an answer; None for an answer that must be asked for again."""


class CachedCalls(Generic[Q, A]):
    """The event loop, the cache and the time limit of one scorer.

    Args:
        name: the scorer's, for its thread.
        cache: gets every answer as it comes, so that a process that is killed has lost none.
        deadline_s: time limit of an `answers` call that sets none itself.
        batch: questions per request.
    """

    def __init__(
        self, name: str, questions: Questions[Q, A], cache: ScoreCache | None, *, deadline_s: float, batch: int = 1
    ) -> None:
        self._questions, self._cache, self._deadline_s, self._batch = questions, cache, deadline_s, batch
        self._thread = LoopThread(name)

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run a coroutine on the scorer's event loop and wait for its result."""
        return self._thread.run(work)

    def close(self) -> None:
        """End the event loop, then close the cache, which what runs on the loop still writes to."""
        self._thread.close()
        if self._cache is not None:
            self._cache.close()

    def answers(self, questions: Sequence[Q], within_s: float | None = None) -> list[A]:
        """One answer per question, in their order.

        Args:
            within_s: time limit for all of them.
        """
        found = self._remembered(questions)
        missing = [i for i in range(len(questions)) if i not in found]
        if missing:
            limit_s = self._deadline_s if within_s is None else within_s
            fresh = self.run(self._ask_all([questions[i] for i in missing], limit_s))
            found |= zip(missing, fresh, strict=True)
        return [found[i] for i in range(len(questions))]

    def _remembered(self, questions: Sequence[Q]) -> dict[int, A]:
        """What the cache knows, by the question's place: under the first version, or else under an earlier one."""
        found: dict[int, A] = {}
        if self._cache is None:
            return found
        for key in self._questions.keys:
            missing = [i for i in range(len(questions)) if i not in found]
            known = self._cache.get([key(questions[i]) for i in missing])
            for i, value in zip(missing, known, strict=True):
                if value is not None and (answer := self._questions.read(value)) is not None:
                    found[i] = answer
        return found

    async def _ask_all(self, questions: Sequence[Q], limit_s: float) -> list[A]:
        deadline = asyncio.get_running_loop().time() + limit_s
        parts = [questions[start : start + self._batch] for start in range(0, len(questions), self._batch)]
        answers = await asyncio.gather(*(self._ask_and_keep(part, deadline) for part in parts))
        return [answer for some in answers for answer in some]

    async def _ask_and_keep(self, questions: Sequence[Q], deadline: float) -> Sequence[A]:
        answers = await self._questions.ask(questions, deadline)
        key, stored = self._questions.keys[0], self._questions.stored
        pairs = zip(questions, answers, strict=True)
        entries = {key(question): value for question, answer in pairs if (value := stored(answer)) is not None}
        if self._cache is not None and entries:
            # In another thread: a cache that another process is writing to must not hold up the replies.
            await asyncio.to_thread(self._cache.put, entries)
        return answers
