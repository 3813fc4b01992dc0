"""Hand-written parts for tests of the loop: no ray, no torch, no vllm."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rayalign.config.run import RunConfig
from rayalign.data.prompt_store import PromptStore
from rayalign.data.reward_scale import known_alphas, measure
from rayalign.data.selection import build_group
from rayalign.errors import AdapterVersionError
from rayalign.loop.evaluator import HeldOutEvaluator
from rayalign.loop.round import Parts, Run
from rayalign.records import (
    ADAPTER_WEIGHTS,
    SHARD_PROMPTS,
    Adapter,
    AdapterFiles,
    Expected,
    Groups,
    Prompt,
    ReplicaState,
    Sample,
    SampledShard,
    SamplingPlan,
    Score,
    ScoredSample,
    ScoredShard,
    Shard,
    Shards,
    TokenSequence,
    TrainingGroup,
    UpdateResult,
    prompt_id,
)
from rayalign.store.group_parts import groups_of, write_part
from rayalign.store.run_dir import RunDir

SCORE_CHECKS = 1 + 2
"""Shards that the scorers get in round 0 beside the evaluation's: canaries, and the anchors twice."""


class Killed(BaseException):
    """Stands for a kill: nothing in the loop may catch it."""


class Fuse:
    """Raises `Killed` at the n-th tick."""

    def __init__(self, ticks: int | None = None) -> None:
        self.left = ticks

    def tick(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


def no_thread_is_left(wait_for: Callable) -> None:
    """Wait until what the loop had begun aside has ended."""
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "waited-for"], 60)


def make_config(**changes: Any) -> RunConfig:
    base: dict[str, Any] = {
        "run": {"name": "fake", "rounds": 3},
        "model": {"base": "demo"},
        "prompts": {"source": "demo", "per_round": 40, "holdout": 40},
        "sampling": {"responses": 4},
        "scoring": [{"type": "rule", "function": "demo"}],
        "objective": {"type": "nca"},
        "evaluation": {"responses": 2},
    }
    return RunConfig.model_validate({**base, **changes})


def make_prompts(count: int, tag: str) -> list[Prompt]:
    texts = [f"{tag} {i}" for i in range(count)]
    messages = [[{"role": "user", "content": text}] for text in texts]
    return [Prompt(prompt_id(m), m, [1, 2, 3 + i]) for i, m in enumerate(messages)]


def logprob(token: int, version: int) -> float:
    return -1.0 - 0.1 * token - 0.5 * version


class FakeGenerator:
    """Answers with tokens that depend on seed, prompt and index; `serves` can make it lie about what it serves."""

    def __init__(self, fuse: Fuse, replicas: int = 2) -> None:
        self.fuse = fuse
        self.replicas = replicas
        self.held: int | None = None
        self.serves = lambda version: version
        self.corrupt_checksum = False
        self.loads: list[int] = []
        self.asked: list[tuple[str, int, str]] = []
        """(purpose, round, prompt id) of every prompt that was sampled."""

    def load(self, adapter: Adapter, files: AdapterFiles | None) -> list[ReplicaState]:
        self.held = adapter.version
        self.loads.append(adapter.version)
        sha256 = hashlib.sha256(files.files[ADAPTER_WEIGHTS]).hexdigest() if files else None
        if self.corrupt_checksum and files:
            sha256 = "0" * 64
        return [ReplicaState(f"generator-{i}", adapter.version, sha256) for i in range(self.replicas)]

    def sample(self, shards: Iterable[Shard], plan: SamplingPlan, adapter: Adapter) -> Iterator[SampledShard]:
        if adapter.version != self.held:
            raise AdapterVersionError(f"asked for {adapter.version}, holds {self.held}")
        for shard in shards:
            self.fuse.tick()
            samples = []
            for prompt in shard.prompts:
                self.asked.append((plan.purpose, plan.round_index, prompt.id))
                for index in range(plan.responses):
                    key = f"{plan.seed}:{plan.round_index}:{plan.purpose}:{prompt.id}:{index}"
                    seed = int(hashlib.sha256(key.encode()).hexdigest()[:6], 16)
                    tokens = [5 + seed % 7, 6 + seed % 5, 2]
                    logprobs = [logprob(t, adapter.version) for t in tokens]
                    samples.append(
                        Sample(prompt.id, index, f"t{tokens}", tokens, logprobs, "stop", adapter.version, seed)
                    )
            yield SampledShard(shard, samples)

    def under_way(self) -> int:
        return 0

    def expect(self, expected: Expected) -> None:
        self.expected = expected

    def logps(self, sequences: Sequence[TokenSequence], adapter: Adapter) -> dict[str, list[list[float]]]:
        version = self.serves(adapter.version)
        answer = [[logprob(t, version) for t in s.response_token_ids] for s in sequences]
        return {f"generator-{i}": answer for i in range(self.replicas)}


class FakeScorer:
    """Rewards small tokens; `reward_of` may be replaced. With a judge it criticises what has no reward."""

    def __init__(self, fuse: Fuse, judge: bool = False) -> None:
        self.fuse = fuse
        self.judge = judge
        self.reward_of = lambda sample: float(sample.token_ids[:1] == [5])

    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        for item in sampled:
            self.fuse.tick()
            rows = []
            for sample in item.samples:
                reward = self.reward_of(sample)
                status = "error" if reward is None else "ok"
                score = Score("rule:demo", "1", status, reward, reason="broken rule" if reward is None else None)
                scores = [score, judgment_of(reward)] if self.judge else [score]
                rows.append(ScoredSample(sample, scores, reward))
            yield ScoredShard(item.shard, rows)


