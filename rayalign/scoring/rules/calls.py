"""Calls of a rule, in whatever process: one item at a time, many at once in an event loop, or a whole batch.

What a rule returns or raises becomes an outcome; what is not a finite number is never a reward.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
import numbers
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rayalign.records import JsonObject, ScoreStatus
from rayalign.scoring.failures import STOPS, Alone, in_words, reason_of, storable
from rayalign.scoring.rules.file import RuleFunction

T = TypeVar("T")
Item = tuple[str, str, JsonObject | None]
"""The prompt, the response, and the prompt's metadata where the rule asks for it."""
Outcome = tuple[ScoreStatus, float | None, str | None, float]
"""What came of an item: status, reward, reason, seconds. The reason of an `ok` item says that it was asked alone."""
Mark = Callable[[int], None]
"""Is told the place of the item that runs from now on, or `IDLE`."""
IDLE = -1
RETURNED = "the rule returned "
"""How the reason of a result begins that is not what a rule may return."""
ASKED_ALONE = "asked alone: its batch failed"


def is_async(function: RuleFunction) -> bool:
    """Whether calling it gives something to await; also of an object whose `__call__` is async."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def outcome_of(value: Any, seconds: float) -> Outcome:
    """What a returned value means; never raises."""
    if value is None:
        return "abstain", None, "the rule returned None", seconds
    reward = _finite(value)
    if reward is None:
        reason = f"{RETURNED}{in_words(repr, value)}, which is not a finite number"
        return "error", None, storable(reason), seconds
    return "ok", reward, None, seconds


def _finite(value: Any) -> float | None:
    """The number as a float; None for anything else, and for what a float cannot hold."""
    # The abstract class is slow to ask, and most rules return a float.
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        return None
    try:
        reward = float(value)
    except (OverflowError, ValueError, TypeError):
        return None
    return reward if math.isfinite(reward) else None


def failure(error: BaseException, seconds: float) -> Outcome:
    return "error", None, reason_of(error), seconds


def failed(outcome: Outcome) -> bool:
    return outcome[0] in ("error", "timeout")


def late(timeout_s: float, seconds: float) -> Outcome:
    return "timeout", None, f"the rule took longer than timeout_s = {timeout_s:g}", seconds


def _call(function: RuleFunction, prompt: object, response: object, metadata: object) -> Any:
    """Call a rule; what it changes in the metadata no other call sees, of whatever scorer."""
    if metadata is None:
        return function(prompt, response)
    # Answers to one prompt share its metadata: each of a batch needs a copy of its own.
    own = [copy.deepcopy(one) for one in metadata] if isinstance(metadata, list) else copy.deepcopy(metadata)
    return function(prompt, response, metadata=own)


def call_each(function: RuleFunction, items: Sequence[Item], mark: Mark | None = None) -> Iterator[Outcome]:
    """Outcomes in order, each as soon as it is there; an item that raises fails alone."""
    for place, item in enumerate(items):
        if mark:
            mark(place)
        started = time.perf_counter()
        try:
            value = _call(function, *item)
            outcome = outcome_of(value, time.perf_counter() - started)
        except STOPS:
            raise
        except BaseException as error:
            outcome = failure(error, time.perf_counter() - started)
        yield outcome


class AsyncCalls:
    """Calls of an async rule, at most `concurrency` at once; belongs to one event loop."""

    def __init__(
        self, function: RuleFunction, concurrency: int, timeout_s: float | None = None, mark: Mark | None = None
    ) -> None:
        self._function, self._timeout_s, self._mark = function, timeout_s, mark
        self._gate = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency

    async def each(self, items: Sequence[Item], done: Callable[[int, Outcome], None]) -> None:
        """Run all items; `done` gets each one's place and outcome as it ends."""
        todo = iter(enumerate(items))

        async def take() -> None:
            for place, item in todo:
                async with self._gate:
                    done(place, await self._one(place, item))

        # A task for each of the bound, not for each item: tasks cost more than a trivial rule.
        await asyncio.gather(*(take() for _ in range(min(self._concurrency, len(items)))))

    async def _one(self, place: int, item: Item) -> Outcome:
        started = time.perf_counter()
        try:
            coroutine = _call(self._function, *item)
            if self._mark:
                coroutine = traced(coroutine, self._mark, place)
            value = await coroutine if self._timeout_s is None else await within(coroutine, self._timeout_s)
            return outcome_of(value, time.perf_counter() - started)
        except _LateError:
            return late(self._timeout_s or 0.0, time.perf_counter() - started)
        except BaseException as error:
            if _ends_the_task(error):
                raise
            return failure(error, time.perf_counter() - started)


