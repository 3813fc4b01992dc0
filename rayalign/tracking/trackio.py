"""trackio's local database. Its own `Run` only warns of what it cannot write, so the rounds go to its storage."""

from __future__ import annotations

import os
from pathlib import Path

from rayalign.config.tracking import TrackioTracking
from rayalign.tracking.tracker import COLUMNS, Told, TrackedRun, made_folder


class Trackio:
    """One trackio run over all attempts; a round that comes twice is one row.

    Args:
        folder: of the database (`TRACKIO_DIR`).
    """

    def __init__(self, section: TrackioTracking, folder: Path) -> None:
        self._section, self._folder = section, folder
        self._run: TrackedRun | None = None

    def open(self, run: TrackedRun) -> str:
        # Read by trackio when it is imported, and never again.
        os.environ["TRACKIO_DIR"] = str(made_folder(self._folder))
        from trackio.sqlite_storage import SQLiteStorage

        database = SQLiteStorage.init_db(self._section.project)
        if not database.is_relative_to(self._folder):
            raise RuntimeError(f"trackio was imported before and writes to {database.parent}, not to {self._folder}")
        self._run = run
        return run.id

    def tell(self, told: Told) -> None:
        from trackio.sqlite_storage import SQLiteStorage
        from trackio.table import Table

        run = self._run
        assert run is not None
        values: dict[str, object] = dict(told.points)
        if told.answers:
            table = Table(list(COLUMNS), [[answer[column] for column in COLUMNS] for answer in told.answers])
            values["answers"] = table._to_dict(self._section.project, run.name, told.round_index)
        SQLiteStorage.bulk_log(
            self._section.project,
            run.name,
            [values],
            steps=[told.round_index],
            config=run.config,
            log_ids=[f"{run.id}-{told.round_index}"],
            run_id=run.id,
        )

    def close(self) -> None:
        """All is written."""
