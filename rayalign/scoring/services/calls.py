"""Calls of services over the network: how many at once, how many per minute, when again, when given up.

    run(attempt) ── slot (concurrency) ── gate (requests and tokens per minute, Retry-After) ── attempt ── reply
                          └────────────── backoff with jitter ◄── Failure that may pass ◄──┘

One `Caller` serves all calls of one backend, on one event loop.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, TypeVar

from rayalign.config.services import CallLimits

T = TypeVar("T")
MINUTE_S = 60.0
BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
OK = 200
MAY_PASS = frozenset({408, 409, 425, 429})
"""HTTP statuses below 500 that a later attempt may not meet."""
FOR_SALE = frozenset({402, 429})
"""HTTP statuses of an account that has no more requests, for now or for its money."""


@dataclass(eq=False)
class Failure(Exception):
    """A call that gave no usable reply.

    Args:
        status: the score's status.
        reason: what went wrong, in words and without secrets.
        again: whether another attempt may go better.
        retry_after_s: how long the service wants to be left alone.
        code: the HTTP status of the reply; None where none came.
    """

    status: Literal["error", "timeout"]
    reason: str
    again: bool = False
    retry_after_s: float | None = None
    code: int | None = None

    def __str__(self) -> str:
        return self.reason


def http_failure(code: int, detail: str, retry_after: str | None) -> Failure:
    """The failure that an HTTP status stands for.

    >>> http_failure(503, "busy", "2")
    Failure(status='error', reason='HTTP 503: busy', again=True, retry_after_s=2.0, code=503)
    """
    again = may_pass(code)
    return Failure("error", f"HTTP {code}: {detail}", again, retry_after_s(retry_after) if again else None, code)


def remedy_of(failure: Failure) -> str | None:
    """What a user can do about a failure that another time, another load or another limit may not meet.

    >>> remedy_of(http_failure(404, "no such model", None))
    """
    again = "then run the same command again"
    if failure.status == "timeout":
        return f"see why it is slow (it may be loading its model still), or raise limits.timeout_s, {again}"
    if failure.code in FOR_SALE or failure.retry_after_s is not None:
        lower = "lower limits.concurrency, limits.requests_per_minute or limits.tokens_per_minute"
        return f"wait until the service takes requests again, {lower}, or raise the account's quota or balance, {again}"
    if failure.code is not None and may_pass(failure.code):
        return f"wait until the service works again, or see its log for what failed, {again}"
    return None


def may_pass(code: int) -> bool:
    """Whether a later attempt may not meet this HTTP status."""
    return code >= 500 or code in MAY_PASS


def retry_after_s(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date; None for what is neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if seconds < float("inf") else None


class Window:
    """At most `per_minute` units begun within any 60 seconds; a single larger amount goes alone."""

    def __init__(self, per_minute: float) -> None:
        self._limit = per_minute
        self._begun: deque[list[float]] = deque()
        self._sum = 0.0

    def wait_s(self, now: float, amount: float) -> float:
        """Seconds from `now` until `amount` fits."""
        while self._begun and self._begun[0][0] + MINUTE_S <= now:
            self._sum -= self._begun.popleft()[1]
        over = self._sum + amount - self._limit
        for begun, units in self._begun:
            if over <= 0:
                return 0.0
            over -= units
            if over <= 0 or begun == self._begun[-1][0]:
                return begun + MINUTE_S - now
        return 0.0

    def add(self, now: float, amount: float) -> list[float]:
        """Count `amount`; the entry can be mended with `mend` once the true amount is known."""
        self._begun.append([now, amount])
        self._sum += amount
        return self._begun[-1]

    def mend(self, entry: list[float], amount: float) -> None:
        if self._begun and entry[0] >= self._begun[0][0]:
            self._sum += amount - entry[1]
            entry[1] = amount


class Caller:
    """Makes calls within the limits.

    Args:
        limits: what this process alone may use.
        seed: decides the jitter.
        now, sleep: the clock, for tests.
    """

    def __init__(
        self,
        limits: CallLimits,
        seed: int = 0,
        now: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._limits = limits
        self._random = random.Random(seed)
        self._now = now or (lambda: asyncio.get_running_loop().time())
        self._sleep = sleep
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._gate = asyncio.Lock()
        self._requests = Window(limits.requests_per_minute or float("inf"))
        self._tokens = Window(limits.tokens_per_minute or float("inf"))
        self._closed_until = float("-inf")
        self.retries = 0
        """How many attempts since the start were not the first of their call."""

    async def run(
        self,
        attempt: Callable[[], Awaitable[T]],
        deadline: float,
        tokens: float = 0.0,
        used: Callable[[T], float | None] = lambda reply: None,
    ) -> T:
        """The reply of the first attempt that gives one.

        Args:
            attempt: makes one request; raises `Failure`.
            deadline: time of the clock at which the call is given up.
            tokens: estimate of the tokens that a request will use.
            used: the true number, from a reply.

        Raises:
            Failure: no attempt gave a reply, or the deadline passed.
        """
        for number in range(self._limits.retries + 1):
            try:
                return await self._within(deadline, lambda: self._attempt(attempt, deadline, tokens, used))
            except Failure as failure:
                wait_s = self._backoff_s(number, failure)
                if not failure.again or number == self._limits.retries:
                    raise
                if self._now() + wait_s >= deadline:
                    failure.reason += f"; no time is left for another attempt in {wait_s:.1f} s"
                    raise
            self.retries += 1
            await self._sleep(wait_s)
        raise AssertionError("range is not empty")

    async def _within(self, deadline: float, call: Callable[[], Coroutine[object, object, T]]) -> T:
        left_s = deadline - self._now()
        try:
            async with asyncio.timeout(left_s) as limit:
                return await call()
        except TimeoutError:
            if not limit.expired():
                raise
            raise Failure("timeout", "the time of its shard was over (limits.score_timeout_s)") from None

    async def _attempt(
        self, attempt: Callable[[], Awaitable[T]], deadline: float, tokens: float, used: Callable[[T], float | None]
    ) -> T:
        async with self._slots:
            entry = await self._pass_gate(deadline, tokens)
            try:
                async with asyncio.timeout(self._limits.timeout_s) as limit:
                    reply = await attempt()
            except TimeoutError:
                if not limit.expired():
                    raise
                raise Failure("timeout", f"no reply within {self._limits.timeout_s:g} s", again=True) from None
            except Failure as failure:
                if failure.retry_after_s is not None:
                    self._closed_until = max(self._closed_until, self._now() + failure.retry_after_s)
                raise
            true = used(reply)
            if true is not None:
                self._tokens.mend(entry, true)
            return reply

    async def _pass_gate(self, deadline: float, tokens: float) -> list[float]:
        # The lock keeps the order of arrival: a large request is not passed over by small ones for ever.
        async with self._gate:
            while (wait_s := self._wait_s(tokens)) > 0:
                closed_s = self._closed_until - self._now()
                if self._closed_until >= deadline:
                    reason = f"the service wants no request for another {closed_s:.0f} s (Retry-After)"
                    raise Failure("error", reason, retry_after_s=closed_s)
                await self._sleep(wait_s)
            now = self._now()
            self._requests.add(now, 1)
            return self._tokens.add(now, tokens)

    def _wait_s(self, tokens: float) -> float:
        now = self._now()
        return max(self._closed_until - now, self._requests.wait_s(now, 1), self._tokens.wait_s(now, tokens))

    def _backoff_s(self, number: int, failure: Failure) -> float:
        ceiling = min(MAX_BACKOFF_S, BACKOFF_S * 2**number)
        # Half of it is certain, so that a retry never follows at once; the rest spreads the callers.
        return (failure.retry_after_s or 0.0) + ceiling * self._random.uniform(0.5, 1.0)


class LoopThread:
    """An event loop in a thread of its own: connections and limits outlive a single `score` call, and calls from
    several threads share them."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End the loop; what still runs on it is cancelled."""
        if self._loop.is_closed():
            return
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
