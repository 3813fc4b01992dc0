"""Every error a user can meet: what was found, why it is wrong, what to do.

Each class is also the standard-library error it resembles, survives pickling (it crosses processes), and knows
the exit code of the command that it ends.
"""

from __future__ import annotations

import os
import re
import tempfile

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_RESUMABLE = 3
FULL = re.compile("Local disk is full|No space left on device|Disk quota exceeded|database or disk is full")


class RayalignError(Exception):
    """Base of all rayalign errors.

    Args:
        found: what was found, with the value and where it stands.
        why: why that is wrong.
        remedy: what the user can do about it.
    """

    exit_code = EXIT_FAILURE

    def __init__(self, found: str, why: str = "", remedy: str = "") -> None:
        super().__init__(found, why, remedy)
        self.found, self.why, self.remedy = found, why, remedy

    def __str__(self) -> str:
        parts = [self.found]
        if self.why:
            parts.append(f"  why:    {self.why}")
        if self.remedy:
            parts.append(f"  remedy: {self.remedy}")
        return "\n".join(parts)


class ConfigError(RayalignError, ValueError):
    """The round config, or a value set on the command line, is not usable."""

    exit_code = EXIT_BAD_INPUT


class DataError(RayalignError, ValueError):
    """Prompts, samples or a user's file cannot be used."""

    exit_code = EXIT_BAD_INPUT


class ModelError(RayalignError, ValueError):
    """A model folder or hub id cannot be used."""

    exit_code = EXIT_BAD_INPUT


class RunFolderError(RayalignError, ValueError):
    """A run folder belongs to another config, another version, or is damaged."""

    exit_code = EXIT_BAD_INPUT


class ExportError(RayalignError, ValueError):
    """An adapter or merged model cannot be written there, or the hub does not take it."""

    exit_code = EXIT_BAD_INPUT


class StoreError(RunFolderError):
    """The object store of a run folder fails, or another process took the folder over; the run can be resumed."""

    exit_code = EXIT_RESUMABLE


class PlacementError(RayalignError, RuntimeError):
    """The cluster cannot hold what the config asks for."""

    exit_code = EXIT_BAD_INPUT


class ClusterError(RayalignError, ConnectionError):
    """A Ray cluster cannot be reached, refuses the token, or runs other versions."""

    exit_code = EXIT_BAD_INPUT


class DeviceError(RayalignError, RuntimeError):
    """A device, or a library on it, does not do what a run needs."""


class AdapterVersionError(RayalignError, RuntimeError):
    """A generator was asked for an adapter version that it does not hold."""


class ActorFailedError(RayalignError, RuntimeError):
    """An actor died, or kept failing on the same shard."""

    exit_code = EXIT_RESUMABLE


class StageTimeoutError(RayalignError, TimeoutError):
    """A remote call took longer than its limit."""

    exit_code = EXIT_RESUMABLE


class GuardError(RayalignError, RuntimeError):
    """A guard stopped the run before it could do harm; the run folder is intact and can be resumed."""

    exit_code = EXIT_RESUMABLE


class SyncError(GuardError):
    """A generator replica could not prove that it serves the adapter the learner made."""


class InterruptedRunError(RayalignError, RuntimeError):
    """SIGINT, SIGTERM, or a Ray that is gone; the run folder can be resumed."""

    exit_code = EXIT_RESUMABLE


def full_disk(error: BaseException, place: str | os.PathLike[str] | None = None) -> StoreError | None:
    """What an error says if it, or one that it comes from, tells of a full disk; None where none does.

    Args:
        place: what was written, where that is known.
    """
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        if said := FULL.search(str(cause)):
            place = place or getattr(cause, "filename", None)
            return StoreError(
                f"{place}: {said[0]}" if place else said[0],
                "what is not written yet cannot be kept; what was committed before is whole",
                f"free space on the disk of {place or 'the folders that this command writes to'} (temporary files are "
                f"in {tempfile.gettempdir()}), or raise its quota, then run the same command again",
            )
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return None