def judgment_of(reward: float | None) -> Score:
    flawed = not reward
    return Score(
        "judge:demo", "1", "ok", judgment="Bad." if flawed else "Perfect.", verdict="flawed" if flawed else "perfect"
    )


class FakeGroupBuilder:
    """Groups of whatever the objectives need; a revision's prompt is named after its response."""

    def __init__(self, run_dir: RunDir, config: RunConfig, fuse: Fuse) -> None:
        self.run_dir, self.config, self.fuse = run_dir, config, fuse
        self.needs = frozenset(need for objective in config.objectives for need in objective.needs)

    def start(self) -> None:
        pass

    def revision_shards(self, round_index: int, shards: Sequence[int]) -> Shards:
        self.fuse.tick()
        found = []
        for shard in shards:
            rows = self.run_dir.round(round_index).read_shard("train", shard) or []
            flawed = [row.sample for row in rows if row.scores[-1].verdict == "flawed"]
            asked = [Prompt(f"better-{s.prompt_id}-{s.index}", [], [*s.token_ids, 1]) for s in flawed]
            found.append(Shard(shard, tuple(asked)))
        return Shards.of([shard for shard in found if shard.prompts])

    def _revised(self, shard: int, round_index: int, group: TrainingGroup) -> TrainingGroup:
        rows = self.run_dir.round(round_index).read_shard("revision", shard) or []
        better = {row.sample.prompt_id: row.sample.token_ids for row in rows}
        ids = [better.get(f"better-{group.prompt_id}-{i}", []) for i in group.response_indices]
        return dataclasses.replace(group, revised_token_ids=ids)

    def build(self, round_index: int, shards: Sequence[int], seed: int) -> Groups:
        self.fuse.tick()
        round_dir = self.run_dir.round(round_index)
        groups = []
        for shard in shards:
            rows = round_dir.read_shard("train", shard) or []
            for prompt in round_dir.read_prompts(shard * SHARD_PROMPTS, SHARD_PROMPTS):
                mine = [row for row in rows if row.sample.prompt_id == prompt.id]
                group = build_group(prompt, mine, self.config.groups, self.needs)
                groups.append(self._revised(shard, round_index, group) if "revisions" in self.needs else group)
        alphas = known_alphas(self.config.objectives, round_index)
        scale = measure([group.rewards for group in groups if group.keep], alphas)
        return groups_of([write_part(round_dir, 0, groups)], scale.stats() if "rewards" in self.needs else {})


class FakeLearner:
    """The adapter's bytes are a hash of its parent, of who sampled and of the group file: any difference shows."""

    def __init__(self, run_dir: RunDir, fuse: Fuse) -> None:
        self.run_dir, self.fuse = run_dir, fuse
        self.rates: list[float] = []
        """Of each update, how many times the config's learning rate."""

    def progress(self) -> float:
        return 0.0

    def update(
        self,
        round_index: int,
        groups: Groups,
        parent: AdapterFiles | None,
        sampler: AdapterFiles | None,
        rate: float = 1.0,
    ) -> UpdateResult:
        self.fuse.tick()
        self.rates.append(rate)
        digest = hashlib.sha256((parent.sha256 if parent else "base").encode())
        digest.update((sampler.sha256 if sampler else "base").encode())
        for file in groups.files:
            digest.update((self.run_dir.root / file).read_bytes())
        weights = digest.digest()
        files = {ADAPTER_WEIGHTS: weights, "adapter_config.json": b"{}"}
        adapter = AdapterFiles(round_index, hashlib.sha256(weights).hexdigest(), files)
        return UpdateResult(adapter, {"loss": 1.0 / round_index, "tokens": 10.0}, [{"loss": 1.0 / round_index}])

    def logps(
        self,
        sequences: Sequence[TokenSequence],
        which: str,
        current: AdapterFiles | None,
        round_start: AdapterFiles | None = None,
    ) -> list[list[float]]:
        self.fuse.tick()
        version = 0 if which == "base" or current is None else current.version
        return [[logprob(t, version) for t in s.response_token_ids] for s in sequences]


class FakeProgress:
    def __init__(self) -> None:
        self.items = self.tokens = 0
        self.seconds = 1.0

    def advance(self, items: int, tokens: int = 0) -> None:
        self.items += items
        self.tokens += tokens


class FakeReporter:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.stages: list[tuple[str, int, int, int]] = []
        self.written = 0

    def say(self, text: str) -> None:
        self.said.append(text)

    def event(self, kind: str, **fields: Any) -> None:
        self.events.append((kind, fields))

    @contextmanager
    def stage(
        self, name: str, round_index: int, total: int, done: int = 0, probe: Any = None
    ) -> Iterator[FakeProgress]:
        self.stages.append((name, round_index, total, done))
        yield FakeProgress()

    def write(self) -> None:
        self.written += 1


def make_run(root: Any, config: RunConfig | None = None, fuse: Fuse | None = None) -> Run:
    config, fuse = config or make_config(), fuse or Fuse()
    run_dir = RunDir(root)
    run_dir.open(config.to_dict())
    judge = any(section.type == "judge" for section in config.scoring)
    generator, scorer, learner = FakeGenerator(fuse), FakeScorer(fuse, judge), FakeLearner(run_dir, fuse)
    reporter = FakeReporter()
    holdout = make_prompts(40, "held out")
    evaluator = HeldOutEvaluator(config, run_dir, holdout, generator, scorer, learner, reporter)
    parts = Parts(generator, scorer, FakeGroupBuilder(run_dir, config, fuse), learner, evaluator, reporter)
    prompts = PromptStore()
    prompts.add(make_prompts(100, "train"))
    return Run(config, run_dir, parts, prompts, prompts.ids()[0], "b" * 64)
