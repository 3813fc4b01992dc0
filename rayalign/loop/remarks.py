"""What a round's groups tell of its settings, said before the update that they are for."""

from __future__ import annotations

from collections.abc import Iterator

from rayalign.config.guidance import left_remark, reward_remarks
from rayalign.config.objective import KWayObjective
from rayalign.config.run import RunConfig
from rayalign.records import Groups


def group_remarks(config: RunConfig, round_index: int, groups: Groups, *, first: bool) -> Iterator[str]:
    """The alpha that is set by the round's rewards, and, of the first round that a process trains, what is far off."""
    for objective in config.objectives:
        if isinstance(objective, KWayObjective) and objective.alpha == "auto":
            alpha = objective.alpha_at(round_index, groups.stats["reward_spread"])
            yield f"round {round_index} · {objective.type}: alpha {alpha:.3g}, from the rewards' spread within a prompt"
    if not first:
        return
    if remark := left_remark(config.training, groups.kept, dropped=sum(groups.dropped.values())):
        yield f"round {round_index} · {remark}"
    for remark in reward_remarks(config, round_index, groups.stats):
        yield f"round {round_index} · {remark}"
