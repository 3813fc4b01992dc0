"""One round: produce training groups with the adapter that is served, then consume them into the next adapter.

    prompts ─► sample ─► score ─► groups          produce(round, adapter r-1)
                                    │
    serve r ◄─ sync ◄─ update ◄─────┘             consume(round, groups)
       └─► evaluate ─► report ─► COMMIT           finish_round(round, adapter r)

Who takes part (`Parts`), and the rule that each keeps:

    generator      samples; every replica holds one version and refuses to answer for another
    scorer         gives every answer a score with a status; a failed score is missing, never a number
    group builder  makes groups of committed shards; a group that is left out is counted under a reason
    learner        trains on the sampled token ids, from the adapter before; compares with the one that sampled them
    AdapterSync    the only one who changes what is served; it counts as served when it is proven
    benchmarks     ask the same generator; what answers they got is committed like any other
    evaluator      measures on prompts that are never trained on, from what is committed alone
    run folder     keeps the truth: every arrow above ends in a commit, and a killed round goes on after the last one

Offline, responses and scores are read from a dataset instead of sampled.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rayalign.config.run import RunConfig
from rayalign.data.drawing import draw_prompts
from rayalign.data.prompt_store import PromptStore
from rayalign.errors import GuardError, SyncError
from rayalign.loop.adapter_sync import AdapterSync, SyncProof
from rayalign.loop.comparisons import compare_round
from rayalign.loop.gate import decide, saved_adapter
from rayalign.loop.guards import stage_guard
from rayalign.loop.round_facts import round_facts
from rayalign.loop.sampling import Sampled, Source, Unscored, commit_shards, make_shards, sampling_plan
from rayalign.loop.watch import step_of, watch
from rayalign.parts import Benchmarks, Evaluator, Generator, GroupBuilder, Learner, Reporter, Scorer, Turns
from rayalign.records import Adapter, EvalReport, Groups, JsonObject, SavedAdapter, Shards
from rayalign.store.round_dir import REFUSED, RoundDir
from rayalign.store.run_dir import RunDir


@dataclass(frozen=True, slots=True)
class Parts:
    """Who the loop drives; see the module for the rule that each keeps."""

    generator: Generator
    scorer: Scorer
    group_builder: GroupBuilder
    learner: Learner
    evaluator: Evaluator
    reporter: Reporter
    turns: Turns | None = None
    benchmarks: Benchmarks | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What all rounds of a run share."""

    config: RunConfig
    run_dir: RunDir
    parts: Parts
    prompts: PromptStore
    train_ids_N: np.ndarray
    """Ids of the training prompts, in the source's order."""
    base_model_sha256: str
    dataset: Source | None = None
    """Offline: the training prompts' responses, which are then not sampled."""
    revisions: Source | None = None
    """Offline: the dataset's own better responses to flawed ones; null where the model writes them."""


def produce(run: Run, round_index: int, adapter: Adapter) -> Groups:
    """Sample, score and group one round's prompts under `adapter`, whose version then stands in their commit."""
    round_dir = run.run_dir.round(round_index)
    config = run.config
    ids = draw_prompts(run.train_ids_N, config.run.seed, round_index, config.prompts.per_round)
    if round_dir.committed("prompts") is None:
        beside = not run.run_dir.round(round_index - 1).finished
        round_dir.write_prompts(run.prompts.stream(ids), adapter.version, beside=beside)
    shards = make_shards(ids, run.prompts.take)
    _sample(run, round_dir, shards, adapter)
    if (made := made_groups(config, round_dir)) is not None:
        return made
    if any("revisions" in objective.needs for objective in config.objectives):
        _revise(run, round_dir, shards, adapter)
    return _group(run, round_dir, shards)


