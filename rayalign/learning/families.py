"""How each objective reads groups: its streams, its units, its loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch

from rayalign.config.base import value_at
from rayalign.config.objective import (
    CUTObjective,
    ForwardPredictionObjective,
    ILFDPOObjective,
    KWayObjective,
    ObjectiveSection,
    PairObjective,
    ReferenceObjective,
    SelfContrastObjective,
)
from rayalign.learning.streams import GroupLogps, Kind, pad
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

Obj = TypeVar("Obj", bound=ObjectiveSection)
RESPONSE: frozenset[Kind] = frozenset({"response"})
TARGET: frozenset[Kind] = frozenset({"response", "target"})


@dataclass(frozen=True, slots=True)
class Family(Generic[Obj]):
    """How an objective reads groups."""

    streams: frozenset[Kind]
    units: Callable[[Obj, TrainingGroup], int]
    """(objective, group) -> how many terms the group has in the objective's mean."""
    losses: Callable[[Obj, Sequence[GroupLogps], int], LossOutput]
    """(objective, groups that have units, round) -> one loss per unit, in the order of the groups."""
    compared: frozenset[Kind] = frozenset()
    """Streams that are compared with the reference."""


class KWayLoss(Protocol):
    """A loss over the rewarded responses of G groups."""

    def __call__(
        self,
        policy_logps_GK: torch.Tensor,
        reference_logps_GK: torch.Tensor,
        rewards_GK: torch.Tensor,
        /,
        *,
        alpha: float,
        beta: float,
        mask_GK: torch.Tensor,
    ) -> LossOutput: ...


class PairLoss(Protocol):
    """A loss over B pairs, from summed log-probabilities of the preferred and of the other side."""

    def __call__(
        self,
        policy_chosen_B: torch.Tensor,
        policy_rejected_B: torch.Tensor,
        reference_chosen_B: torch.Tensor,
        reference_rejected_B: torch.Tensor,
        /,
        *,
        beta: float,
    ) -> LossOutput: ...


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair: a stream of a group."""

    group: GroupLogps
    kind: Kind
    index: int = 0

    @property
    def policy(self) -> torch.Tensor:
        """The stream's summed log-probability under the policy."""
        return self.group.policy_sum(self.kind, self.index)

    @property
    def reference(self) -> torch.Tensor:
        """The same under the reference."""
        return self.group.reference[self.kind, self.index]


