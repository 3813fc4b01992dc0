"""How each objective reads groups: its streams, its units, its loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rayalign.config.base import value_at
from rayalign.learning.streams import GroupLogps, pad
from rayalign.losses import (
    biased_nca_loss,
    cut_loss,
    dpo_loss,
    info_nca_loss,
    nca_loss,
    nll_loss,
    pairwise_nca_loss,
    self_contrast_loss,
    spin_hinge_loss,
    spin_loss,
)
from rayalign.losses.output import LossOutput
from rayalign.records import TrainingGroup

Losses = Callable[[Any, Sequence[GroupLogps], int], LossOutput]


@dataclass(frozen=True, slots=True)
class Family:
    """How an objective reads groups."""

    streams: frozenset[str]
    units: Callable[[Any, TrainingGroup], int]
    """(objective, group) -> how many terms the group has in the objective's mean."""
    losses: Losses
    """(objective, groups that have units, round) -> one loss per unit, in the order of the groups."""
    compared: frozenset[str] = frozenset()
    """Streams that are compared with the reference."""


def _kway(loss: Callable[..., LossOutput]) -> Family:
    def losses(objective: Any, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        policy_GK, mask_GK = pad([_sums(g, "response") for g in groups])
        reference_GK, _ = pad([_references(g, "response") for g in groups])
        known = [[reward is not None for reward in g.group.rewards] for g in groups]
        rewards = [[0.0 if reward is None else reward for reward in g.group.rewards] for g in groups]
        known_GK, _ = pad([torch.tensor(row, device=policy_GK.device) for row in known])
        rewards_GK, _ = pad([torch.tensor(row, dtype=torch.float64, device=policy_GK.device) for row in rewards])
        alpha, beta = value_at(objective.alpha, round_index), value_at(objective.beta, round_index)
        return loss(policy_GK, reference_GK, rewards_GK, alpha=alpha, beta=beta, mask_GK=mask_GK & known_GK)

    def units(objective: Any, group: TrainingGroup) -> int:
        return int(sum(reward is not None for reward in group.rewards) > 1)

    return Family(frozenset({"response"}), units, losses, frozenset({"response"}))


def _pairwise(loss: Callable[..., LossOutput]) -> Family:
    def losses(objective: Any, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        pairs = [
            ((g, ("response", i)), (g, ("response", j))) for g in groups for i, j in reward_pairs(objective, g.group)
        ]
        return _compare(loss, objective, pairs, round_index)

    streams = frozenset({"response"})
    return Family(streams, lambda objective, group: len(reward_pairs(objective, group)), losses, streams)


def reward_pairs(objective: Any, group: TrainingGroup) -> list[tuple[int, int]]:
    """(better, worse) positions of responses whose rewards differ: the best and the worst, or all."""
    known = [(reward, i) for i, reward in enumerate(group.rewards) if reward is not None]
    if objective.pairs == "all":
        ordered = sorted(known, key=lambda pair: -pair[0])
        return [(i, j) for (better, i), (worse, j) in itertools.combinations(ordered, 2) if better > worse]
    if not known:
        return []
    (best, i), (worst, j) = max(known, key=lambda pair: (pair[0], -pair[1])), min(known)
    return [(i, j)] if best > worst else []


def _spin(loss: Callable[..., LossOutput]) -> Family:
    def losses(objective: Any, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        pairs = [((g, ("target", 0)), (g, ("response", 0))) for g in groups]
        return _compare(loss, objective, pairs, round_index)

    streams = frozenset({"response", "target"})
    return Family(streams, _has_target, losses, streams)


def _self_contrast() -> Family:
    def losses(objective: Any, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        negative_GK, mask_GK = pad([_sums(g, "response") for g in groups])
        reference_GK, _ = pad([_references(g, "response") for g in groups])
        return self_contrast_loss(
            torch.cat([_sums(g, "target") for g in groups]),
            negative_GK,
            torch.cat([_references(g, "target") for g in groups]),
            reference_GK,
            beta=value_at(objective.beta, round_index),
            mask_GK=mask_GK,
        )

    streams = frozenset({"response", "target"})
    return Family(streams, _has_target, losses, streams)


def _has_target(objective: Any, group: TrainingGroup) -> int:
    return int(group.target_token_ids is not None and bool(group.response_token_ids))


def _cut() -> Family:
    def losses(objective: Any, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        rows = [(g, i) for g in groups for i in _judged_rows(g.group)]
        plain_BT, mask_BT = pad([g.tokens["response", i] for g, i in rows])
        negative = [g.group.verdicts[i] == "flawed" for g, i in rows]
        judged = [g.tokens["judged" if bad else "response", i] for (g, i), bad in zip(rows, negative, strict=True)]
        judged_BT, _ = pad([row if bad else row.detach() for row, bad in zip(judged, negative, strict=True)])
        return cut_loss(
            plain_BT,
            judged_BT,
            mask_BT,
            torch.tensor(negative, device=plain_BT.device),
            threshold=objective.threshold,
            weight=value_at(objective.unlikelihood_weight, round_index),
            gamma=objective.gamma,
            detect=objective.detect_tokens,
            unlikelihood=objective.unlikelihood,
        )

    return Family(frozenset({"response", "judged"}), lambda objective, group: len(_judged_rows(group)), losses)


def _judged_rows(group: TrainingGroup) -> list[int]:
    return [i for i, verdict in enumerate(group.verdicts) if verdict is not None]


def _likelihood(kind: str, rows_of: Callable[[TrainingGroup], list[int]]) -> Family:
    def losses(objective: Any, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        return nll_loss(*pad([g.tokens[kind, i] for g in groups for i in rows_of(g.group)]))

    return Family(frozenset({kind}), lambda objective, group: len(rows_of(group)), losses)


def _forward_prediction() -> Family:
    """-(1/N) log p(y|x) - (1/N_j) log p(j|x,y)."""

    def losses(objective: Any, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        rows = [(g, i) for g in groups for i in _criticised(g.group)]
        answers = nll_loss(*pad([g.tokens["response", i] for g, i in rows]))
        judgments = nll_loss(*pad([g.tokens["criticism", i] for g, i in rows]))
        per_row = answers.per_group + judgments.per_group
        return LossOutput(per_row.mean(), per_row, answers.metrics)

    streams = frozenset({"response", "criticism"})
    return Family(streams, lambda objective, group: len(_criticised(group)), losses)


def _criticised(group: TrainingGroup) -> list[int]:
    return [i for i, ids in enumerate(group.criticism_token_ids) if ids]


def _ilf_dpo() -> Family:
    def losses(objective: Any, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        pairs = [((g, ("revision", i)), (g, ("response", i))) for g in groups for i in _revised(g.group)]
        return _compare(dpo_loss, objective, pairs, round_index)

    streams = frozenset({"response", "revision"})
    return Family(streams, lambda objective, group: len(_revised(group)), losses, streams)


def _revised(group: TrainingGroup) -> list[int]:
    """Responses with a revision that differs: a pair of equal responses teaches nothing."""
    pairs = zip(group.revised_token_ids, group.response_token_ids, strict=False)
    return [i for i, (revised, response) in enumerate(pairs) if revised and revised != response]


def _with_judged_prompt(group: TrainingGroup) -> list[int]:
    return [i for i, ids in enumerate(group.judged_prompt_token_ids) if ids]


def _perfect(group: TrainingGroup) -> list[int]:
    return [i for i, verdict in enumerate(group.verdicts) if verdict == "perfect"]


FAMILIES: dict[str, Family] = {
    "nca": _kway(nca_loss),
    "info_nca": _kway(info_nca_loss),
    "dpo": _pairwise(dpo_loss),
    "pairwise_nca": _pairwise(pairwise_nca_loss),
    "biased_nca": _pairwise(biased_nca_loss),
    "spin": _spin(spin_loss),
    "spin_hinge": _spin(spin_hinge_loss),
    "self_contrast": _self_contrast(),
    "cut": _cut(),
    "hindsight": _likelihood("judged", _with_judged_prompt),
    "forward_prediction": _forward_prediction(),
    "ilf_mle": _likelihood("revision", _revised),
    "ilf_dpo": _ilf_dpo(),
    "sft": _likelihood("response", _perfect),
}
"""`objective.type` -> how it is computed."""


def _compare(loss: Callable[..., LossOutput], objective: Any, pairs: Sequence[Any], round_index: int) -> LossOutput:
    """A pairwise loss over ((group, stream), (group, stream)) pairs, the preferred one first."""
    chosen, rejected = zip(*pairs, strict=True)
    return loss(
        torch.stack([g.policy_sum(*key) for g, key in chosen]),
        torch.stack([g.policy_sum(*key) for g, key in rejected]),
        torch.stack([g.reference[key] for g, key in chosen]),
        torch.stack([g.reference[key] for g, key in rejected]),
        beta=value_at(objective.beta, round_index),
    )


def _sums(logps: GroupLogps, kind: str) -> torch.Tensor:
    """[K] summed log-probabilities of a group's streams of one kind."""
    return torch.stack([logps.policy_sum(*key) for key in sorted(logps.tokens) if key[0] == kind])


def _references(logps: GroupLogps, kind: str) -> torch.Tensor:
    return torch.stack([logps.reference[key] for key in sorted(logps.reference) if key[0] == kind])