def made_groups(config: RunConfig, round_dir: RoundDir) -> Groups | None:
    """The round's committed groups; None where there are none, or others are to be made of its responses."""
    saved = round_dir.committed("groups")
    if saved is None:
        return None
    kept = round_dir.adapter() is not None or saved.get("settings") == _settings(config, "objective", "groups")
    return Groups.from_commit(saved["groups"]) if kept else None


def _sample(run: Run, round_dir: RoundDir, shards: Shards, adapter: Adapter) -> None:
    config, parts = run.config, run.parts
    plan = sampling_plan(config, round_dir.index, "train")
    source = run.dataset or Sampled(plan, adapter, parts.generator, parts.scorer)
    guard = stage_guard(round_dir, "train", shards, source.total(shards), config.limits.score_errors, "training on")
    stage = "sample" if run.dataset is None else "read"
    totals = commit_shards(round_dir, shards, source, "train", parts.reporter, stage=stage, check=guard)
    if totals.items or round_dir.committed("sampling") is None:
        round_dir.commit("sampling", {}, stage=dataclasses.asdict(totals), scores=dict(guard.statuses))


def _revise(run: Run, round_dir: RoundDir, shards: Shards, adapter: Adapter) -> None:
    """Let the model answer its flawed responses again, with the judgment before its eyes (ILF's data)."""
    parts = run.parts
    asked = parts.group_builder.revision_shards(round_dir.index, shards.indices)
    plan = sampling_plan(run.config, round_dir.index, "revision")
    source = run.revisions or Sampled(plan, adapter, parts.generator, Unscored())
    commit_shards(round_dir, asked, source, "revision", parts.reporter, stage="revise")


def _group(run: Run, round_dir: RoundDir, shards: Shards) -> Groups:
    with run.parts.reporter.stage("groups", round_dir.index, shards.prompts) as progress:
        groups = run.parts.group_builder.build(round_dir.index, shards.indices, run.config.run.seed)
        progress.advance(shards.prompts)
    if groups.kept == 0:
        raise GuardError(
            f"round {round_dir.index}: no training group is left of {shards.prompts}",
            f"dropped: {groups.dropped}",
            "look at the scorer's rewards, or raise sampling.responses",
        )
    files = {}
    for path in [*groups.files, *groups.drop_files]:
        files |= round_dir.describe(path.removeprefix(f"{round_dir.relative}/"))
    settings = _settings(run.config, "objective", "groups")
    round_dir.commit("groups", files, groups=dataclasses.asdict(groups), seconds=progress.seconds, settings=settings)
    return groups


def consume(
    run: Run,
    round_index: int,
    groups: Groups,
    parent: SavedAdapter,
    sync: AdapterSync,
    trained: Callable[[], object] = lambda: None,
) -> tuple[SavedAdapter, SyncProof]:
    """Update the adapter on the groups and serve the result, proven.

    An adapter that could not be proven is set aside: tried again where more tolerance is given, else trained anew.

    Args:
        trained: called before another adapter is served.
    """
    round_dir = run.run_dir.round(round_index)
    tolerance = run.config.sync.tolerance
    learned = _settings(run.config, "training", "objective")
    refused = round_dir.committed(REFUSED)
    if refused is not None and refused["settings"] == learned and refused["tolerance"] < tolerance:
        round_dir.take_back_adapter()
    new = round_dir.adapter() or _update(run, round_dir, groups, parent)
    trained()
    try:
        return new, serve(run, round_index, new, sync)
    except SyncError:
        round_dir.set_aside_adapter(tolerance=tolerance, settings=learned)
        raise


def serve(run: Run, round_index: int, adapter: SavedAdapter, sync: AdapterSync) -> SyncProof:
    """Serve an adapter, proven. Raises as `AdapterSync.sync`."""
    with run.parts.reporter.stage("sync", round_index, 1) as progress:
        proof = sync.sync(adapter)
        progress.advance(1)
    return proof


def _settings(config: RunConfig, *sections: str) -> JsonObject:
    """What a commit notes of the settings that it depends on."""
    found = config.to_dict()
    return {name: found[name] for name in sections}


