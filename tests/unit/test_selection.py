"""From scored samples to training groups, with numbers derived by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayalign.config import GroupsSection
from rayalign.data.selection import build_group, normalise
from rayalign.records import Prompt, Sample, ScoredSample, TrainingGroup

PROMPT = Prompt("p", [{"role": "user", "content": "List two animals."}], [1, 17, 4])


def scored(index: int, token_ids: list[int], reward: float | None) -> ScoredSample:
    """The log-probabilities tell which sample and which token they belong to: -(index + position / 100)."""
    logprobs = [-(index + position / 100) for position in range(len(token_ids))]
    return ScoredSample(Sample("p", index, f"answer {index}", token_ids, logprobs, "stop", 0, 0), [], reward)


def group_of(*rows: ScoredSample, **options: Any) -> TrainingGroup:
    return build_group(PROMPT, rows, GroupsSection(**options))


def test_a_plain_group_keeps_everything_in_order() -> None:
    group = group_of(scored(0, [5, 2], 1.0), scored(1, [6, 7, 2], 0.25))
    assert group == TrainingGroup(
        "p", [1, 17, 4], [0, 1], [[5, 2], [6, 7, 2]], [[0, -0.01], [-1, -1.01, -1.02]], [1, 0.25]
    )
    assert group.keep


def test_duplicates_become_the_first_with_their_mean_reward() -> None:
    """[5, 2] came three times, with rewards 1, 0 and 0.5 -> 0.5; [6, 2] once."""
    rows = [scored(0, [6, 2], 0.0), scored(1, [5, 2], 1.0), scored(2, [5, 2], 0.0), scored(3, [5, 2], 0.5)]
    group = group_of(*rows)
    assert group.response_indices == [0, 1]
    assert group.response_token_ids == [[6, 2], [5, 2]]
    assert group.response_logprobs == [[0, -0.01], [-1, -1.01]]
    assert group.rewards == [0.0, 0.5]
    assert group.keep


def test_the_same_text_in_other_tokens_is_no_duplicate() -> None:
    """Token ids are what is trained on: a prefix or an answer without its EOS is another answer."""
    assert group_of(scored(0, [5, 2], 1.0), scored(1, [5], 0.0)).response_indices == [0, 1]


def test_duplicates_stay_without_deduplicate() -> None:
    group = group_of(scored(0, [5, 2], 1.0), scored(1, [5, 2], 0.0), deduplicate=False)
    assert (group.response_indices, group.rewards, group.drop_reason) == ([0, 1], [1.0, 0.0], None)


def test_missing_rewards_are_left_out_and_do_not_count_as_zero() -> None:
    """Of the twins [5, 2] one has no reward: the mean is 1 (a zero for the other would make it 0.5)."""
    rows = [scored(0, [5, 2], None), scored(1, [5, 2], 1.0), scored(2, [6, 2], None), scored(3, [7, 2], 0.0)]
    group = group_of(*rows)
    assert (group.response_indices, group.rewards) == ([1, 3], [1.0, 0.0])


def test_answers_without_tokens_are_left_out() -> None:
    assert group_of(scored(0, [], 1.0), scored(1, [5, 2], 1.0), scored(2, [6, 2], 0.0)).response_indices == [1, 2]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "no_reward"),
        ([(0, [5], None), (1, [6], None)], "no_reward"),
        ([(0, [5], 1.0), (1, [6], None)], "one_response"),
        ([(0, [5], 1.0), (1, [5], None)], "one_response"),
        ([(0, [5], 1.0), (1, [5], 0.0)], "all_duplicates"),
        ([(0, [5], 1.0), (1, [6], 1.0)], None),
        ([(0, [5], 1.0), (1, [6], 0.0)], None),
    ],
)
def test_drop_reasons(rows: list[tuple[int, list[int], float | None]], reason: str | None) -> None:
    assert group_of(*[scored(*row) for row in rows]).drop_reason == reason


@pytest.mark.parametrize("mode", ["none", "center", "zscore"])
def test_equal_rewards_are_dropped_only_on_request(mode: str) -> None:
    equal, different = [(0, [5], 0.3), (1, [6], 0.3)], [(0, [5], 0.3), (1, [6], 0.4)]
    for rows, drop, reason in ((equal, True, "equal_rewards"), (equal, False, None), (different, True, None)):
        group = group_of(*[scored(*row) for row in rows], drop_equal_rewards=drop, normalise=mode)
        assert group.drop_reason == reason


def test_equal_rewards_are_seen_through_merged_duplicates() -> None:
    """(0.1 + 0.1 + 0.1) / 3 is 0.10000000000000002 in floats, but the mean of equal rewards is that reward."""
    rows = [scored(0, [5], 0.1), scored(1, [5], 0.1), scored(2, [5], 0.1), scored(3, [6], 0.1)]
    group = group_of(*rows, drop_equal_rewards=True)
    assert (group.rewards, group.drop_reason) == ([0.1, 0.1], "equal_rewards")


def test_normalise_by_hand() -> None:
    """Mean of 2 4 4 4 5 5 7 9 is 40 / 8 = 5; squares 9 1 1 1 0 0 4 16 sum to 32, / 8 = 4, so the deviation is 2.

    (Divided by n - 1 = 7 it would be 2.138.)
    """
    rewards = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]
    assert normalise(rewards, "none") == rewards
    assert normalise(rewards, "center") == [-3, -1, -1, -1, 0, 0, 2, 4]
    assert normalise(rewards, "zscore") == [-1.5, -0.5, -0.5, -0.5, 0, 0, 1, 2]


@pytest.mark.parametrize("mode", ["none", "center", "zscore"])
def test_normalise_of_nothing(mode: str) -> None:
    assert normalise([], mode) == []


@given(st.floats(-1e6, 1e6), st.integers(1, 9))
def test_equal_rewards_normalise_to_exact_zeros(reward: float, count: int) -> None:
    """A mean that misses the reward by a rounding would make the z-scores of equal rewards -1 or 1."""
    assert normalise([reward] * count, "center") == [0.0] * count
    assert normalise([reward] * count, "zscore") == [0.0] * count


def test_normalisation_sees_merged_rewards_only() -> None:
    """Twins of 0 and 1 are one answer of 0.5, beside 1.5: centred -0.5 and 0.5 (over three answers: mean 5/6)."""
    rows = [scored(0, [5], 0.0), scored(1, [5], 1.0), scored(2, [6], 1.5), scored(3, [7], None)]
    assert group_of(*rows, normalise="center").rewards == [-0.5, 0.5]


answers = st.lists(
    st.tuples(st.lists(st.integers(0, 2), max_size=3), st.none() | st.integers(-3, 3).map(float)), max_size=8
)


@given(answers, st.booleans(), st.sampled_from(["none", "center", "zscore"]))
def test_tokens_and_logprobs_stay_with_their_index(
    rows: list[tuple[list[int], float | None]], deduplicate: bool, mode: str
) -> None:
    samples = [scored(index, tokens, reward) for index, (tokens, reward) in enumerate(rows)]
    group = group_of(*samples, deduplicate=deduplicate, normalise=mode)
    kept = [samples[index].sample for index in group.response_indices]
    assert group.response_token_ids == [sample.token_ids for sample in kept]
    assert group.response_logprobs == [sample.logprobs for sample in kept]
    assert len(group.rewards) == len(kept)
    assert group.response_indices == sorted(set(group.response_indices))
    usable = {tuple(tokens) for tokens, reward in rows if tokens and reward is not None}
    assert {tuple(tokens) for tokens in group.response_token_ids} == usable
    assert group.keep == (len(kept) > 1)
