"""The run: round 0 measures the base, then every round produces groups and consumes them into the next adapter.

for each round r:   groups  = produce(r, adapter)
                    adapter = consume(r, groups)          or, by the gate, the best one before it

With `loop.max_staleness: 1` the generators work while the learner does. An engine holds one version, so what is asked
of it is answered before the next one is served:

    generators  produce(1)│produce(2), by adapter 0│evaluate(1)│produce(3), by adapter 1│evaluate(2)│ ...
    learner               │update(1)               │           │update(2)               │           │ ...
                                                  sync(1)                              sync(2)

With `loop.evaluate_beside` a round is evaluated while the next one is produced, both by the adapter that is served:

    generators  evaluate(0) + produce(1)│         │evaluate(1) + produce(2)│         │ ...
    learner                             │update(1)│KL(1)                   │update(2)│ ...
                                                sync(1)                            sync(2)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from rayalign import stopping
from rayalign.loop.adapter_sync import AdapterSync, SyncProof
from rayalign.loop.gate import built_upon, saved_adapter, stop_if_decided
from rayalign.loop.remarks import group_remarks
from rayalign.loop.round import Run, consume, finish_round, made_groups, produce, sampler_of, serve
from rayalign.loop.sampling import sampling_plan
from rayalign.loop.watch import stop_if_fired
from rayalign.records import Groups, SavedAdapter, Shard
from rayalign.store.round_dir import RoundDir
from rayalign.store.verify import set_round_aside

CANARIES, CANARY_TOKENS = 8, 16
"""Prompts, and tokens of the base's answer to each at most: enough to tell adapters apart, and soon computed."""
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
    # Not before: the sync has measured what is fastest on this machine.
    run.parts.group_builder.start()
    finished = _finish(run, 0, served, proof)
    last = max((r.index for r in run.run_dir.rounds()), default=0)
    if not last and (kept := _kept(run.run_dir.round(1))):
        reporter.say(f"resuming{kept}")
    if last:
        reporter.say(f"resuming after round {last}{_kept(run.run_dir.round(last + 1))}")
        served = _finish_again(run, last, served, sync)
        served = _serve_start(run, last, served, sync)
    ahead: Callable[[], Groups] | None = None
    for round_index in range(last + 1, config.run.rounds + 1):
        groups = ahead() if ahead else _produce(run, round_index, served, sync)
        finished()
        for remark in group_remarks(config, round_index, groups, first=round_index == last + 1):
            reporter.say(remark)
        ahead = _ahead(run, round_index + 1, served)
        served, proof = consume(run, round_index, groups, served, sync, ahead or _nothing)
        finished = _finish(run, round_index, served, proof)
        served = _serve_start(run, round_index, served, sync)
    finished()


def _nothing() -> None:
    """Nobody to wait for."""


def _finish(run: Run, round_index: int, served: SavedAdapter, proof: SyncProof) -> Callable[[], None]:
    """Evaluate a round and finish it, at once or beside what comes next; returns what waits for it."""
    round_dir = run.run_dir.round(round_index)
    if round_dir.finished:
        return _nothing

    def finish() -> None:
        finish_round(run, round_dir, served, proof)
        stop_if_decided(run.run_dir, round_index)
        stop_if_fired(run.run_dir, round_index)

    after = run.run_dir.round(round_index + 1)
    beside = run.config.evaluates_beside and round_index < run.config.run.rounds
    if beside and sampler_of(run, after, served) is served:
        return stopping.aside(finish)
    finish()
    return _nothing


def _finish_again(run: Run, last: int, served: SavedAdapter, sync: AdapterSync) -> SavedAdapter:
    """Evaluate the rounds before the last finished one that a repair took back; returns what is served then."""
    for round_dir in run.run_dir.begun_rounds():
        if not 0 < round_dir.index < last or round_dir.finished or (own := round_dir.adapter()) is None:
            continue
        finish_round(run, round_dir, own, serve(run, round_dir.index, own, sync))
        served = own
    return served


def _produce(run: Run, round_index: int, served: SavedAdapter, sync: AdapterSync) -> Groups:
    """`produce`, where another adapter has begun to answer the round's prompts by that one, served meanwhile."""
    round_dir = run.run_dir.round(round_index)
    sampler = sampler_of(run, round_dir, served)
    if sampler is served or made_groups(run.config, round_dir):
        return produce(run, round_index, sampler.record)
    _serve(run, round_index, sampler, sync)
    groups = produce(run, round_index, sampler.record)
    _serve(run, round_index, served, sync)
    return groups


def _ahead(run: Run, round_index: int, served: SavedAdapter) -> Callable[[], Groups] | None:
    """Begin to produce a round while the one before it trains, where that is wanted; returns what waits for it."""
    if not run.config.loop.max_staleness or round_index > run.config.run.rounds:
        return None
    if sampler_of(run, run.run_dir.round(round_index), served) is not served:
        return None
    return stopping.aside(lambda: produce(run, round_index, served.record))


def _serve(run: Run, round_index: int, adapter: SavedAdapter, sync: AdapterSync) -> None:
    run.parts.reporter.event("sync", **dataclasses.asdict(serve(run, round_index, adapter, sync)))


def _serve_start(run: Run, last: int, served: SavedAdapter, sync: AdapterSync) -> SavedAdapter:
    """Serve, with proof, what the round after `last` starts from: the last adapter, or by the gate an earlier one.

    Args:
        served: what is served now.
    """
    upon = built_upon(run.config, run.run_dir, last)
    if upon != last and run.run_dir.round(last + 1).sampler() == last:
        set_round_aside(run.run_dir, run.run_dir.round(last + 1))
        run.parts.reporter.say(f"what round {last} had begun to answer for round {last + 1} is set aside")
    start = saved_adapter(run.run_dir, upon, run.base_model_sha256)
    if last < run.config.run.rounds and start.record.version != served.record.version:
        _serve(run, last, start, sync)
    return start


def _adapter_sync(run: Run) -> AdapterSync:
    plan = sampling_plan(run.config, 0, "train")
    plan = dataclasses.replace(plan, responses=1, max_tokens=min(plan.max_tokens, CANARY_TOKENS))
    canaries = Shard(0, tuple(run.prompts.take(run.train_ids_N[:CANARIES])))
    return AdapterSync(run.parts.generator, run.parts.learner, canaries, plan, run.config.sync.tolerance)


def _kept(round_dir: RoundDir) -> str:
    """What there is of a round that is not finished, in words."""
    names = round_dir.commits()
    parts = [f"{count} shards of samples"] if (count := len(round_dir.shards("train"))) else []
    parts += [words for name, words in KEPT.items() if name in names]
    parts += [f"{count} shards of its evaluation"] if (count := len(round_dir.shards("evaluation"))) else []
    return f"; of round {round_dir.index} there are {', '.join(parts)}" if parts else ""