def sampler_of(run: Run, round_dir: RoundDir, served: SavedAdapter) -> SavedAdapter:
    """The adapter that answers a round's prompts: the one that is served, where no other one has begun to."""
    version = round_dir.sampler()
    if version is None or version == served.record.version:
        return served
    return saved_adapter(run.run_dir, version, run.base_model_sha256)


def _update(run: Run, round_dir: RoundDir, groups: Groups, parent: SavedAdapter) -> SavedAdapter:
    """Train and commit the round's adapter; returns it as it was stored, which is what will be served."""
    learner, sampler = run.parts.learner, sampler_of(run, round_dir, parent)

    def under_way() -> int:
        return int(learner.progress() * groups.kept)

    with run.parts.reporter.stage("update", round_dir.index, groups.kept, probe=under_way) as progress:
        rate = step_of(run.config, run.run_dir, round_dir.index)
        result = learner.update(round_dir.index, groups, parent.files, sampler.files, rate)
        progress.advance(groups.kept, int(result.metrics.get("tokens", 0)))
    if halvings := result.metrics.get("budget_halvings"):
        run.parts.reporter.say(f"the learner was out of memory: micro-batches of 1/{2**halvings:g} of their tokens")
    round_dir.forget_refused()
    files = {}
    for name, content in result.adapter.files.items():
        files |= round_dir.write(f"adapter/{name}", content)
    record = Adapter(
        version=round_dir.index,
        path=f"{round_dir.relative}/adapter",
        sha256=result.adapter.sha256,
        base_model_sha256=run.base_model_sha256,
        parent=parent.record.version,
    )
    round_dir.commit(
        "adapter",
        files,
        adapter=dataclasses.asdict(record),
        sampler=sampler.record.version,
        training=result.metrics,
        steps=result.steps,
        stage={"seconds": progress.seconds, "items": progress.items, "tokens": progress.tokens},
        flagged=result.flagged,
    )
    run.parts.reporter.event("training", round=round_dir.index, **result.metrics)
    saved = round_dir.adapter()
    assert saved is not None
    return saved


def finish_round(run: Run, round_dir: RoundDir, served: SavedAdapter, proof: SyncProof) -> None:
    """Evaluate where it is due, check the scores, compare with earlier rounds, write `report.json` and the round's
    commit, and rewrite the page."""
    evaluator, config = run.parts.evaluator, run.config
    due = round_dir.index % config.evaluation.every == 0 or round_dir.index == config.run.rounds
    report = EvalReport(round_dir.index, served.record.version, {})
    if due:
        report = evaluator.evaluate(round_dir.index, served, proof.canary_gap)
    # After the evaluation, whose scores it looks at too.
    trust = evaluator.trust(round_dir.index)
    compared = compare_round(config, run.run_dir, report) if due else {}
    gate = decide(config, round_dir, compared, run.parts.reporter)
    facts = round_facts(round_dir, evaluator, run.prompts, config.evaluation.responses)
    if run.parts.benchmarks is not None and (found := run.parts.benchmarks.run(round_dir.index, served)):
        facts["benchmarks"] = found
    if run.parts.turns is not None:
        facts["turns"] = run.parts.turns.facts(round_dir.index)
    if compared:
        facts["comparisons"] = {name: one.to_dict() for name, one in compared.items()}
    if gate is not None:
        facts["gate"] = gate
    content = {**report.to_dict(), "sync": dataclasses.asdict(proof), "trust": trust, **facts}
    if (guards := watch(config, run.run_dir, round_dir, content, run.parts.reporter)) is not None:
        content["guards"] = guards
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    round_dir.commit("report", round_dir.write("report.json", text.encode()))
    round_dir.finish(adapter_sha256=served.record.sha256)
    run.parts.reporter.event("round", **content)
    run.parts.reporter.write()
