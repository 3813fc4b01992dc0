"""The run: round 0 measures the base, then every round produces groups and consumes them into the next adapter.

for each round r:   groups  = produce(r, adapter r-1)
                    adapter = consume(r, groups)
"""

from __future__ import annotations

import dataclasses

from rayalign.loop.adapter_sync import AdapterSync
from rayalign.loop.round import Run, consume, finish_round, load_adapter, produce
from rayalign.records import Adapter, SamplingPlan, Shard

CANARIES = 8


def run_rounds(run: Run) -> None:
    """Run all rounds that are not finished yet."""
    config, reporter = run.config, run.stages.reporter
    sync = _adapter_sync(run)
    adapter = Adapter.base(run.base_model_sha256)
    proof = sync.start(adapter)
    reporter.event("sync", **dataclasses.asdict(proof))
    first = run.run_dir.round(0)
    if not first.finished:
        finish_round(run, first, adapter, None, sync=dataclasses.asdict(proof))
    last = max((r.index for r in run.run_dir.rounds()), default=0)
    if last:
        reporter.say(f"resuming after round {last}")
        newest = load_adapter(run, last)
        assert newest is not None
        adapter = newest[0]
        if last < config.run.rounds:
            sync.sync(*newest)
    for round_index in range(last + 1, config.run.rounds + 1):
        groups = produce(run, round_index, adapter)
        adapter = consume(run, round_index, groups, adapter, sync)


def _adapter_sync(run: Run) -> AdapterSync:
    section = run.config.sampling
    plan = SamplingPlan(0, "train", run.config.run.seed, 1, section.temperature, section.top_p, section.max_tokens)
    prompts = tuple(run.prompts.take(run.train_ids_N[:CANARIES]))
    return AdapterSync(run.stages.generator, run.stages.learner, Shard(0, prompts), plan, run.config.sync.tolerance)