def _kway(loss: KWayLoss) -> Family[KWayObjective]:
    def losses(objective: KWayObjective, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        policy_GK, mask_GK = pad([_sums(g, "response") for g in groups])
        reference_GK, _ = pad([_references(g, "response") for g in groups])
        known = [[reward is not None for reward in g.group.rewards] for g in groups]
        rewards = [[0.0 if reward is None else reward for reward in g.group.rewards] for g in groups]
        known_GK, _ = pad([torch.tensor(row, device=policy_GK.device) for row in known])
        rewards_GK, _ = pad([torch.tensor(row, dtype=torch.float64, device=policy_GK.device) for row in rewards])
        alpha, beta = objective.alpha_at(round_index), value_at(objective.beta, round_index)
        return loss(policy_GK, reference_GK, rewards_GK, alpha=alpha, beta=beta, mask_GK=mask_GK & known_GK)

    def units(objective: KWayObjective, group: TrainingGroup) -> int:
        return int(sum(reward is not None for reward in group.rewards) > 1)

    return Family(RESPONSE, units, losses, RESPONSE)


def _pairwise(loss: PairLoss) -> Family[PairObjective]:
    def losses(objective: PairObjective, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        pairs = [
            (Side(g, "response", better), Side(g, "response", worse))
            for g in groups
            for better, worse in reward_pairs(objective, g.group)
        ]
        return _compare(loss, pairs, value_at(objective.beta, round_index))

    return Family(RESPONSE, lambda objective, group: len(reward_pairs(objective, group)), losses, RESPONSE)


def reward_pairs(objective: PairObjective, group: TrainingGroup) -> list[tuple[int, int]]:
    """(better, worse) positions of responses whose rewards differ: the best and the worst, or all."""
    known = [(reward, i) for i, reward in enumerate(group.rewards) if reward is not None]
    if objective.pairs == "all":
        ordered = sorted(known, key=lambda pair: -pair[0])
        return [(i, j) for (better, i), (worse, j) in itertools.combinations(ordered, 2) if better > worse]
    if not known:
        return []
    (best, i), (worst, j) = max(known, key=lambda pair: (pair[0], -pair[1])), min(known)
    return [(i, j)] if best > worst else []


def _spin(loss: PairLoss) -> Family[ReferenceObjective]:
    def losses(objective: ReferenceObjective, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        pairs = [(Side(g, "target"), Side(g, "response")) for g in groups]
        return _compare(loss, pairs, value_at(objective.beta, round_index))

    return Family(TARGET, _has_target, losses, TARGET)


def _self_contrast() -> Family[SelfContrastObjective]:
    def losses(objective: SelfContrastObjective, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
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

    return Family(TARGET, _has_target, losses, TARGET)


def _has_target(objective: ObjectiveSection, group: TrainingGroup) -> int:
    return int(group.target_token_ids is not None and bool(group.response_token_ids))


def _cut() -> Family[CUTObjective]:
    def losses(objective: CUTObjective, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
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

    streams: frozenset[Kind] = frozenset({"response", "judged"})
    return Family(streams, lambda objective, group: len(_judged_rows(group)), losses)


def _judged_rows(group: TrainingGroup) -> list[int]:
    return [i for i, verdict in enumerate(group.verdicts) if verdict is not None]


def _likelihood(kind: Kind, rows_of: Callable[[TrainingGroup], list[int]]) -> Family[ObjectiveSection]:
    def losses(objective: ObjectiveSection, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        return nll_loss(*pad([g.tokens[kind, i] for g in groups for i in rows_of(g.group)]))

    return Family(frozenset({kind}), lambda objective, group: len(rows_of(group)), losses)


def _forward_prediction() -> Family[ForwardPredictionObjective]:
    """-(1/N) log p(y|x) - (1/N_j) log p(j|x,y)."""

    def losses(objective: ForwardPredictionObjective, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        rows = [(g, i) for g in groups for i in _criticised(g.group)]
        answers = nll_loss(*pad([g.tokens["response", i] for g, i in rows]))
        judgments = nll_loss(*pad([g.tokens["criticism", i] for g, i in rows]))
        per_row = answers.per_group + judgments.per_group
        return LossOutput(per_row.mean(), per_row, answers.metrics)

    streams: frozenset[Kind] = frozenset({"response", "criticism"})
    return Family(streams, lambda objective, group: len(_criticised(group)), losses)


def _criticised(group: TrainingGroup) -> list[int]:
    return [i for i, ids in enumerate(group.criticism_token_ids) if ids]


def _ilf_dpo() -> Family[ILFDPOObjective]:
    def losses(objective: ILFDPOObjective, groups: Sequence[GroupLogps], round_index: int) -> LossOutput:
        pairs = [(Side(g, "revision", i), Side(g, "response", i)) for g in groups for i in _revised(g.group)]
        return _compare(dpo_loss, pairs, value_at(objective.beta, round_index))

    streams: frozenset[Kind] = frozenset({"response", "revision"})
    return Family(streams, lambda objective, group: len(_revised(group)), losses, streams)


def _revised(group: TrainingGroup) -> list[int]:
    """Responses with a revision that differs: a pair of equal responses teaches nothing."""
    pairs = zip(group.revised_token_ids, group.response_token_ids, strict=False)
    return [i for i, (revised, response) in enumerate(pairs) if revised and revised != response]


def _with_judged_prompt(group: TrainingGroup) -> list[int]:
    return [i for i, ids in enumerate(group.judged_prompt_token_ids) if ids]


def _perfect(group: TrainingGroup) -> list[int]:
    return [i for i, verdict in enumerate(group.verdicts) if verdict == "perfect"]


FAMILIES: dict[str, Family[Any]] = {
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
"""`objective.type` -> how it is computed; the type of its section follows from the key."""


def _compare(loss: PairLoss, pairs: Sequence[tuple[Side, Side]], beta: float) -> LossOutput:
    """A pairwise loss over (preferred, other) pairs."""
    return loss(
        torch.stack([chosen.policy for chosen, _ in pairs]),
        torch.stack([rejected.policy for _, rejected in pairs]),
        torch.stack([chosen.reference for chosen, _ in pairs]),
        torch.stack([rejected.reference for _, rejected in pairs]),
        beta=beta,
    )


def _sums(logps: GroupLogps, kind: Kind) -> torch.Tensor:
    """[K] summed log-probabilities of a group's streams of one kind."""
    return torch.stack([logps.policy_sum(*key) for key in sorted(logps.tokens) if key[0] == kind])


def _references(logps: GroupLogps, kind: Kind) -> torch.Tensor:
    return torch.stack([logps.reference[key] for key in sorted(logps.reference) if key[0] == kind])
