"""The section `guards`: what a run does by itself where a round shows that it goes wrong."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from rayalign.config.base import Positive, Probability, Section

Action = Literal["warn", "stop", "rollback"]


class GuardSection(Section):
    """What all guards have."""

    action: Action = "stop"
    """`warn`: it is said, and stands in the report. `stop`: the run ends there (exit 3), and goes on from the best
    round when it is resumed. `rollback`: the next round starts from the best one, with a smaller step."""
    step: Annotated[float, Field(gt=0, le=1)] = 0.5
    """After a rollback the learning rate is so many times what it was."""
    times: Annotated[int, Field(ge=1)] = 2
    """Rollbacks of a run by this guard; where it fires once more, the run stops."""


class WorseGuard(GuardSection):
    """The held-out answers are significantly and far worse than those of round 0."""

    type: Literal["worse"] = "worse"
    by: Positive = 0.5
    """So many standard deviations of round 0's prompts."""


class HackingGuard(GuardSection):
    """A scorer rises since round 0, or the best round, while the gold scorer falls, both more than chance explains."""

    type: Literal["hacking"]


class KlGuard(GuardSection):
    """The policy is far from the base: `kl_base` of the held-out answers."""

    type: Literal["kl"]
    above: Positive
    """Nats per answer."""


class LossGuard(GuardSection):
    """The round's training loss is many times what it was before."""

    type: Literal["loss"]
    above: Annotated[float, Field(gt=1)] = 3.0
    """Times the median of the rounds before."""


class LengthGuard(GuardSection):
    """The held-out answers have become much longer, or much shorter, than those of round 0."""

    type: Literal["length"]
    above: Annotated[float, Field(gt=1)] = 2.0
    """Times; or divided by it."""


class DiversityGuard(GuardSection):
    """The held-out answers have far fewer different bigrams than those of round 0."""

    type: Literal["diversity"]
    below: Probability = 0.5
    """A share of round 0's `distinct_2`."""


class CanariesGuard(GuardSection):
    """A scorer puts answers that deserve nothing above real ones."""

    type: Literal["canaries"]


class DriftGuard(GuardSection):
    """A scorer's scores of fixed answers have moved since round 0."""

    type: Literal["drift"]


class ScoresGuard(GuardSection):
    """A scorer failed on many of the round's answers."""

    type: Literal["scores"]
    above: Probability
    """A share of the answers that it was asked about."""


class NoGainGuard(GuardSection):
    """No evaluated round of the last ones was significantly better than round 0 or what had been best before them."""

    type: Literal["no_gain"]
    rounds: Annotated[int, Field(ge=1)] = 3


Guard: TypeAlias = Annotated[
    WorseGuard
    | HackingGuard
    | KlGuard
    | LossGuard
    | LengthGuard
    | DiversityGuard
    | CanariesGuard
    | DriftGuard
    | ScoresGuard
    | NoGainGuard,
    Field(discriminator="type"),
]
