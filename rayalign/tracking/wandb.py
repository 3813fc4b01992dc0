"""Weights & Biases, online or offline (`wandb sync` sends an offline run later)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rayalign.config.tracking import WandbTracking
from rayalign.tracking.tracker import COLUMNS, Told, TrackedRun, made_folder

if TYPE_CHECKING:
    from wandb import Run

SILENT = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "init_timeout": 45.0,
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
"""Nothing but what a tracker is told is sent: no console, no code, nothing of git, of the machine only its name."""


class Wandb:
    """One W&B run over all attempts; its step is the round, so that a round that comes twice counts once.

    Args:
        folder: of W&B's own files.
    """

    def __init__(self, section: WandbTracking, folder: Path) -> None:
        self._section, self._folder = section, folder
        self._run: Run | None = None

    def open(self, run: TrackedRun) -> str:
        import wandb

        online = self._section.mode == "online"
        self._run = wandb.init(
            project=self._section.project,
            entity=self._section.entity,
            name=run.name,
            id=run.id,
            mode=self._section.mode,
            dir=str(made_folder(self._folder)),
            config=run.config,
            # An offline run is a folder of its own for every attempt; W&B puts those of one id together.
            resume="allow" if online else None,
            reinit="create_new",
            settings=wandb.Settings(**SILENT),
        )
        return run.id

    def tell(self, told: Told) -> None:
        from wandb import Table

        assert self._run is not None
        table = Table(list(COLUMNS), [[answer[column] for column in COLUMNS] for answer in told.answers])
        answers = {"answers": table} if told.answers else {}
        self._run.log({**told.points, **answers}, step=told.round_index, commit=True)

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
