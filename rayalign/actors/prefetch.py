"""Read an iterator ahead in a thread, so that its consumer can also wait for other things."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from typing import Final, Generic, TypeVar

from rayalign.stopping import POLL_S, check

T = TypeVar("T")


class NotReady(Enum):
    """What is taken where there is no item."""

    NOT_READY = "not ready"


NOT_READY: Final = NotReady.NOT_READY


class Prefetch(Generic[T]):
    """At most `depth` items of `items`, ready to take. What the iterator raises is raised by `take`."""

    def __init__(self, items: Iterable[T], depth: int = 4) -> None:
        self._queue: queue.Queue[T | _Raised | _End] = queue.Queue(depth)
        self._closed = threading.Event()
        self.exhausted = False
        self._thread = threading.Thread(target=self._read, args=(items,), daemon=True, name="prefetch")
        self._thread.start()

    def take(self, *, block: bool) -> T | NotReady:
        """The next item; NOT_READY where there is none yet (without `block`) or none any more (see `exhausted`)."""
        if self.exhausted:
            return NOT_READY
        try:
            item = self._wait() if block else self._queue.get_nowait()
        except queue.Empty:
            return NOT_READY
        if isinstance(item, _End):
            self.exhausted = True
            return NOT_READY
        if isinstance(item, _Raised):
            self.exhausted = True
            raise item.error
        return item

    def _wait(self) -> T | _Raised | _End:
        while True:
            check()
            with suppress(queue.Empty):
                return self._queue.get(timeout=POLL_S)

    def close(self, wait_s: float = 0) -> None:
        """Stop reading; the iterator is closed by its own thread, which is given `wait_s` to end."""
        self._closed.set()
        if wait_s:
            self._thread.join(wait_s)

    def _read(self, items: Iterable[T]) -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not self._put(item):
                    return
            self._put(_End())
        except BaseException as error:
            self._put(_Raised(error))
        finally:
            if hasattr(iterator, "close"):
                iterator.close()  # pyright: ignore[reportAttributeAccessIssue]

    def _put(self, item: T | _Raised | _End) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


class _End:
    """The iterator gave its last item."""


class _Raised:
    """What the iterator raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
