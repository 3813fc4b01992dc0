"""The run: round 0 measures the base, then every round produces groups and consumes them into the next adapter.

for each round r:   groups  = produce(r, adapter r-1)
                    adapter = consume(r, groups)
"""

from __future__ import annotations

import dataclasses

from rayalign.loop.adapter_sync import AdapterSync
from rayalign.loop.remarks import group_remarks
from rayalign.loop.round import Run, consume, finish_round, produce
from rayalign.loop.sampling import sampling_plan
from rayalign.records import SavedAdapter, Shard
from rayalign.store.round_dir import RoundDir

CANARIES = 8
KEPT = {"groups": "the groups", "adapter": "the adapter"}
"""Commits of a round that say how far it is, in words."""


def run_rounds(run: Run) -> None:
    """Run all rounds that are not finished yet."""
    config, reporter = run.config, run.parts.reporter
    sync = _adapter_sync(run)
    served = SavedAdapter.base(run.base_model_sha256)
    with reporter.stage("measure sync", 0, 1) as progress:
        proof = sync.start(served)
        progress.advance(1)
    reporter.event("sync", **dataclasses.asdict(proof))
    first = run.run_dir.round(0)
    if not first.finished:
        finish_round(run, first, served, proof)
    last = max((r.index for r in run.run_dir.rounds()), default=0)
    if not last and (kept := _kept(run.run_dir.round(1))):
        reporter.say(f"resuming{kept}")
    if last:
        reporter.say(f"resuming after round {last}{_kept(run.run_dir.round(last + 1))}")
        newest = run.run_dir.round(last).adapter()
        assert newest is not None
        served = newest
        if last < config.run.rounds:
            with reporter.stage("sync", last, 1) as progress:
                sync.sync(served)
                progress.advance(1)
    for round_index in range(last + 1, config.run.rounds + 1):
        groups = produce(run, round_index, served.record)
        for remark in group_remarks(config, round_index, groups, first=round_index == last + 1):
            reporter.say(remark)
        served = consume(run, round_index, groups, served, sync)


def _adapter_sync(run: Run) -> AdapterSync:
    plan = dataclasses.replace(sampling_plan(run.config, 0, "train"), responses=1)
    canaries = Shard(0, tuple(run.prompts.take(run.train_ids_N[:CANARIES])))
    return AdapterSync(run.parts.generator, run.parts.learner, canaries, plan, run.config.sync.tolerance)


def _kept(round_dir: RoundDir) -> str:
    """What there is of a round that is not finished, in words."""
    names = round_dir.commits()
    parts = [f"{count} shards of samples"] if (count := len(round_dir.shards("train"))) else []
    parts += [words for name, words in KEPT.items() if name in names]
    parts += [f"{count} shards of its evaluation"] if (count := len(round_dir.shards("evaluation"))) else []
    return f"; of round {round_dir.index} there are {', '.join(parts)}" if parts else ""
