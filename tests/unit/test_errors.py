"""Every error crosses processes whole and says what was found, why, and what to do."""

from __future__ import annotations

import inspect
import pickle

import pytest

from rayalign import errors
from rayalign.errors import RayalignError

CLASSES = {
    # class name: (the standard error that it resembles, exit code of the command that it ends)
    "RayalignError": (Exception, 1),
    "ConfigError": (ValueError, 2),
    "DataError": (ValueError, 2),
    "ModelError": (ValueError, 2),
    "RunFolderError": (ValueError, 2),
    "ExportError": (ValueError, 2),
    "StoreError": (ValueError, 3),
    "PlacementError": (RuntimeError, 2),
    "ClusterError": (ConnectionError, 2),
    "DeviceError": (RuntimeError, 1),
    "AdapterVersionError": (RuntimeError, 1),
    "ActorFailedError": (RuntimeError, 3),
    "StageTimeoutError": (TimeoutError, 3),
    "GuardError": (RuntimeError, 3),
    "SyncError": (RuntimeError, 3),
    "InterruptedRunError": (RuntimeError, 3),
}
"""By DESIGN section 3: 2 is bad input, 3 is stopped and resumable, 1 anything else."""


def test_the_table_above_is_complete() -> None:
    found = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert found == set(CLASSES)


@pytest.mark.parametrize(("name", "stdlib", "exit_code"), [(n, *expected) for n, expected in CLASSES.items()])
def test_kind_and_exit_code(name: str, stdlib: type[Exception], exit_code: int) -> None:
    error = getattr(errors, name)("found")
    assert isinstance(error, RayalignError)
    assert isinstance(error, stdlib)
    assert error.exit_code == exit_code


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", CLASSES)
def test_survives_pickling(name: str, protocol: int) -> None:
    error = getattr(errors, name)("3 cats", "there are 2 beds", "buy a bed")
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is type(error)
    assert (copy.found, copy.why, copy.remedy) == ("3 cats", "there are 2 beds", "buy a bed")
    assert copy.exit_code == CLASSES[name][1]
    assert str(copy) == str(error)


@pytest.mark.parametrize("name", CLASSES)
def test_prints_found_why_and_remedy(name: str) -> None:
    """Also where a base class has a `__str__` of its own: OSError, the base of TimeoutError, prints `[Errno ...]`."""
    error = getattr(errors, name)("3 cats", "there are 2 beds", "buy a bed")
    assert str(error).splitlines() == ["3 cats", "  why:    there are 2 beds", "  remedy: buy a bed"]


def test_leaves_out_what_is_not_known() -> None:
    assert str(RayalignError("3 cats")) == "3 cats"
    assert str(RayalignError("3 cats", remedy="buy a bed")).splitlines() == ["3 cats", "  remedy: buy a bed"]
    assert str(RayalignError("3 cats", "there are 2 beds")).splitlines() == ["3 cats", "  why:    there are 2 beds"]
