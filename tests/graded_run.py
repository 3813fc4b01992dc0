"""A run of the loop's hand-written parts in which each adapter has a quality of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rayalign.config.run import RunConfig
from rayalign.loop.round import Run
from rayalign.records import Sample
from tests.fakes import Fuse, make_run


def start(root: Path, config: RunConfig, fuse: Fuse | None = None, *, quality: Sequence[float]) -> Run:
    """A run whose rewards are an adapter's quality and noise by the answer's seed."""
    run = make_run(root, config, fuse)

    def reward_of(sample: Sample) -> float:
        return quality[sample.adapter_version] + sample.seed % 97 / 97

    run.parts.scorer.reward_of = reward_of
    return run


def parents(run: Run) -> list[int | None]:
    found = [one.adapter() for one in run.run_dir.rounds()[1:]]
    return [one.record.parent for one in found if one is not None]


def sampled_by(run: Run, index: int) -> set[int]:
    rows = run.run_dir.round(index).read_shard("train", 0) or []
    return {row.sample.adapter_version for row in rows}
