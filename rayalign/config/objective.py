"""The objectives of a round, one class per `type`, with what each needs of the scored samples.

A run may name several, each with a weight; they share the responses, one reference policy and one update.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from rayalign.config.base import NotNegative, Positive, Probability, Scheduled, Section, value_at

Needs = Literal["rewards", "judgments", "targets", "revisions"]
"""What an objective is computed from, beside the responses."""

ALPACA_JUDGED = (
    "Below is an instruction that describes a task, paired with a judgment. Write a response to the instruction and "
    "the response should match the corresponding judgment.\n\n"
    "### Instruction:\n{instruction}\n\n### Judgment:\n{judgment}\n\n### Response:"
)
FORWARD = "### Instruction:\n{instruction}\n\n### Response:\n{response}\n\n### Judgment:"
REVISION = (
    "Below is an instruction, a response to it, and a judgment of the response. Write a better response.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n{response}\n\n### Judgment:\n{judgment}\n\n### Better response:"
)

TEMPLATE_TOKENS = 256
"""Room for a judgment template's own text; a longer one is refused."""


class ObjectiveSection(Section):
    weight: Scheduled = 1.0
    needs: ClassVar[frozenset[Needs]] = frozenset()


class ReferenceObjective(ObjectiveSection):
    """Compares the policy with a frozen reference; `beta` scales the summed log-ratios."""

    beta: Scheduled = 0.3
    reference: Literal["round_start", "base"] = "round_start"


class KWayObjective(ReferenceObjective):
    """All K responses of a prompt with their rewards; `alpha` divides the rewards."""

    alpha: Scheduled | Literal["auto"] = 0.1
    """`auto` is the spread of a round's rewards, so that the same rewards on another scale give the same weights."""
    needs = frozenset[Needs]({"rewards"})

    def alpha_at(self, round_index: int, spread: float | None = None) -> float:
        """The number that divides a round's rewards.

        Args:
            spread: of the rewards within a prompt (`data.reward_scale`); null where it was not measured. At 0 all
                answers of a prompt have one weight, whatever divides their rewards: `auto` is 1.

        Raises:
            ValueError: `auto` without a spread.
        """
        if self.alpha != "auto":
            return value_at(self.alpha, round_index)
        if spread is None:
            raise ValueError("objective.alpha is auto, and the spread of the round's rewards was not measured")
        return spread or 1.0


class NCAObjective(KWayObjective):
    type: Literal["nca"]


class InfoNCAObjective(KWayObjective):
    type: Literal["info_nca"]


class PairObjective(ReferenceObjective):
    """Pairs of responses of one prompt, by reward."""

    pairs: Literal["best_worst", "all"] = "best_worst"
    """`best_worst`: one pair per prompt; `all`: every two responses whose rewards differ."""
    needs = frozenset[Needs]({"rewards"})


class DPOObjective(PairObjective):
    type: Literal["dpo"]


class PairwiseNCAObjective(PairObjective):
    type: Literal["pairwise_nca"]


class BiasedNCAObjective(PairObjective):
    type: Literal["biased_nca"]


class SPINObjective(ReferenceObjective):
    """The prompt's target against the first sampled response."""

    type: Literal["spin"]
    needs = frozenset[Needs]({"targets"})


class SPINHingeObjective(ReferenceObjective):
    """SPIN with a hinge: a pair that is far enough apart teaches nothing more."""

    type: Literal["spin_hinge"]
    needs = frozenset[Needs]({"targets"})


class SelfContrastObjective(ReferenceObjective):
    """The prompt's target against its negatives: sampled responses that are unlike the target."""

    type: Literal["self_contrast"]
    negatives: Annotated[int, Field(ge=1)] | Literal["all"] = "all"
    """The paper's k: how many are drawn from the pool of candidates; `all` takes the whole pool."""
    pool: Literal["all", "alldedup", "last", "lastdedup"] = "all"
    """Who is a candidate: every response, every distinct text, or the share `ratio` least similar to the target of
    either. Blank ones and the target itself never are."""
    ratio: Probability = 0.75
    """Share of all responses that `last` and `lastdedup` keep."""
    similarity: str | None = None
    """Name of the scorer whose rewards rank the responses; null is the run's scorer of type similarity."""
    needs = frozenset[Needs]({"targets"})

    @property
    def filters(self) -> bool:
        """Whether only some of the responses are negatives."""
        return self.negatives != "all" or self.pool != "all"

    @property
    def ranks(self) -> bool:
        """Whether similarities are needed."""
        return self.pool in ("last", "lastdedup")


