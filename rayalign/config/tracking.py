"""The section `tracking`: who else is told what a run measures. Credentials come from the environment alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rayalign.config.base import Section

Name = Annotated[str, Field(min_length=1, max_length=100)]


class TensorBoardTracking(Section):
    dir: str | None = None
    """Folder of the event files; null: in the run folder."""


class WandbTracking(Section):
    project: Name = "rayalign"
    entity: Name | None = None
    mode: Literal["online", "offline"] = "online"
    dir: str | None = None
    """Folder of W&B's own files; null: in the run folder."""


class MlflowTracking(Section):
    uri: str | None = None
    """A server or store; null: `MLFLOW_TRACKING_URI`, else files in the run folder."""
    experiment: Name = "rayalign"


class TrackioTracking(Section):
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)] = "rayalign"
    dir: str | None = None
    """Folder of trackio's database; null: in the run folder."""


class TrackingSection(Section):
    jsonl: bool = True
    tensorboard: TensorBoardTracking | None = None
    wandb: WandbTracking | None = None
    mlflow: MlflowTracking | None = None
    trackio: TrackioTracking | None = None
    prometheus: bool = True
    """Gauges and counters in Ray's metrics."""
