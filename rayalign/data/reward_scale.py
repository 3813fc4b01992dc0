"""How far apart the rewards of a prompt's answers are, and what weight an alpha then leaves to the best of them.

    spread   mean over prompts of sqrt(1/K sum_i (r_i - mean r)^2), which is alpha where that is `auto`
    share    mean over prompts of the weight, softmax(r / alpha), that all answers of the highest reward have together

Both over the prompts whose answers' rewards differ: where they do not, all answers have one weight whatever alpha is.
Rewards that are c times as large have c times the spread, so that `auto` gives them the same weights.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rayalign.config.objective import KWayObjective, Objective

ROUNDING = 1e-12
"""Rewards of a prompt that differ by this share of the largest one are equal: the difference came by a rounding."""
LEVELS = 3
"""Different rewards that are looked for: of two, the higher one rightly takes all of the weight."""


@dataclass(frozen=True, slots=True)
class RewardScale:
    """What was found in some of a round's groups."""

    prompts: int = 0
    """Those whose answers' rewards differ."""
    spread: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)
    """By objective; of `auto`, whose alpha is not known before all groups are, there is none."""
    levels: list[float] = field(default_factory=list)
    """Different rewards, ascending, `LEVELS` at most."""

    def stats(self) -> dict[str, float]:
        """What the commit of the groups keeps."""
        found = {"reward_spread": self.spread}
        if self.prompts:
            found["reward_levels"] = float(len(self.levels))
            found |= {f"best_share/{name}": share for name, share in self.shares.items()}
        return found


def known_alphas(objectives: Iterable[Objective], round_index: int) -> dict[str, float]:
    """The alpha of each objective that has one of its own, in a round."""
    kway = [one for one in objectives if isinstance(one, KWayObjective)]
    return {one.type: one.alpha_at(round_index) for one in kway if one.alpha != "auto"}


def measure(groups: Iterable[Sequence[float | None]], alphas: Mapping[str, float]) -> RewardScale:
    """The scale of some groups' rewards.

    Args:
        groups: the rewards of each group's answers.
        alphas: what divides them, by objective.
    """
    found = [(known, deviation) for rewards in groups if (deviation := _deviation(known := _known(rewards)))]
    levels = sorted({reward for known, _ in found for reward in known})[:LEVELS]
    shares = {name: _mean([(_share(known, alpha), 1) for known, _ in found]) for name, alpha in alphas.items()}
    return RewardScale(len(found), _mean([(deviation, 1) for _, deviation in found]), shares, levels)


def together(parts: Sequence[RewardScale]) -> RewardScale:
    """The scale of all groups of a round, of which every part measured some."""
    contested = [part for part in parts if part.prompts]
    names = {name for part in contested for name in part.shares}
    return RewardScale(
        sum(part.prompts for part in contested),
        _mean([(part.spread, part.prompts) for part in contested]),
        {name: _mean([(part.shares[name], part.prompts) for part in contested]) for name in sorted(names)},
        sorted({level for part in contested for level in part.levels})[:LEVELS],
    )


def _known(rewards: Sequence[float | None]) -> list[float]:
    return [reward for reward in rewards if reward is not None]


def _deviation(rewards: Sequence[float]) -> float:
    """Standard deviation of a prompt's rewards; 0 where they do not differ."""
    if len(rewards) < 2:
        return 0.0
    deviation = statistics.pstdev(rewards)
    return deviation if deviation > ROUNDING * max(map(abs, rewards)) else 0.0


def _share(rewards: Sequence[float], alpha: float) -> float:
    best = max(rewards)
    return rewards.count(best) / math.fsum(math.exp((reward - best) / alpha) for reward in rewards)


def _mean(values: Sequence[tuple[float, int]]) -> float:
    """Mean of (value, weight); each is divided before the sum, which could overflow."""
    total = sum(weight for _, weight in values)
    return math.fsum(value * (weight / total) for value, weight in values)
