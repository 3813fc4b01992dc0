"""Actor handles by what they can do: Ray's own know their methods only when they are called."""

from __future__ import annotations

from typing import Any, ParamSpec, Protocol, TypeVar

from ray import ObjectRef

P = ParamSpec("P")
R = TypeVar("R")


class Method(Protocol[P, R]):
    """A method of an actor, as its handle shows it."""

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R]: ...


class Replica(Protocol):
    """The handle of an actor that a pool can keep."""

    @property
    def describe(self) -> Method[[], dict[str, Any]]:
        """Where it runs: at least its `address`."""
        ...

    @property
    def close(self) -> Method[[], None]:
        """Tidy up, before it is ended."""
        ...
