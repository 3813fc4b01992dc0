"""Limits and retries of calls, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, strategies as st

from rayalign.config.services import CallLimits
from rayalign.scoring.services.calls import Caller, Failure, LoopThread, Window, retry_after_s

FAR = 1e9


class Clock:
    """Sleeps by moving its own time on, so that hours take no time."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


def run(limits: CallLimits, attempts: Callable[[Clock, Caller], Awaitable[object]]) -> tuple[object, Clock]:
    clock = Clock()

    async def main() -> object:
        return await attempts(clock, Caller(limits, 0, clock.now, clock.sleep))

    return asyncio.run(main()), clock


def failing(*failures: Failure) -> Callable[[], Awaitable[str]]:
    left = list(failures)

    async def attempt() -> str:
        if left:
            raise left.pop(0)
        return "reply"

    return attempt


@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0.5, 20)), max_size=60), st.floats(10, 50))
def test_no_minute_holds_more_than_the_limit(arrivals: list[tuple[float, float]], limit: float) -> None:
    """Each arrival waits as long as it is told to; single amounts are below the limit or, at most 20, alone."""
    window, now, begun = Window(limit), 0.0, []
    for gap, amount in arrivals:
        now += gap
        while (wait_s := window.wait_s(now, amount)) > 0:
            now += wait_s
        window.add(now, amount)
        begun.append((now, amount))
    for start, _ in begun:
        inside = [amount for time, amount in begun if start <= time < start + 60 - 1e-6]
        assert sum(inside) <= limit + 1e-6 or len(inside) == 1


def test_a_window_waits_no_longer_than_it_must() -> None:
    """Limit 10: after 4 at 0 s and 4 at 10 s, 2 fit at once, 6 from 60 s on, and 20 go alone from 70 s on."""
    window = Window(10)
    window.add(0, 4)
    window.add(10, 4)
    assert window.wait_s(20, 2) == 0
    assert window.wait_s(20, 6) == 40
    assert window.wait_s(20, 20) == 50
    assert window.wait_s(70, 20) == 0


def test_a_true_amount_takes_the_place_of_its_estimate() -> None:
    window = Window(10)
    entry = window.add(0, 9)
    window.mend(entry, 3)
    assert window.wait_s(1, 7) == 0
    assert window.wait_s(1, 8) == 59


def test_requests_per_minute() -> None:
    times: list[float] = []

    async def many(clock: Clock, caller: Caller) -> None:
        async def attempt() -> None:
            times.append(clock.time)

        await asyncio.gather(*(caller.run(attempt, FAR) for _ in range(25)))

    run(CallLimits(requests_per_minute=10), many)
    assert [round(time - 1000) for time in times] == [0] * 10 + [60] * 10 + [120] * 5


def test_tokens_per_minute_count_what_was_used() -> None:
    """Estimated at 50 of 100, used 10 each: two go at once, and their replies make room for eight more estimates."""
    times: list[float] = []

    async def many(clock: Clock, caller: Caller) -> None:
        async def attempt() -> str:
            times.append(clock.time)
            return "reply"

        for _ in range(7):
            await caller.run(attempt, FAR, tokens=50, used=lambda reply: 10)

    run(CallLimits(tokens_per_minute=100), many)
    assert [round(time - 1000) for time in times] == [0] * 6 + [60]


def test_concurrency_is_bounded_and_used() -> None:
    inside = most = 0

    async def many(clock: Clock, caller: Caller) -> None:
        async def attempt() -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1

        await asyncio.gather(*(caller.run(attempt, FAR) for _ in range(30)))

    run(CallLimits(concurrency=7), many)
    assert most == 7


def test_backoff_doubles_with_jitter_and_ends() -> None:
    attempt = failing(*(Failure("error", f"no {i}", again=True) for i in range(9)))
    with pytest.raises(Failure, match="no 5"):
        run(CallLimits(retries=5), lambda clock, caller: caller.run(attempt, FAR))
    attempt = failing(*(Failure("error", "no", again=True) for _ in range(5)))
    reply, clock = run(CallLimits(retries=5), lambda clock, caller: caller.run(attempt, FAR))
    assert reply == "reply"
    assert [0.5 <= slept / (0.5 * 2**i) <= 1 for i, slept in enumerate(clock.slept)] == [True] * 5
    assert len(set(clock.slept)) == 5


def test_what_will_not_pass_is_not_tried_again() -> None:
    attempt = failing(Failure("error", "HTTP 401"), Failure("error", "asked again"))
    with pytest.raises(Failure, match="401"):
        run(CallLimits(), lambda clock, caller: caller.run(attempt, FAR))


def test_retry_after_holds_every_call_back() -> None:
    """The first call is told to wait 20 s; calls that come meanwhile wait as well."""
    times: list[float] = []

    async def two(clock: Clock, caller: Caller) -> None:
        first = failing(Failure("error", "429", True, retry_after_s=20.0))

        async def attempt() -> str:
            times.append(clock.time - 1000)
            return await first()

        async def later() -> None:
            times.append(clock.time - 1000)

        await asyncio.gather(caller.run(attempt, FAR), caller.run(later, FAR))

    run(CallLimits(concurrency=1), two)
    assert times[0] == 0
    assert all(time >= 20 for time in times[1:]) and len(times) == 3


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    attempt = failing(Failure("error", "429", True, retry_after_s=500.0))
    with pytest.raises(Failure, match="no time is left for another attempt") as caught:
        run(CallLimits(), lambda clock, caller: caller.run(attempt, 1100.0))
    assert caught.value.status == "error"


def test_a_service_that_is_closed_for_long_fails_every_call_at_once() -> None:
    """As with a quota used up for the day: nobody waits for a door that opens after the deadline."""
    failures: list[str] = []

    async def three(clock: Clock, caller: Caller) -> None:
        for _ in range(3):
            with pytest.raises(Failure) as caught:
                await caller.run(failing(Failure("error", "429", True, retry_after_s=5000.0)), 1100.0)
            failures.append(caught.value.reason)

    _, clock = run(CallLimits(), three)
    assert clock.time == 1000.0
    assert failures[0].startswith("429; no time is left")
    assert failures[1:] == ["the service wants no request for another 5000 s (Retry-After)"] * 2


def test_slow_attempts_and_slow_shards_are_timeouts() -> None:
    async def slow() -> None:
        await asyncio.sleep(30)

    with pytest.raises(Failure, match=r"no reply within 0\.01 s") as caught:
        run(CallLimits(timeout_s=0.01, retries=1), lambda clock, caller: caller.run(slow, FAR))
    assert caught.value.status == "timeout"
    with pytest.raises(Failure, match="the time of its shard was over") as caught:
        run(CallLimits(), lambda clock, caller: caller.run(slow, 1000.02))
    assert caught.value.status == "timeout"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
     ("inf", None), ("nan", None)],
)  # fmt: skip
def test_retry_after_in_its_forms(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


def test_shares_of_several_actors_add_up() -> None:
    share = CallLimits(concurrency=32, requests_per_minute=600, timeout_s=9).share(4)
    assert (share.concurrency, share.requests_per_minute, share.tokens_per_minute, share.timeout_s) == (8, 150, None, 9)
    assert CallLimits(concurrency=2).share(4).concurrency == 1


def test_a_loop_thread_ends_with_what_ran_on_it() -> None:
    thread = LoopThread("test")
    ended = []

    async def forever() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(True)

    async def begin() -> None:
        tasks.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    thread.run(begin())
    thread.close()
    thread.close()
    assert ended == [True]
