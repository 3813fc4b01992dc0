"""One round: produce training groups with the adapter that is served, then consume them into the next adapter.

    prompts ─► sample ─► score ─► groups          produce(round, adapter r-1)
                                    │
    serve r ◄─ sync ◄─ update ◄─────┘             consume(round, groups)
       └─► evaluate ─► report ─► COMMIT

Offline, responses and scores are read from a dataset. Every arrow ends in a commit of the run folder, so a killed round
goes on after the last one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayalign.config.run import RunConfig
from rayalign.data.drawing import draw_prompts
from rayalign.data.prompt_store import PromptStore
from rayalign.errors import GuardError
from rayalign.loop.adapter_sync import AdapterSync
from rayalign.loop.guards import ScoreErrorGuard
from rayalign.loop.sampling import Sampled, Source, Unscored, commit_shards, make_shards
from rayalign.parts import Evaluator, Generator, GroupBuilder, Learner, Reporter, Scorer
from rayalign.records import Adapter, AdapterFiles, EvalReport, Groups, SamplingPlan, Shards, weights_file
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir

SHOWN_ANSWERS = 8


@dataclass(frozen=True, slots=True)
class Stages:
    """The parts that the loop drives."""

    generator: Generator
    scorer: Scorer
    group_builder: GroupBuilder
    learner: Learner
    evaluator: Evaluator
    reporter: Reporter


@dataclass(frozen=True, slots=True)
class Run:
    """What all rounds of a run share."""

    config: RunConfig
    run_dir: RunDir
    stages: Stages
    prompts: PromptStore
    train_ids_N: np.ndarray
    """Ids of the training prompts, in the source's order."""
    base_model_sha256: str
    dataset: Source | None = None
    """Offline: the training prompts' responses, which are then not sampled."""
    revisions: Source | None = None
    """Offline: the dataset's own better responses to flawed ones; null where the model writes them."""


def produce(run: Run, round_index: int, adapter: Adapter) -> Groups:
    """Sample, score and group one round's prompts under `adapter`."""
    round_dir = run.run_dir.round(round_index)
    config = run.config
    ids = draw_prompts(run.train_ids_N, config.run.seed, round_index, config.prompts.per_round)
    if round_dir.committed("prompts") is None:
        round_dir.write_prompts(run.prompts.stream(ids))
    shards = make_shards(ids, run.prompts.take)
    _sample(run, round_dir, shards, adapter)
    saved = round_dir.committed("groups")
    if saved is not None:
        return Groups.from_commit(saved["groups"])
    if any("revisions" in objective.needs for objective in config.objectives):
        _revise(run, round_dir, shards, adapter)
    with run.stages.reporter.stage("groups", round_index, len(ids)) as progress:
        groups = run.stages.group_builder.build(round_index, shards.indices, config.run.seed)
        progress.advance(len(ids))
    if groups.kept == 0:
        raise GuardError(
            f"round {round_index}: no training group is left of {len(ids)}",
            f"dropped: {groups.dropped}",
            "look at the scorer's rewards, or raise sampling.responses",
        )
    files = {}
    for path in [*groups.files, *groups.drop_files]:
        files |= round_dir.describe(path.removeprefix(f"{round_dir.relative}/"))
    round_dir.commit("groups", files, groups=dataclasses.asdict(groups), seconds=progress.seconds)
    return groups


def _plan(run: Run, round_index: int) -> SamplingPlan:
    section = run.config.sampling
    return SamplingPlan(
        round_index=round_index,
        purpose="train",
        seed=run.config.run.seed,
        responses=section.responses,
        temperature=section.temperature,
        top_p=section.top_p,
        max_tokens=section.max_tokens,
    )


def _sample(run: Run, round_dir: RoundDir, shards: Shards, adapter: Adapter) -> None:
    config, stages = run.config, run.stages
    sampled = Sampled(_plan(run, round_dir.index), adapter, stages.generator, stages.scorer)
    source = run.dataset or sampled
    guard = ScoreErrorGuard(config.limits.score_errors, source.total(shards))
    for index in shards.indices:
        rows = round_dir.read_shard("train", index)
        if rows is not None:
            guard.count(rows)
    stage = "sample" if source is sampled else "read"
    totals = commit_shards(round_dir, shards, source, "train", stages.reporter, stage=stage, check=guard)
    if totals.items or round_dir.committed("sampling") is None:
        facts = {"stage": dataclasses.asdict(totals), "scores": dict(guard.statuses)}
        round_dir.commit("sampling", {}, **facts)


