"""The round config: one YAML file per run, checked whole before anything heavy is imported.

`load_config` reads the file, applies `--set a.b=c`, and reports every mistake at once. All models are frozen and
refuse unknown keys. A key that is here does what it says; values that later versions will add are refused today.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayalign.config.base import Section
from rayalign.config.benchmarks import BenchmarkSection, held_judges
from rayalign.config.checks import CHECKS
from rayalign.config.cluster import ClusterSection, LimitsSection
from rayalign.config.data import GroupsSection, PromptsSection, SamplesSection, SamplingSection
from rayalign.config.evaluation import EvaluationSection
from rayalign.config.guards import Guard, WorseGuard
from rayalign.config.model import LoraSection as LoraSection, ModelSection
from rayalign.config.objective import (
    TEMPLATE_TOKENS,
    JudgedObjective,
    KWayObjective,
    Objective,
    PairObjective,
    ReferenceObjective,
    RevisionObjective,
    SelfContrastObjective,
)
from rayalign.config.overlap import beside_is_refused
from rayalign.config.rewards import RuleScoring
from rayalign.config.scoring import CombineSection, ScorerSettings, Scoring, judges_of
from rayalign.config.services import JudgeScoring
from rayalign.config.tracking import TrackingSection
from rayalign.config.training import LoopSection, SyncSection, TrainingSection


class RunSection(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "run"
    dir: str = "runs"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    rounds: Annotated[int, Field(ge=1, le=9999)] = 5


class RunConfig(Section):
    """Everything one run needs. Everything has a default except model, prompts, scoring and objective."""

    run: RunSection = RunSection()
    model: ModelSection
    prompts: PromptsSection
    sampling: SamplingSection = SamplingSection()
    samples: SamplesSection | None = None
    scoring: list[Scoring]
    combine: CombineSection = CombineSection()
    groups: GroupsSection = GroupsSection()
    objective: Objective | Annotated[list[Objective], Field(min_length=1)]
    training: TrainingSection = TrainingSection()
    sync: SyncSection = SyncSection()
    loop: LoopSection = LoopSection()
    evaluation: EvaluationSection = EvaluationSection()
    guards: list[Guard] = Field(default=[WorseGuard()])
    """What the run does by itself where a round shows that it goes wrong."""
    cluster: ClusterSection = ClusterSection()
    limits: LimitsSection = LimitsSection()
    tracking: TrackingSection = TrackingSection()

    @property
    def objectives(self) -> list[Objective]:
        return self.objective if isinstance(self.objective, list) else [self.objective]

    @property
    def reference(self) -> Literal["round_start", "base"] | None:
        """The frozen policy that the objectives compare with; None where none does."""
        return next((o.reference for o in self.objectives if isinstance(o, ReferenceObjective)), None)

    @property
    def generator_may_be_reference(self) -> bool:
        """Whether the reference log-probabilities may be what the generator said of its responses: all that is compared
        are these, under the policy that sampled them."""
        compared = [o for o in self.objectives if isinstance(o, ReferenceObjective)]
        known = all(isinstance(o, KWayObjective | PairObjective) and o.reference == "round_start" for o in compared)
        asked = self.training.reference_logps != "learner" and self.samples is None
        return asked and bool(compared) and known

    @property
    def scorer_settings(self) -> ScorerSettings:
        """What the scorers of a run read of its config."""
        pool = self.cluster.scorers
        device = "cuda" if pool.gpus > 0 else "cpu"
        return ScorerSettings(self.scoring, self.combine, self.run.seed, device, pool.min)

    @property
    def gold(self) -> str | None:
        """Name of the scorer that the others are measured against."""
        demo = (s.name for s in self.scoring if isinstance(s, RuleScoring) and s.function == "demo")
        return self.evaluation.gold or next(demo, None)

    @property
    def reads_targets(self) -> bool:
        """Whether anything is done with the prompts' reference answers."""
        learns = any("targets" in objective.needs for objective in self.objectives)
        return learns or "target" in self.evaluation.baselines or self.similarity_scorer is not None

    @property
    def similarity_scorer(self) -> str | None:
        """Name of the scorer that says how similar a response is to its prompt's target; None where none does."""
        named = next((o.similarity for o in self.objectives if isinstance(o, SelfContrastObjective)), None)
        return named or next((section.name for section in self.scoring if section.type == "similarity"), None)

    @property
    def judges(self) -> list[JudgeScoring]:
        """The judges whose models the run holds in actors: of its scorers, then of its benchmarks alone."""
        return [*judges_of(self.scoring), *held_judges(self.evaluation.benchmarks, self.scoring)]

    def wanted_gpus(self, *, least: bool = False) -> float:
        """GPUs that all actors ask for; those that generators and learner share count once.

        Args:
            least: with the replicas that a run begins with; else with all that may join.
        """
        pools = self.cluster
        generators, scorers, judges = (
            pool.min if least else pool.max for pool in (pools.generators, pools.scorers, pools.judges)
        )
        sides = generators * pools.generators.gpus, self.training.workers * pools.learner.gpus
        others = scorers * pools.scorers.gpus + len(self.judges) * judges * pools.judges.gpus
        return others + (max(sides) if pools.shares_gpus else sum(sides))

    @property
    def evaluates_beside(self) -> bool:
        """Whether a round is evaluated while the next one is sampled."""
        if self.loop.evaluate_beside != "auto":
            return self.loop.evaluate_beside
        return self.cluster.generators.gpus > 0 and not any(beside_is_refused(self))

    @property
    def merges(self) -> bool:
        """Whether generators serve the adapter merged into their weights."""
        engines = self.cluster.generators
        exact_on_cpu = self.model.dtype == "float32" and engines.gpus == 0 and engines.tensor_parallel == 1
        return self.sync.mode == "merged" or (self.sync.mode == "auto" and exact_on_cpu)

    @property
    def max_sequence_tokens(self) -> int:
        """Longest prompt plus longest response that the generator gets."""
        plain = self.prompts.max_tokens + self.sampling.max_tokens
        revises = any(isinstance(objective, RevisionObjective) for objective in self.objectives)
        trained = self.max_judged_tokens + self.sampling.max_tokens if revises else plain
        asked = [self.asked_tokens(one) for one in self.evaluation.benchmarks]
        return max([trained, *asked])

    def asked_tokens(self, benchmark: BenchmarkSection) -> int:
        """Longest conversation plus longest answer of a benchmark."""
        longest = benchmark.prompt_tokens or self.prompts.max_tokens
        return longest + (benchmark.max_tokens or self.sampling.max_tokens)

    @property
    def max_response_tokens(self) -> int:
        """Longest response that the learner gets, whether sampled or read."""
        read = self.samples.max_tokens if self.samples is not None else None
        return read or self.sampling.max_tokens

    @property
    def max_judged_tokens(self) -> int:
        """Longest prompt, response and, where there are any, judgment and its template: what the learner may get."""
        judgments = [o.judgment_max_tokens for o in self.objectives if isinstance(o, JudgedObjective)]
        extra = max(judgments) + TEMPLATE_TOKENS if judgments else 0
        return self.prompts.max_tokens + max(self.max_response_tokens, self.sampling.max_tokens) + extra

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        for check in CHECKS:
            check(self)
        return self
