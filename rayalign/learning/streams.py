"""The token sequences that objectives score, and their log-probabilities by group and response.

A group has up to five kinds of streams, each a prompt and what is scored after it:

    response    prompt -> each response                     (every objective)
    judged      prompt with judgment -> the same response   (CUT, Hindsight)
    criticism   prompt and response -> the judgment         (Forward Prediction)
    revision    prompt -> a better response                 (ILF)
    target      prompt -> the source's own answer           (SPIN, Self-Contrast)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from rayalign.records import TrainingGroup

Kind = Literal["response", "judged", "criticism", "revision", "target"]
KINDS: tuple[Kind, ...] = ("response", "target", "revision", "judged", "criticism")
"""All kinds, in an order in which sequences with the same prompt stand beside each other."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One scored sequence. `index` is the position of its response in the group; 0 for a target."""

    kind: Kind
    index: int
    prompt_token_ids: list[int]
    response_token_ids: list[int]


def streams_of(group: TrainingGroup, kinds: Collection[str]) -> list[Stream]:
    """The streams of the asked kinds that a group has, in the order of `KINDS`."""
    prompt = group.prompt_token_ids
    found: list[Stream] = []
    if "response" in kinds:
        found += [Stream("response", i, prompt, ids) for i, ids in enumerate(group.response_token_ids)]
    if "target" in kinds and group.target_token_ids is not None:
        found.append(Stream("target", 0, prompt, group.target_token_ids))
    if "revision" in kinds:
        found += [Stream("revision", i, prompt, ids) for i, ids in enumerate(group.revised_token_ids) if ids]
    if "judged" in kinds:
        pairs = zip(group.judged_prompt_token_ids, group.response_token_ids, strict=False)
        found += [Stream("judged", i, judged, ids) for i, (judged, ids) in enumerate(pairs) if judged]
    if "criticism" in kinds:
        pairs = zip(group.criticism_prompt_token_ids, group.criticism_token_ids, strict=False)
        found += [Stream("criticism", i, asked, ids) for i, (asked, ids) in enumerate(pairs) if ids]
    return found


@dataclass(frozen=True, slots=True)
class GroupLogps:
    """Log-probabilities of one group's streams."""

    group: TrainingGroup
    tokens: dict[tuple[str, int], torch.Tensor]
    """(kind, index) -> [T] under the policy, float32, nats."""
    reference: dict[tuple[str, int], torch.Tensor]
    """(kind, index) -> scalar sum under the reference; only of the streams that an objective compares."""

    def policy_sum(self, kind: str, index: int) -> torch.Tensor:
        return self.tokens[kind, index].sum()


def pad(rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """[T_i] tensors as ([B, T] with zeros behind, mask [B, T])."""
    padded_BT = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    lengths_B = torch.tensor([len(row) for row in rows], device=padded_BT.device)
    return padded_BT, torch.arange(padded_BT.shape[1], device=padded_BT.device)[None] < lengths_B[:, None]
