"""What of a run may go on beside what: a round's update or evaluation beside the next one's sampling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rayalign.config.run import RunConfig


def rounds_can_overlap(config: RunConfig) -> None:
    if not config.loop.max_staleness:
        return
    asked = f"loop.max_staleness {config.loop.max_staleness}"
    if config.samples is not None:
        raise ValueError(f"{asked} with samples.source: nothing is sampled while a round trains; set it to 0")
    if config.cluster.placement == "colocated":
        raise ValueError(
            f"{asked} with cluster.placement colocated: generators and learner take turns there, and do not work at "
            "the same time; set placement: disaggregated or auto, or max_staleness: 0"
        )
    gate = config.evaluation.gate
    if gate is not None and gate.action != "keep":
        raise ValueError(
            f"{asked} with evaluation.gate.action {gate.action}: a round's responses are sampled before the round "
            "that they start from is judged; set action: keep or gate: null, or max_staleness: 0"
        )


def beside_is_refused(config: RunConfig) -> Iterator[str]:
    """Why a round cannot be evaluated while the next one is sampled, each with its remedy."""
    gate = config.evaluation.gate
    if gate is not None and gate.action != "keep":
        yield f"evaluation.gate.action {gate.action}: it decides what the next round is sampled by; set it to keep"
    if back := next((one.type for one in config.guards if one.action == "rollback"), None):
        yield f"guards: {back} rolls back: it decides what the next round is sampled by; set its action to warn or stop"
    if config.loop.max_staleness:
        yield "loop.max_staleness 1: the next round is sampled already, by the adapter before; set it to 0"
    if config.cluster.takes_turns:
        yield (
            "generators and learner that take turns: the evaluation needs both (kl_base); "
            "set cluster.placement: disaggregated"
        )


def evaluation_can_be_beside(config: RunConfig) -> None:
    if config.loop.evaluate_beside is True and (reasons := [*beside_is_refused(config)]):
        raise ValueError(f"loop.evaluate_beside true with {reasons[0]}, or evaluate_beside to auto")
