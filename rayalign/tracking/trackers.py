"""The trackers that a config names: made, checked before anything heavy is loaded, told of rounds, ended."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rayalign.config.base import Section
from rayalign.config.tracking import TrackingSection
from rayalign.errors import ConfigError
from rayalign.records import JsonObject
from rayalign.stopping import asked
from rayalign.store.folder import Folder
from rayalign.store.run_dir import RunDir
from rayalign.tracking.courier import Courier, Say
from rayalign.tracking.mlflow import Mlflow, store_of
from rayalign.tracking.sink import StageState
from rayalign.tracking.tensorboard import TensorBoard
from rayalign.tracking.tracker import Tracker
from rayalign.tracking.trackio import Trackio
from rayalign.tracking.wandb import Wandb

END_S = 60.0
"""How long a finished run waits for what is still being sent."""
STOPPED_S = 1.0
"""The same for one that was told to stop."""

TRACKERS: dict[str, tuple[str, Callable[[Any, Folder], Tracker]]] = {
    "tensorboard": ("tensorboard", lambda section, root: TensorBoard(_folder("tensorboard", section.dir, root))),
    "wandb": ("wandb", lambda section, root: Wandb(section, _folder("wandb", section.dir, root))),
    "mlflow": ("mlflow", lambda section, root: Mlflow(section, _store(section, root))),
    "trackio": ("trackio", lambda section, root: Trackio(section, _folder("trackio", section.dir, root))),
}
"""Key of `tracking` -> the package that it needs, which its extra installs, and how it is made."""


def make_trackers(section: TrackingSection, root: Folder) -> dict[str, Tracker]:
    """The trackers that the config names; none of them does anything yet.

    Args:
        root: the run folder.

    Raises:
        ConfigError: a package, a key for W&B or a folder is missing.
    """
    made: dict[str, Tracker] = {}
    for name, (package, make) in TRACKERS.items():
        settings: Section | None = getattr(section, name)
        if settings is None:
            continue
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"tracking.{name}: the package {package} is not installed",
                "trackers are extras of rayalign",
                f"pip install 'rayalign[{name}]', or remove tracking.{name}",
            )
        made[name] = make(settings, root)
    if section.wandb and section.wandb.mode == "online" and not os.environ.get("WANDB_API_KEY"):
        raise ConfigError(
            "tracking.wandb: WANDB_API_KEY is not set",
            "W&B takes runs of those whom it knows, and the key is read from the environment alone",
            "export WANDB_API_KEY=..., or set tracking.wandb.mode: offline",
        )
    return made


class Couriers:
    """One courier per tracker. A `Sink` of `RunReporter`.

    Args:
        config: the run's, secrets redacted.
    """

    def __init__(self, trackers: Mapping[str, Tracker], run_dir: RunDir, config: JsonObject, say: Say) -> None:
        self._couriers = [Courier(name, tracker, run_dir, config, say) for name, tracker in trackers.items()]

    def event(self, kind: str, fields: Mapping[str, object]) -> None:
        if kind == "round":
            for courier in self._couriers:
                courier.wake()

    def stage(self, state: StageState) -> None:
        """Trackers are told of whole rounds alone."""

    def close(self) -> None:
        """Send what is left, wait for it a while, and say what a tracker lacks."""
        for courier in self._couriers:
            courier.end()
        for courier in self._couriers:
            courier.wait(STOPPED_S if asked() else END_S)


def _folder(name: str, named: str | None, root: Folder) -> Path:
    if named is not None:
        return Path(named).expanduser().absolute()
    if not root.is_local:
        raise ConfigError(
            f"tracking.{name}: the run folder {root} is on an object store",
            f"{name} writes to files",
            f"set tracking.{name}.dir to a folder of this machine",
        )
    return root.local_path() / "tracking" / name


def _store(section: Any, root: Folder) -> str:
    store = store_of(section, root.local_path().absolute() / "tracking" / "mlflow" if root.is_local else None)
    if store is None:
        raise ConfigError(
            f"tracking.mlflow: the run folder {root} is on an object store",
            "without tracking.mlflow.uri MLflow writes to files",
            "set tracking.mlflow.uri to a server, or MLFLOW_TRACKING_URI",
        )
    return store