def _ends_the_task(error: BaseException) -> bool:
    """Whether it is the event loop's own word that the task is over, and not the user's function that raised it."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, GeneratorExit)


class _LateError(Exception):
    """Not TimeoutError, which the user's function may raise for reasons of its own."""


@dataclass(frozen=True, slots=True)
class _Raised:
    """What an awaitable raised, as a value."""

    error: BaseException


async def within(awaitable: Awaitable[T], timeout_s: float) -> T:
    """The awaitable's result. It is cancelled when it is late, and not waited for: it may refuse to end."""

    async def run() -> T | _Raised:
        # An exception is handed over as a value: a late one that nobody awaits must not be reported as lost, and
        # SystemExit must not reach the event loop.
        try:
            return await awaitable
        except BaseException as error:
            if _ends_the_task(error):
                raise
            return _Raised(error)

    task = asyncio.ensure_future(run())
    finished, _ = await asyncio.wait({task}, timeout=timeout_s)
    if not finished:
        task.cancel()
        raise _LateError
    value = task.result()
    if isinstance(value, _Raised):
        raise value.error
    return value


@types.coroutine
def traced(coroutine: Coroutine[object, Any, T], mark: Mark, place: int) -> Generator[object, Any, T]:
    """Drive a coroutine and mark when its own code runs, so that one that blocks the event loop can be named."""
    step: Callable[[Any], object] = coroutine.send
    value: Any = None
    while True:
        mark(place)
        try:
            waits_for = step(value)
        except StopIteration as end:
            return end.value
        finally:
            mark(IDLE)
        try:
            step, value = coroutine.send, (yield waits_for)
        except BaseException as error:
            step, value = coroutine.throw, error


def call_batch(function: RuleFunction, items: Sequence[Item], mark: Mark | None = None) -> list[Outcome]:
    """One call with all items; where it raises, one call for each of them."""
    started = time.perf_counter()
    if mark:
        mark(0)
    try:
        values = _call(function, *_columns(items))
    except STOPS:
        raise
    except BaseException as error:
        outcomes, again = [failure(error, time.perf_counter() - started)] * len(items), Alone(len(items))
        for place in again.places():
            outcomes[place] = alone(call_batch(function, [items[place]], mark)[0])
            again.note(failed(outcomes[place]))
        return outcomes
    return _batch_outcomes(values, len(items), time.perf_counter() - started)


async def call_batch_async(
    function: RuleFunction, items: Sequence[Item], timeout_s: float | None, mark: Mark | None = None
) -> list[Outcome]:
    """The same with an async rule; `timeout_s` counts per item, and who is late is not asked again."""
    started = time.perf_counter()
    limit = None if timeout_s is None else timeout_s * len(items)
    if mark:
        mark(0)
    try:
        call = _call(function, *_columns(items))
        values = await call if limit is None else await within(call, limit)
    except _LateError:
        return [late_batch(limit or 0.0, len(items))] * len(items)
    except BaseException as error:
        if _ends_the_task(error):
            raise
        outcomes, again = [failure(error, time.perf_counter() - started)] * len(items), Alone(len(items))
        for place in again.places():
            outcomes[place] = alone((await call_batch_async(function, [items[place]], timeout_s, mark))[0])
            again.note(failed(outcomes[place]))
        return outcomes
    return _batch_outcomes(values, len(items), time.perf_counter() - started)


def alone(outcome: Outcome) -> Outcome:
    """The outcome of an item that was asked alone after its batch had failed."""
    status, reward, reason, seconds = outcome
    return status, reward, ASKED_ALONE if status == "ok" else reason, seconds


def late_batch(limit: float, count: int) -> Outcome:
    return "timeout", None, f"the rule took longer than {limit:g} s for a batch of {count}", limit


def _columns(items: Sequence[Item]) -> tuple[list[str], list[str], list[JsonObject] | None]:
    metadata = [item[2] for item in items if item[2] is not None]
    return [item[0] for item in items], [item[1] for item in items], metadata or None


def _batch_outcomes(values: object, count: int, seconds: float) -> list[Outcome]:
    if not isinstance(values, list | tuple):
        reason = f"{RETURNED}a {type(values).__name__} for a batch of {count}, not a list"
        return [("error", None, reason, seconds)] * count
    if len(values) != count:
        # Which answer each value belongs to cannot be known.
        return [("error", None, f"{RETURNED}{len(values)} scores for a batch of {count}", seconds)] * count
    return [outcome_of(value, seconds / count) for value in values]
