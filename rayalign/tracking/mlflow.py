"""MLflow, by its client alone: no run is active in the process, and nothing is logged that was not asked for."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rayalign.config.tracking import MlflowTracking
from rayalign.tracking.tracker import COLUMNS, Told, TrackedRun, flat

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 100
"""Parameters that a server takes at once."""
LONGEST = 500
"""Characters of a parameter that every server takes."""


class Mlflow:
    """One MLflow run over all attempts.

    Args:
        uri: a tracking server or store.
    """

    def __init__(self, section: MlflowTracking, uri: str) -> None:
        self._section, self._uri = section, uri
        self._client: MlflowClient | None = None
        self._id = ""

    def open(self, run: TrackedRun) -> str:
        if _is_files(self._uri):
            # MLflow would have a database, which its small package (mlflow-skinny) has no driver for.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=self._uri)
        if run.begun:
            self._id = run.id
            self._client.set_terminated(run.id, "RUNNING")
            return run.id
        self._id = self._client.create_run(self._experiment(), run_name=run.name).info.run_id
        self._keep(run)
        return self._id

    def _experiment(self) -> str:
        assert self._client is not None
        found = self._client.get_experiment_by_name(self._section.experiment)
        return found.experiment_id if found else self._client.create_experiment(self._section.experiment)

    def _keep(self, run: TrackedRun) -> None:
        from mlflow.entities import Param

        assert self._client is not None
        params = [Param(key, str(value)[:LONGEST]) for key, value in flat(run.config).items()]
        for start in range(0, len(params), BATCH):
            self._client.log_batch(self._id, params=params[start : start + BATCH])

    def tell(self, told: Told) -> None:
        from mlflow.entities import Metric

        assert self._client is not None
        if told.answers:
            # Not `log_table`, which adds to the table where a round comes again.
            table = {"columns": list(COLUMNS), "data": [[answer[c] for c in COLUMNS] for answer in told.answers]}
            self._client.log_dict(self._id, table, f"answers/round_{told.round_index:04d}.json")
        now = int(time.time() * 1000)
        points = [Metric(self.name_of(name), value, now, told.round_index) for name, value in told.points.items()]
        # The numbers last and all at once: a round is there as a whole or not at all.
        self._client.log_batch(self._id, metrics=points)

    def name_of(self, name: str) -> str:
        """A store of files makes a folder of what stands before a `/`, which cannot be a metric too."""
        return name.replace("/", ".") if _is_files(self._uri) else name

    def close(self) -> None:
        if self._client is not None:
            self._client.set_terminated(self._id)


def store_of(section: MlflowTracking, folder: Path | None) -> str | None:
    """The tracking URI; None where there is neither one nor a folder."""
    named = section.uri or os.environ.get("MLFLOW_TRACKING_URI")
    return named or (folder.as_uri() if folder is not None else None)


def _is_files(uri: str) -> bool:
    return "://" not in uri.removeprefix("file://") and not uri.startswith("databricks")
