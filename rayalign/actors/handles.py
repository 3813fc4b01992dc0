"""Actor handles by what they can do: Ray's own know their methods only when they are called. What the driver waits for,
and what Ray's errors hold."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import ParamSpec, Protocol, TypeVar, cast

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError, RayError, RayTaskError

from rayalign.errors import RayalignError
from rayalign.records import JsonObject
from rayalign.stopping import POLL_S, asked, check

MANY, BREATH_S = 512, 0.05
"""A look at more calls than these takes up to a millisecond, whatever comes of it: one in so many seconds is enough."""

P = ParamSpec("P")
R = TypeVar("R")


class Method(Protocol[P, R]):
    """A method of an actor, as its handle shows it."""

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R]: ...


class Replica(Protocol):
    """The handle of an actor that a pool can keep."""

    @property
    def describe(self) -> Method[[], JsonObject]:
        """Where it runs: at least its `address`."""
        ...

    @property
    def close(self) -> Method[[], None]:
        """Tidy up, before it is ended."""
        ...


def end(handle: object) -> None:
    """Kill the actor behind a handle; nothing happens where it is dead, or at a stop: it ends with this process."""
    if not asked():
        ray.kill(cast("ActorHandle[object]", handle))


def fetch(ref: ObjectRef[R], timeout_s: float | None = None) -> R:
    """What a call gives; the driver waits for no call in another way.

    Args:
        timeout_s: null waits without a limit.

    Raises:
        GetTimeoutError: it took too long.
        InterruptedRunError: this process was told to stop.
        Exception: what the call raised.
    """
    await_done(ref, timeout_s)
    return ray.get(ref)


def await_done(ref: ObjectRef[R], timeout_s: float | None) -> None:
    """Wait for a call, as `fetch` does, and leave what it gives or raised where it is."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while not first_done([ref], POLL_S):
        if deadline is not None and time.monotonic() >= deadline:
            raise GetTimeoutError(f"no answer in {timeout_s:g} s")


def answer_of(ref: ObjectRef[R]) -> R:
    """The answer of a replica's call that is done.

    Raises:
        RayActorError, ObjectLostError: the replica died.
        Exception: what the method raised, and of ours what the constructor raised.
    """
    try:
        return ray.get(ref)
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from error
    except RayActorError as error:
        # A constructor that raised it would raise it again in a replacement.
        if ours := our_error(error):
            raise ours from error
        raise


def first_done(refs: Sequence[ObjectRef[R]], timeout_s: float) -> list[ObjectRef[R]]:
    """The first of some calls that is done, if one is within `timeout_s`, which is to be short; of very many all that
    are done, now and then.

    Raises:
        InterruptedRunError: this process was told to stop.
    """
    check()
    if len(refs) <= MANY:
        done, _ = ray.wait(list(refs), timeout=timeout_s)
    else:
        time.sleep(min(BREATH_S, timeout_s))
        done, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
    check()
    return done


def our_error(error: BaseException) -> RayalignError | None:
    """The error of ours that Ray's error carries home, with its text and exit code; None where there is none in it.

    Ray wraps what a task raises, what an actor's constructor raises, and once more what a worker of Ray Train raises;
    each keeps the error inside in another place.
    """
    found, seen = deque([error]), set()
    while found:
        one = found.popleft()
        if id(one) in seen:
            continue
        seen.add(id(one))
        # What `ray.get` raises is also an instance of the class that was raised, and has the traceback for its text.
        if isinstance(one, RayalignError) and not isinstance(one, RayError):
            return one
        inside = [one.__cause__, *one.args, *vars(one).values()]
        for part in inside:
            several = part.values() if isinstance(part, dict) else [part]
            found.extend(part for part in several if isinstance(part, BaseException))
    return None


def by_node(death: RayError) -> bool:
    """Whether a replica, or its answer, went with its node, so that what it was asked cannot be the reason."""
    gone = isinstance(death, ObjectLostError) or (isinstance(death, RayActorError) and death.preempted)
    return gone or "its node has died" in str(death)


def reason(error: RayError) -> str:
    """The line of Ray's text that names the error; what is indented below it explains it."""
    lines = str(error).strip().splitlines()
    return next((line for line in reversed(lines) if line and not line.startswith((" ", "\t"))), type(error).__name__)
