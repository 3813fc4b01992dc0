"""A round's evaluation: sample and score the held-out prompts, and measure them against the baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from rayalign.config.run import RunConfig
from rayalign.config.scoring import verifiers_of
from rayalign.evaluation.metrics import measure
from rayalign.loop.guards import stage_guard
from rayalign.loop.repeats import evaluation_rows, repeat_scores
from rayalign.loop.sampling import (
    Advance,
    Sampled,
    StageTotals,
    commit_shards,
    count_one_by_one,
    make_shards,
    read_rows,
    sampling_plan,
)
from rayalign.loop.trust import TrustChecks
from rayalign.parts import Generator, Learner, Reporter, Scorer
from rayalign.records import (
    FROM_DATASET,
    SAME_GAP,
    Adapter,
    AdapterFiles,
    EvalReport,
    JsonObject,
    Prompt,
    Purpose,
    Sample,
    SampledShard,
    SavedAdapter,
    ScoredSample,
    ScoredShard,
    Shard,
    Shards,
    TokenSequence,
)
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir


class HeldOutEvaluator:
    """`Evaluator` on held-out prompts; every round uses the same prompts and its own seeds."""

    def __init__(
        self,
        config: RunConfig,
        run_dir: RunDir,
        prompts: Sequence[Prompt],
        generator: Generator,
        scorer: Scorer,
        learner: Learner,
        reporter: Reporter,
    ) -> None:
        self._config, self._run_dir = config, run_dir
        self._prompts = {prompt.id: prompt for prompt in prompts}
        self._shards = make_shards(list(prompts), list)
        self._generator, self._scorer, self._learner, self._reporter = generator, scorer, learner, reporter
        self._verifiers = verifiers_of(config.scoring)
        self._trust = TrustChecks(config, run_dir, self._prompts, self._verifiers, scorer, reporter)

    def prompt_text(self, prompt_id: str) -> str:
        return self._prompts[prompt_id].text

    def trust(self, round_index: int) -> JsonObject:
        return self._trust.report(round_index)

    def evaluate(self, round_index: int, served: SavedAdapter, gap: float) -> EvalReport:
        round_dir, adapter = self._run_dir.round(round_index), served.record
        totals = self._sample(round_dir, "evaluation", adapter, "evaluate")
        repeat_scores(self._config, round_dir, self._shards, self._scorer, self._reporter)
        rows, *again = evaluation_rows(round_dir)
        if self._config.evaluation.greedy:
            self._sample(round_dir, "greedy", adapter, "evaluate greedily")
        if round_index == 0 and "target" in self._config.evaluation.baselines:
            source = Targets(self._scorer)
            commit_shards(round_dir, self._shards, source, "target", self._reporter, stage="score targets")
        round_dir.commit("evaluation", {}, stage=dataclasses.asdict(totals))
        seed = self._config.run.seed
        baselines = self._baselines(round_index)
        first = {name: rows_RN[0] for name, rows_RN in baselines.items()}
        repeats = {"": again, **{name: rows_RN[1:] for name, rows_RN in baselines.items()}}
        metrics = measure(rows, self._kl_sums(rows, served.files, gap), first, self._verifiers, seed, repeats)
        if self._config.evaluation.greedy:
            greedy = measure(read_rows(round_dir, "greedy", self._shards.indices), None, {}, self._verifiers, seed)
            metrics |= {f"{name}/greedy": greedy[name] for name in ("pass_rate", "mean_reward") if name in greedy}
        return EvalReport(round_index, adapter.version, metrics)

    def _sample(self, round_dir: RoundDir, purpose: Purpose, adapter: Adapter, stage: str) -> StageTotals:
        plan = sampling_plan(self._config, round_dir.index, purpose)
        source = Sampled(plan, adapter, self._generator, self._scorer)
        answers, budget = source.total(self._shards), self._config.limits.score_errors
        guard = stage_guard(round_dir, purpose, self._shards, answers, budget, "measuring")
        return commit_shards(round_dir, self._shards, source, purpose, self._reporter, stage=stage, check=guard)

    def _kl_sums(
        self, rows: Sequence[ScoredSample], files: AdapterFiles | None, gap: float
    ) -> dict[tuple[str, int], float]:
        """For each answer, sum over its tokens of log pi - log base (nats); 0 for the base itself.

        Of log pi the generator's own numbers are taken where they are proven to be the learner's to `SAME_GAP`.
        """
        rows = [row for row in rows if row.sample.finish_reason != "failed"]
        keys = [(row.sample.prompt_id, row.sample.index) for row in rows]
        if files is None:
            return dict.fromkeys(keys, 0.0)
        sequences = [TokenSequence(self._prompts[r.sample.prompt_id].token_ids, r.sample.token_ids) for r in rows]
        own = gap <= SAME_GAP
        with self._reporter.stage("measure KL", files.version, (2 - own) * len(sequences)) as progress:
            if own:
                policy = [row.sample.logprobs for row in rows]
            else:
                policy = self._learner.logps(sequences, "current", files)
                progress.advance(len(sequences))
            base = self._learner.logps(sequences, "base", files)
            progress.advance(len(sequences))
        return {key: sum(p) - sum(b) for key, p, b in zip(keys, policy, base, strict=True)}

    def _baselines(self, round_index: int) -> dict[str, list[list[ScoredSample]]]:
        """Rows of the baselines, each with its repeats: round 0, the last evaluated round before this one, targets."""
        evaluated = [r for r in self._run_dir.rounds() if r.index < round_index and r.committed("evaluation")]
        rounds = {"round_0": evaluated[:1], "previous": evaluated[-1:]}
        return {
            name: evaluation_rows(found[0]) for name in self._config.evaluation.baselines if (found := rounds.get(name))
        } | self._targets()

    def _targets(self) -> dict[str, list[list[ScoredSample]]]:
        if "target" not in self._config.evaluation.baselines:
            return {}
        return {"target": [read_rows(self._run_dir.round(0), "target", self._shards.indices)]}


@dataclasses.dataclass(frozen=True, slots=True)
class Targets:
    """`Source`: the prompts' own reference answers, scored like any answer. They have no tokens: nothing reads them."""

    scorer: Scorer

    def count(self, prompt: Prompt) -> int:
        return int(prompt.target is not None)

    def total(self, shards: Shards) -> int:
        return count_one_by_one(shards, self.count)

    def scored(self, shards: Iterable[Shard], advance: Advance) -> Iterator[ScoredShard]:
        return self.scorer.score(self._answers(shards, advance))

    def _answers(self, shards: Iterable[Shard], advance: Advance) -> Iterator[SampledShard]:
        for shard in shards:
            prompts = tuple(prompt for prompt in shard.prompts if prompt.target is not None)
            samples = [Sample(p.id, 0, p.target or "", [], [], "stop", FROM_DATASET, 0) for p in prompts]
            advance(len(samples), 0)
            yield SampledShard(Shard(shard.index, prompts), samples)

    def under_way(self) -> int:
        return 0
