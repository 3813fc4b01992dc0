"""What a user would want to know of a config, a line each, where a number is far from what works: never an error.

before anything starts      learning rate by the model's size, optimizer steps in a round, CUT's threshold
with a round's rewards      alpha by their spread, steps by the groups that are left
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rayalign.config.base import value_at
from rayalign.config.objective import CUTObjective, KWayObjective
from rayalign.config.run import RunConfig
from rayalign.config.stages import StageConfig
from rayalign.config.training import TrainingSection


class Rates(NamedTuple):
    """Peak learning rates of AdamW: what is usual, and what lies far below or above it."""

    low: float
    usual: float
    high: float


class SizeClass(NamedTuple):
    """Models of fewer parameters than this, as far as no class before holds them."""

    below: float
    lora: Rates
    """Of an adapter, whether the base is quantised or not."""
    full: Rates
    """Of all weights."""


LEARNING_RATES = (
    SizeClass(2e7, lora=Rates(1e-4, 3e-3, 1e-2), full=Rates(1e-5, 1e-4, 1e-3)),
    SizeClass(3e8, lora=Rates(5e-5, 5e-4, 2e-3), full=Rates(5e-7, 5e-6, 1e-4)),
    SizeClass(3e9, lora=Rates(1e-5, 1e-4, 5e-4), full=Rates(2e-7, 2e-6, 5e-5)),
    SizeClass(float("inf"), lora=Rates(2e-6, 5e-5, 5e-4), full=Rates(1e-7, 1e-6, 1e-5)),
)
"""Rules of thumb, from what is known to learn. Adapters: the demo model at 3e-3 and 1e-3 (`configs/`), SmolLM2-135M at
5e-4 and hardly at 2e-4 (docs/log.md), 7B at 5e-6 (four bits, the code of arXiv 2402.05369), 13B at 4e-4 (eight bits,
the code of arXiv 2312.14591). All weights: the demo model at 1e-4, 7B and 8x7B at 5e-7 (arXiv 2402.05369). Sizes
between these are interpolated, and no range leaves one of them out."""

FEW_STEPS = 8
"""Fewer optimizer steps than this in a round hardly move a model: six moved SmolLM2 by nothing (docs/log.md)."""
SHARP = 5.0
"""Spread of the rewards within a prompt, in units of alpha, above which the best answers have nearly all of the weight.
Rewards between 0 and 1 cannot reach it at the default alpha of 0.1: their standard deviation is at most 0.5."""
FLAT = 0.1
"""The same, below which all answers have nearly the same weight: they differ by this share of it."""


def rate_remark(rate: float, parameters: int, *, full: bool) -> str | None:
    """Whether a peak learning rate is far from what a model of this size learns with; None where it is not.

    Args:
        full: whether all weights are trained.
    """
    found = next(one for one in LEARNING_RATES if parameters < one.below)
    rates = found.full if full else found.lora
    if rates.low <= rate <= rates.high:
        return None
    side, effect = ("low", "hardly learns") if rate < rates.low else ("high", "often breaks")
    what = "all weights" if full else "an adapter"
    return (
        f"training.learning_rate {_power(rate)} is {side} for {what} of a model of {_count(parameters)} parameters, "
        f"which {effect} with it: {_power(rates.usual)} is usual"
    )


def peak_rate(config: RunConfig) -> float:
    """The highest learning rate of all steps of a run."""
    return max(config.training.peak_rate(index) for index in range(1, config.run.rounds + 1))


def start_remarks(config: RunConfig, parameters: int, prompts: int) -> Iterator[str]:
    """What is to be said before anything starts.

    Args:
        parameters: of the base model.
        prompts: to train on, in all.
    """
    steps = config.training.most_steps(min(config.prompts.per_round, prompts))
    if remark := rate_remark(peak_rate(config), parameters, full=config.model.full):
        yield remark
    if steps < FEW_STEPS:
        more = "raise prompts.per_round" if config.prompts.per_round < prompts else "give more prompts"
        ways = _ways("training.group_batch", config.training.group_batch, more)
        yield f"at most {steps} optimizer steps a round, and fewer than {FEW_STEPS} hardly move a model: {ways}"
    for objective in config.objectives:
        if isinstance(objective, CUTObjective) and objective.threshold <= 1:
            yield (
                f"objective.threshold {objective.threshold}: nothing bounds the loss of a flagged token; the paper "
                "uses 1.1 to 1.2"
            )


def stage_remarks(config: StageConfig, parameters: int, steps: int) -> Iterator[str]:
    """What is to be said of a training stage before it starts.

    Of learning rates for all weights nothing is: models are trained from nothing here too, which takes far more.

    Args:
        parameters: of the base model.
        steps: optimizer steps in all.
    """
    training = config.training
    if not config.model.full and (remark := rate_remark(training.learning_rate, parameters, full=False)):
        yield remark
    if steps < FEW_STEPS:
        ways = _ways("training.batch", training.batch, "give more rows")
        yield f"{steps} optimizer steps in all, and fewer than {FEW_STEPS} hardly move a model: {ways}"


def reward_remarks(config: RunConfig, round_index: int, stats: Mapping[str, float]) -> Iterator[str]:
    """What is to be said when a round's rewards are known.

    Args:
        stats: of the round's `Groups`.
    """
    spread = stats.get("reward_spread")
    if spread is None:
        return
    if spread == 0:
        yield "no prompt has answers of different rewards: the update learns from none of them what is better"
        return
    for place, objective in enumerate(config.objectives):
        if isinstance(objective, KWayObjective) and objective.alpha != "auto":
            key = f"objective.{place}.alpha" if isinstance(config.objective, list) else "objective.alpha"
            alpha, share = value_at(objective.alpha, round_index), stats[f"best_share/{objective.type}"]
            about = f"the rewards of a prompt have a standard deviation of {spread:.3g}, and {key} is {alpha:g}"
            remedy = f"set {key}: auto, or near {spread:.2g}"
            if spread > SHARP * alpha and stats["reward_levels"] > 2:
                yield f"{about}: the best answers have {share:.2%} of the weight, nearly all; {remedy}"
            if spread < FLAT * alpha:
                yield f"{about}: the best answers have {share:.2%} of the weight, hardly more than others; {remedy}"


def left_remark(training: TrainingSection, kept: int, dropped: int) -> str | None:
    """What is to be said of the steps that a round has left when some of its groups were dropped."""
    steps = training.most_steps(kept)
    if steps >= FEW_STEPS or training.most_steps(kept + dropped) < FEW_STEPS:
        return None
    ways = _ways("training.group_batch", training.group_batch, "raise prompts.per_round")
    return (
        f"{dropped} of {kept + dropped} groups were dropped, {steps} optimizer steps are left, and fewer than "
        f"{FEW_STEPS} hardly move a model: {ways}"
    )


def _ways(key: str, batch: int, more: str) -> str:
    """How there come to be more steps."""
    smaller = f"lower {key} ({batch}), " if batch > 1 else ""
    return f"{smaller}{more}, or raise training.epochs"


def _power(value: float) -> str:
    """`5.0e-4`, as configs write it."""
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")


def _count(number: int) -> str:
    """`450k`, `135M`, `7.2B`."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return str(number)