class JudgedObjective(ObjectiveSection):
    """Responses with a written judgment of each."""

    judgment_max_tokens: Annotated[int, Field(ge=1)] = 256
    """Longer judgments are cut to this (and counted); the prompt around them never is."""
    needs = frozenset[Needs]({"judgments"})


class JudgedPromptObjective(JudgedObjective):
    template: str = "alpaca"
    """The instruction that asks for a response that deserves a judgment: `alpaca` (the paper's), or a text with
    {instruction} and {judgment}."""

    @property
    def judged_template(self) -> str:
        return ALPACA_JUDGED if self.template == "alpaca" else self.template

    @model_validator(mode="after")
    def _fields(self) -> Self:
        require_fields("template", self.judged_template, "instruction", "judgment")
        return self


class CUTObjective(JudgedPromptObjective):
    type: Literal["cut"]
    threshold: Positive = 1.1
    """The paper's lambda: a token is flagged where p(y|x,j) > threshold * p(y|x)."""
    unlikelihood_weight: Scheduled = 1.0
    """Weight of the unlikelihood term, the paper's alpha."""
    gamma: NotNegative = 0.0
    detect_tokens: bool = True
    """False treats every token of a flawed response as flagged (the paper's ablation, which diverges)."""
    unlikelihood: bool = True
    """False leaves the unlikelihood term out (a control)."""
    positives: NotNegative | Literal[-1] = 0.25
    """Responses without fault that are kept, as a ratio of the flawed ones; -1 keeps all."""


class HindsightObjective(JudgedPromptObjective):
    """Likelihood of the response given the instruction and its judgment."""

    type: Literal["hindsight"]


class ForwardPredictionObjective(JudgedObjective):
    """Likelihood of the response, and of the judgment given instruction and response."""

    type: Literal["forward_prediction"]
    template: str = FORWARD

    @model_validator(mode="after")
    def _fields(self) -> Self:
        require_fields("template", self.template, "instruction", "response")
        return self


class RevisionObjective(JudgedObjective):
    """Learns from a better response, which the model writes after it was shown the judgment."""

    revise_template: str = REVISION
    needs = frozenset[Needs]({"judgments", "revisions"})

    @model_validator(mode="after")
    def _fields(self) -> Self:
        require_fields("revise_template", self.revise_template, "instruction", "response", "judgment")
        return self


class ILFMLEObjective(RevisionObjective):
    type: Literal["ilf_mle"]


class ILFDPOObjective(RevisionObjective, ReferenceObjective):
    type: Literal["ilf_dpo"]


class SFTObjective(ObjectiveSection):
    """Likelihood of the responses without fault."""

    type: Literal["sft"]
    needs = frozenset[Needs]({"judgments"})


Objective = Annotated[
    NCAObjective
    | InfoNCAObjective
    | DPOObjective
    | PairwiseNCAObjective
    | BiasedNCAObjective
    | SPINObjective
    | SPINHingeObjective
    | SelfContrastObjective
    | CUTObjective
    | HindsightObjective
    | ForwardPredictionObjective
    | ILFMLEObjective
    | ILFDPOObjective
    | SFTObjective,
    Field(discriminator="type"),
]


def require_fields(name: str, template: str, *fields: str) -> None:
    """Raise ValueError where a template lacks one of its fields."""
    if missing := [f"{{{field}}}" for field in fields if f"{{{field}}}" not in template]:
        raise ValueError(f"{name} has no {' and no '.join(missing)}: write where it belongs")


def check_together(objectives: list[Objective]) -> None:
    """Raise ValueError where objectives of one run cannot share an update."""
    types = [objective.type for objective in objectives]
    if twins := sorted({name for name in types if types.count(name) > 1}):
        raise ValueError(f"{twins[0]} stands there twice: give one of them its weight")
    if len(objectives) > 1 and any(isinstance(o, SelfContrastObjective) and o.filters for o in objectives):
        raise ValueError(
            "self_contrast with `negatives` or a `pool` leaves responses out that another objective would "
            "learn from: give it a run of its own"
        )
    references = {objective.reference for objective in objectives if isinstance(objective, ReferenceObjective)}
    if len(references) > 1:
        raise ValueError("all objectives of a run share one reference policy: give each the same `reference`")
    for name in ("template", "revise_template"):
        texts = {getattr(o, name) for o in objectives if hasattr(o, name) and o.type != "forward_prediction"}
        if len(texts) > 1:
            raise ValueError(f"all objectives of a run share one `{name}`: give each the same text")
