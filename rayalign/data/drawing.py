"""Which prompts are held out, and which ones a round draws: pure functions of ids. Ids are kept in arrays of byte
strings, because a source may have millions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rayalign.errors import DataError

UNMARKED, TRAIN, HOLDOUT, OTHER = range(4)
"""What a prompt's metadata say under `split`."""


def mark_of(split: object) -> int:
    """The mark of a prompt whose metadata have this `split`."""
    if split is None:
        return UNMARKED
    return {"train": TRAIN, "holdout": HOLDOUT}.get(split, OTHER) if isinstance(split, str) else OTHER


def as_ids(ids: Iterable[str]) -> np.ndarray:
    """[N] byte strings, in the order given."""
    return np.array([identity.encode() for identity in ids], dtype=np.bytes_)


@dataclass(frozen=True, slots=True)
class Split:
    """Ids to train on (in the source's order) and ids held out (in hash order)."""

    train_N: np.ndarray
    holdout_N: np.ndarray
    notice: str | None = None
    """One line for the user where the split is not what the config asked for."""


def split_prompts(ids_N: np.ndarray, marks_N: np.ndarray, holdout: int) -> Split:
    """Hold out the `holdout` prompts whose hashed ids are smallest.

    Where prompts are marked `HOLDOUT` (or `TRAIN`), held-out prompts come only from the ones so marked (or not marked
    `TRAIN`), and training prompts only from the others. Else, of fewer than 4 * `holdout` prompts a quarter is.

    Raises:
        DataError: one of the two parts would be empty.
    """
    total = len(ids_N)
    reserved_N = marks_N == HOLDOUT
    if not reserved_N.any() and (marks_N == TRAIN).any():
        reserved_N = marks_N != TRAIN
    if reserved_N.any() or (marks_N == TRAIN).any():
        candidates, train_N = ids_N[reserved_N], ids_N[~reserved_N]
        count = min(holdout, len(candidates))
        short = f"the source marks only {len(candidates)} prompts for the holdout" if count < holdout else None
    else:
        candidates, train_N = ids_N, None
        count = holdout if total >= 4 * holdout else max(1, total // 4)
        short = f"{total} prompts are fewer than 4 x prompts.holdout" if count < holdout else None
    chosen = _by_hash("holdout:", candidates)[:count]
    if train_N is None:
        train_N = ids_N[~np.isin(ids_N, chosen)]
    if not len(chosen) or not len(train_N):
        found = f"{total} prompts: {len(train_N)} to train on, {len(chosen)} to hold out"
        raise DataError(found, "each part needs at least one", "give at least two distinct prompts, of both splits")
    return Split(train_N, chosen, f"{short}: {count} held out instead of {holdout}" if short else None)


def hold_out(ids_N: np.ndarray, marks_N: np.ndarray, holdout: int, train_M: np.ndarray) -> Split:
    """Hold out of a source that is not trained on, and train on other prompts: `train_M`, less what is held out.

    Held out are the prompts whose hashed ids are smallest, of those marked `HOLDOUT` where any are.

    Raises:
        DataError: nothing is left to train on.
    """
    marked_N = marks_N == HOLDOUT
    chosen = _by_hash("holdout:", ids_N[marked_N] if marked_N.any() else ids_N)[:holdout]
    left = train_M[~np.isin(train_M, chosen)]
    if not len(left):
        raise DataError(
            f"all {len(train_M)} prompts of samples.source are held out",
            "nothing is left to train on",
            "lower prompts.holdout, or give other prompts in prompts.source",
        )
    both = len(train_M) - len(left)
    return Split(left, chosen, f"{both} prompts of samples.source are held out, not trained on" if both else None)


def draw_prompts(ids_N: np.ndarray, seed: int, round_index: int, per_round: int) -> np.ndarray:
    """The prompts of a round (rounds count from 1): a pure function of its arguments, whatever the order of the ids.

    Rounds walk through one permutation of all prompts after the other, so each prompt is used once before any is
    used again. Where a round spans two permutations, prompts of the first are moved back in the second, so that no
    prompt is drawn twice in a round. A round never has more than all prompts.
    """
    distinct = np.unique(ids_N)
    total, size = len(distinct), min(per_round, len(distinct))
    if size < 1:
        return distinct
    first = (round_index - 1) * size
    drawn: list[np.ndarray] = []
    previous = distinct
    for epoch in range((first + size - 1) // total + 1):
        carried = epoch * total % size
        head = size - carried if carried else 0
        order = _permutation(distinct, seed, epoch, previous[total - carried :], head)
        start = epoch * total
        drawn.append(order[max(0, first - start) : max(0, first + size - start)])
        previous = order
    return np.concatenate(drawn)


def _permutation(ids_N: np.ndarray, seed: int, epoch: int, taken: np.ndarray, head: int) -> np.ndarray:
    """All ids in the order of their hashes, except that none of `taken` is among the first `head`."""
    order = _by_hash(f"{seed}:{epoch}:", ids_N)
    if not head:
        return order
    leads = np.zeros(len(order), dtype=bool)
    leads[np.flatnonzero(~np.isin(order, taken))[:head]] = True
    return np.concatenate([order[leads], order[~leads]])


def _by_hash(prefix: str, ids_N: np.ndarray) -> np.ndarray:
    """The ids by the SHA-256 (its first 16 bytes) of prefix + id."""
    start = hashlib.sha256(prefix.encode())
    digests = bytearray()
    for identity in ids_N:
        digest = start.copy()
        digest.update(identity)
        digests += digest.digest()[:16]
    words_N2 = np.frombuffer(digests, dtype=">u8").reshape(-1, 2)
    return ids_N[np.lexsort((words_N2[:, 1], words_N2[:, 0]))]
