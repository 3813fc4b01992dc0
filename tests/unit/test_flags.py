"""Which tokens CUT flags, shown to people: on a table of two answers' probabilities whose flags are known by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rayalign.config.objective import CUTObjective
from rayalign.learning.flags import flagged_examples
from rayalign.learning.packing import Batch
from rayalign.learning.step import token_logps_of
from rayalign.records import TrainingGroup

torch.set_num_threads(1)

JUDGED, PLAIN = 9, 1
"""First token of a prompt with a judgment, and of one without."""
PROBABILITIES = {
    PLAIN: {4: 0.03, 5: 0.94, 6: 0.85, 7: 0.40, 8: 0.50},
    JUDGED: {4: 0.82, 5: 0.94, 6: 0.89, 7: 0.44, 8: 0.99},
}
"""The paper's figure 2 for 4, 5 and 6. Ratios judged / plain: 27.3, 1, 1.047; 1.1; 1.98."""


class Table(torch.nn.Module):
    """p(token) depends on the token and on whether the row's prompt has a judgment."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[int]] = []

    def forward(self, batch: Batch) -> torch.Tensor:
        self.rows += batch.input_ids_BT.tolist()
        first_N = batch.input_ids_BT.repeat_interleave(torch.tensor(batch.lengths), 0)[:, 0].tolist()
        pairs = zip(first_N, batch.targets_N.tolist(), strict=True)
        return torch.tensor([math.log(PROBABILITIES[first][token]) for first, token in pairs], dtype=torch.float64)


class Letters:
    def decode(self, ids: list[int]) -> str:
        (token,) = ids
        return f"<{token}>"


def group(name: str, *rows: tuple[list[int], str | None], judged_perfect: bool = False) -> TrainingGroup:
    """Rows of (response, verdict)."""
    judged = [
        [JUDGED, 2, index] if verdict == "flawed" or (judged_perfect and verdict) else []
        for index, (_, verdict) in enumerate(rows)
    ]
    return TrainingGroup(
        name, [PLAIN, 3], list(range(len(rows))), [ids for ids, _ in rows], [[] for _ in rows], [None for _ in rows],
        [f"{name} {index}" for index in range(len(rows))], [verdict for _, verdict in rows], judged,
    )  # fmt: skip


def examples(*groups: TrainingGroup, threshold: float = 1.1, budget: int = 1000, policy: Any = None) -> list[Any]:
    objective = CUTObjective(type="cut", threshold=threshold)

    def score(rows: Any) -> list[list[float]]:
        return token_logps_of(policy or Table(), rows, "cpu", budget)

    return flagged_examples(score, groups, objective, Letters())


def flags(response: list[int], threshold: float) -> list[bool]:
    (example,) = examples(group("p", (response, "flawed")), threshold=threshold)
    assert [text for text, _ in example["tokens"]] == [f"<{token}>" for token in response]
    return [flag for _, flag in example["tokens"]]


@pytest.mark.parametrize(
    ("threshold", "flagged"),
    [
        (1.09, [True, False, False, True, True]),
        (1.12, [True, False, False, False, True]),
        (1.04, [True, False, True, True, True]),
        (2.0, [True, False, False, False, False]),
        (28.0, [False] * 5),
    ],
)
def test_flags_by_hand(threshold: float, flagged: list[bool]) -> None:
    """Ratios 27.3, 1, 1.047, 1.1, 1.98 against the threshold."""
    assert flags([4, 5, 6, 7, 8], threshold) == flagged


def test_an_example_says_whose_it_is() -> None:
    (example,) = examples(group("p7", ([5, 4], "flawed")))
    assert example == {
        "prompt_id": "p7",
        "index": 0,
        "judgment": "p7 0",
        "tokens": [["<5>", False], ["<4>", True]],
        "ratios": [0.0, round(math.log(0.82 / 0.03), 3)],
    }


def test_a_ratio_that_is_not_finite_is_missing() -> None:
    rows = [group("p", ([4, 5], "flawed"))]
    logps = iter([[-math.inf, -1.0], [-math.inf, -0.5]])
    objective = CUTObjective(type="cut", threshold=1.1)
    (example,) = flagged_examples(lambda streams: [next(logps) for _ in streams], rows, objective, Letters())
    assert example["ratios"] == [None, 0.5]


def test_the_first_flawed_response_of_each_group() -> None:
    """A positive before it, one that was set aside, and a second flawed one; a group of positives has no example."""
    groups = [
        group("a", ([5], "perfect"), ([6], None), ([4, 4], "flawed"), ([8], "flawed")),
        group("b", ([5], "perfect")),
        group("c", ([8], "flawed")),
    ]
    found = examples(*groups)
    assert [(e["prompt_id"], e["index"], e["judgment"], [text for text, _ in e["tokens"]]) for e in found] == [
        ("a", 2, "a 2", ["<4>", "<4>"]),
        ("c", 0, "c 0", ["<8>"]),
    ]


def test_a_positive_with_a_judged_prompt_is_not_shown() -> None:
    """Beside Hindsight positives have judged prompts too; praise flags nothing that CUT acts on."""
    found = examples(group("a", ([4], "perfect"), ([8, 5], "flawed"), judged_perfect=True))
    assert [(e["judgment"], e["tokens"]) for e in found] == [("a 1", [["<8>", True], ["<5>", False]])]
    assert examples(group("a", ([4], "perfect"), judged_perfect=True)) == []


@pytest.mark.parametrize("budget", [1, 7, 1000])
def test_rows_find_their_example_again(budget: int) -> None:
    """Whatever order the forward passes take: lengths 3, 1, 2."""
    rows: list[list[int]] = [[4, 5, 8], [7], [5, 4]]
    found = examples(*[group(str(i), (ids, "flawed")) for i, ids in enumerate(rows)], threshold=1.5, budget=budget)
    assert [[flag for _, flag in e["tokens"]] for e in found] == [[True, False, True], [False], [False, True]]


def test_both_streams_carry_the_same_response() -> None:
    policy = Table()
    examples(group("p", ([4, 5], "flawed")), policy=policy)
    assert sorted(row for row in policy.rows) == [[PLAIN, 3, 4, 5, 0], [JUDGED, 2, 0, 4, 5]]


def test_no_groups_no_examples() -> None:
    assert examples() == []
