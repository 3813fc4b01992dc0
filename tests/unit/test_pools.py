"""Self-Contrast's candidate pools, on the fixtures and on METHODS section 4, edges 23 and 24."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rayalign.data.pools import candidate_pool, pick_negatives
from rayalign.errors import DataError

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "methods.json"
SIMILAR = [0.91, 0.12, 0.55, 0.4, 0.77, 0.3, 0.64, 0.25]
"""Ranks 7 0 4 3 6 2 5 1."""
TEXTS = [f"r{i}" for i in range(8)]


def cases() -> list[dict[str, Any]]:
    return json.loads(FIXTURES.read_text())["selfcontrast_pool_cases"] if FIXTURES.exists() else []


@pytest.mark.skipif(not FIXTURES.exists(), reason="shared/fixtures/methods.json is not beside the project")
def test_every_pool_of_the_fixtures() -> None:
    """The release writes .75 as `-75` and .5 as `-5`, and compares texts before it strips them."""
    assert len(cases()) == 6
    for case in cases():
        mode, _, digits = case["mode"].partition("-")
        ratio = float(f"0.{digits}") if digits else 1.0
        pool = candidate_pool(
            case["outputs"], case["similarity"], mode=mode, k=case["k"], ratio=ratio, strip_first=False
        )  # fmt: skip
        assert sorted(case["outputs"][i].lstrip() for i in pool) == case["expected_pool_sorted"], case["id"]


def test_edge_23_identical_outputs_give_no_pair() -> None:
    assert candidate_pool(["a"] * 4, [0.5] * 4, mode="lastdedup", k=1) == []


def test_edge_23_blank_outputs_and_the_target_itself_are_never_negatives() -> None:
    outputs = ["", "  ", "\n", "yes", " yes ", "no"]
    assert candidate_pool(outputs, [0.1] * 6, mode="all", k=1, target="yes") == [5]


def test_edge_23_too_few_candidates_pick_nothing() -> None:
    assert pick_negatives([3, 5], 3, seed=0, prompt_id="p") == []
    assert pick_negatives([3, 5], 2, seed=0, prompt_id="p") == [3, 5]


def test_edge_24_ties_at_the_cut_go_together() -> None:
    """Ranks 0 1 1 1 4; half of 5 is 2: the third smallest rank is 1, and strictly below it is one answer."""
    assert candidate_pool(["a", "b", "c", "d", "e"], [0.1, 0.5, 0.5, 0.5, 0.9], mode="lastdedup", k=1, ratio=0.5) == [0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_edge_24_a_similarity_that_is_no_number_is_an_error(bad: float) -> None:
    with pytest.raises(DataError, match="similarity of answer 1"):
        candidate_pool(["a", "b"], [0.5, bad], mode="all", k=1)


@pytest.mark.parametrize("mode", ["last", "lastdedup"])
def test_edge_24_ratio_0_keeps_none(mode: Any) -> None:
    assert candidate_pool(TEXTS, SIMILAR, mode=mode, k=2, ratio=0) == []


def test_edge_24_ratio_1_still_drops_the_most_similar_of_distinct_ones() -> None:
    assert candidate_pool(TEXTS, SIMILAR, mode="lastdedup", k=1, ratio=1.0) == [1, 2, 3, 4, 5, 6, 7]
    assert candidate_pool(TEXTS, SIMILAR, mode="last", k=1, ratio=1.0) == list(range(8))


def test_edge_24_a_leading_space_makes_no_other_candidate() -> None:
    similar = [0.1, 0.2, 0.3, 0.9]
    assert candidate_pool([" a", "a", "b", "c"], similar, mode="lastdedup", k=1, ratio=0.75) == [0, 2]


def test_ratios_are_numbers_and_may_not_leave_0_to_1() -> None:
    assert candidate_pool(TEXTS, SIMILAR, mode="last", k=1, ratio=0.29) == [1, 7]
    for ratio in (-0.1, 1.1, 75):
        with pytest.raises(DataError, match="ratio"):
            candidate_pool(TEXTS, SIMILAR, mode="last", k=1, ratio=ratio)


@given(st.permutations(range(8)), st.sampled_from(["all", "last", "alldedup", "lastdedup"]))
def test_the_order_of_answers_changes_no_pool(order: list[int], mode: Any) -> None:
    """Of distinct answers; of equal ones the first is kept."""
    pool = {TEXTS[i] for i in candidate_pool(TEXTS, SIMILAR, mode=mode, k=2, ratio=0.5)}
    shuffled, similar = [TEXTS[i] for i in order], [SIMILAR[i] for i in order]
    assert {shuffled[i] for i in candidate_pool(shuffled, similar, mode=mode, k=2, ratio=0.5)} == pool


def test_negatives_are_drawn_evenly_and_always_the_same() -> None:
    """3 of 6 positions for 2,000 prompts: each 1,000 times, give or take 4 standard deviations of 22.4."""
    drawn = [pick_negatives(range(6), 3, seed=1, prompt_id=f"p{i}") for i in range(2000)]
    assert drawn == [pick_negatives(range(6), 3, seed=1, prompt_id=f"p{i}") for i in range(2000)]
    assert drawn != [pick_negatives(range(6), 3, seed=2, prompt_id=f"p{i}") for i in range(2000)]
    for position in range(6):
        assert abs(sum(position in picked for picked in drawn) - 1000) < 90
