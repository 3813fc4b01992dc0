"""Real Ray, real models. Tests in this process share one Ray, which runs in its own subprocess tree."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayalign.actors.cluster import Cluster
from rayalign.actors.model_source import ModelSource
from rayalign.config.run import RunConfig
from rayalign.store.run_dir import RunDir


@pytest.fixture(scope="package")
def local_ray() -> Iterator[None]:
    """A local Ray, started at first use and stopped before the unit tests. A module leaves no actor in it."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def small_config(**changes: object) -> RunConfig:
    base = {
        "run": {"name": "test", "rounds": 2},
        "model": {"base": "demo"},
        "prompts": {"source": "demo", "per_round": 32, "holdout": 32, "max_tokens": 128},
        "sampling": {"responses": 4, "max_tokens": 32},
        "scoring": [{"type": "rule", "function": "demo"}],
        "objective": {"type": "nca"},
    }
    return RunConfig.model_validate({**base, **changes})


def model_source(folder: Path) -> ModelSource:
    """A model on the test's own Ray."""
    return ModelSource.of(folder, Cluster(nodes=(), shared=False))


def statuses(run_dir: RunDir, index: int) -> dict[str, Counter[str]]:
    """Of each scorer's scores of a round's training answers."""
    found: dict[str, Counter[str]] = {}
    for shard in run_dir.round(index).shards("train"):
        for row in run_dir.round(index).read_shard("train", shard) or []:
            for score in row.scores:
                found.setdefault(score.scorer, Counter())[score.status] += 1
                assert (score.reward is not None) <= (score.status == "ok")
    return found