def _revise(run: Run, round_dir: RoundDir, shards: Shards, adapter: Adapter) -> None:
    """Let the model answer its flawed responses again, with the judgment before its eyes (ILF's data)."""
    stages = run.stages
    asked = stages.group_builder.revision_shards(round_dir.index, shards.indices)
    plan = dataclasses.replace(_plan(run, round_dir.index), purpose="revision", responses=1)
    source = run.revisions or Sampled(plan, adapter, stages.generator, Unscored())
    commit_shards(round_dir, asked, source, "revision", stages.reporter, stage="revise")


def consume(run: Run, round_index: int, groups: Groups, adapter: Adapter, sync: AdapterSync) -> Adapter:
    """Update the adapter on the groups, serve the result, evaluate it, and finish the round."""
    round_dir = run.run_dir.round(round_index)
    new = load_adapter(run, round_index)
    if new is None:
        _update(run, round_dir, groups, adapter)
        new = load_adapter(run, round_index)
        assert new is not None
    proof = sync.sync(*new)
    finish_round(run, round_dir, *new, sync=dataclasses.asdict(proof))
    return new[0]


def _update(run: Run, round_dir: RoundDir, groups: Groups, adapter: Adapter) -> None:
    parent = load_adapter(run, adapter.version)
    with run.stages.reporter.stage("update", round_dir.index, groups.kept) as progress:
        result = run.stages.learner.update(round_dir.index, groups, parent[1] if parent else None)
        progress.advance(groups.kept, int(result.metrics.get("tokens", 0)))
    files = {}
    for name, content in result.adapter.files.items():
        files |= round_dir.write(f"adapter/{name}", content)
    record = Adapter(
        version=round_dir.index,
        path=f"{round_dir.relative}/adapter",
        sha256=result.adapter.sha256,
        base_model_sha256=run.base_model_sha256,
        parent=adapter.version,
    )
    stage = {"seconds": progress.seconds, "items": progress.items, "tokens": progress.tokens}
    round_dir.commit(
        "adapter",
        files,
        adapter=dataclasses.asdict(record),
        training=result.metrics,
        steps=result.steps,
        stage=stage,
        flagged=result.flagged,
    )
    run.stages.reporter.event("training", round=round_dir.index, **result.metrics)


def load_adapter(run: Run, version: int) -> tuple[Adapter, AdapterFiles] | None:
    """A round's committed adapter; None for the base and for a round that has none yet."""
    found = run.run_dir.round(version).adapter()
    if found is None:
        return None
    record, files = found
    return record, AdapterFiles(version, hashlib.sha256(files[weights_file(files)]).hexdigest(), files)


def finish_round(
    run: Run, round_dir: RoundDir, adapter: Adapter, files: AdapterFiles | None, sync: dict[str, Any]
) -> None:
    """Evaluate where it is due, check the scores, write `report.json` and the round's commit, and rewrite the page."""
    due = round_dir.index % run.config.evaluation.every == 0 or round_dir.index == run.config.run.rounds
    report = EvalReport(round_dir.index, adapter.version, {})
    if due:
        report = run.stages.evaluator.evaluate(round_dir.index, adapter, files)
    trust = run.stages.evaluator.trust(round_dir.index)
    content = {**report.to_dict(), "sync": sync, "trust": trust, **_round_facts(run, round_dir)}
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    round_dir.commit("report", round_dir.write("report.json", text.encode()))
    round_dir.finish(adapter_sha256=adapter.sha256)
    run.stages.reporter.event("round", **content)
    run.stages.reporter.write()


def _round_facts(run: Run, round_dir: RoundDir) -> dict[str, Any]:
    """What the round's commits say, for people: times, counts, training metrics, some answers."""
    facts: dict[str, Any] = {"stages": {}, "answers": []}
    for name, stage in (("sampling", "sample"), ("adapter", "update"), ("evaluation", "evaluate")):
        saved = round_dir.committed(name)
        if saved is not None:
            facts["stages"][stage] = saved["stage"]
    if (sampling := round_dir.committed("sampling")) is not None:
        facts["scores"] = sampling["scores"]
    if (groups := round_dir.committed("groups")) is not None:
        facts["groups"] = {name: groups["groups"][name] for name in ("kept", "dropped", "stats")}
    if (update := round_dir.committed("adapter")) is not None:
        facts["training"] = update["training"]
        facts["flagged"] = [_shown(run, example) for example in update.get("flagged", [])]
    for row in (round_dir.read_shard("evaluation", 0) or [])[:: run.config.evaluation.responses][:SHOWN_ANSWERS]:
        facts["answers"].append(
            {
                "prompt": run.stages.evaluator.prompt_text(row.sample.prompt_id),
                "response": row.sample.text,
                "reward": row.reward,
            }
        )
    return facts


def _shown(run: Run, example: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": run.prompts[example["prompt_id"]].text, **example}
