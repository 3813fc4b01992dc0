"""From scored samples to training groups, with numbers derived by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rayalign.config.data import GroupsSection
from rayalign.data.selection import build_group, judged_score, normalise, positive_key, positive_limit
from rayalign.records import Prompt, Sample, Score, ScoredSample, TrainingGroup

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


RULE = Score("rule:demo", "1", "ok", 0.5)
FAILED = Score("judge:demo", "1", "error", reason="no answer")
JUDGED = frozenset({"judgments"})
BOTH = frozenset({"rewards", "judgments"})
TARGETS = frozenset({"targets"})


def judged(index: int, token_ids: list[int], verdict: str | None, reward: float | None = None) -> ScoredSample:
    """An answer with a rule's score and a judge's; without a verdict the judge has failed."""
    score = FAILED if verdict is None else Score("judge:demo", "1", "ok", judgment=f"says {index}", verdict=verdict)  # type: ignore[arg-type]
    row = scored(index, token_ids, reward)
    return ScoredSample(row.sample, [RULE, score], reward)


def group_for(needs: frozenset[str], *rows: ScoredSample, target: str | None = None, **options: Any) -> TrainingGroup:
    keep = options.pop("keep_positive", lambda row: True)
    prompt = Prompt("p", PROMPT.messages, PROMPT.token_ids, target)
    return build_group(prompt, rows, GroupsSection(**options), needs, keep)


def test_verdicts_and_judgments_stay_with_their_answers() -> None:
    """The second was judged by nobody and has no reward: for objectives with judgments it is not there."""
    rows = [judged(0, [5], "flawed"), judged(1, [6], None), judged(2, [7], "perfect")]
    group = group_for(JUDGED, *rows)
    assert group.response_indices == [0, 2]
    assert group.response_token_ids == [[5], [7]]
    assert group.judgments == ["says 0", "says 2"]
    assert group.verdicts == ["flawed", "perfect"]
    assert group.rewards == [None, None]
    assert group.keep


def test_only_a_judge_gives_a_verdict() -> None:
    """Neither a score that failed nor one without a verdict, wherever it stands in the list."""
    good, late = Score("judge:a", "1", "ok", judgment="x", verdict="flawed"), Score("judge:b", "1", "ok", 1.0)
    broken = Score("judge:c", "1", "error", judgment="y", verdict="perfect")
    for scores in itertools.permutations([RULE, broken, good, late]):
        assert judged_score(ScoredSample(rows_sample(), list(scores), None)) is good
    assert judged_score(ScoredSample(rows_sample(), [RULE, broken, late], None)) is None


def rows_sample() -> Sample:
    return scored(0, [5], None).sample


def test_judgments_are_left_out_where_no_objective_needs_them() -> None:
    group = group_for(frozenset({"rewards"}), judged(0, [5], "flawed", 1.0), judged(1, [6], "perfect", 0.0))
    assert (group.judgments, group.verdicts, group.rewards) == ([], [], [1.0, 0.0])


def test_with_rewards_and_judgments_one_of_both_is_enough() -> None:
    """By answer: both, a reward only, a judgment only, neither. A hole stays a hole."""
    rows = [judged(0, [5], "flawed", 1.0), judged(1, [6], None, 0.25), judged(2, [7], "perfect"), judged(3, [8], None)]
    group = group_for(BOTH, *rows)
    assert group.response_indices == [0, 1, 2]
    assert group.rewards == [1.0, 0.25, None]
    assert group.verdicts == ["flawed", None, "perfect"]
    assert group.judgments == ["says 0", None, "says 2"]


def test_with_targets_every_answer_is_a_negative() -> None:
    """SPIN and Self-Contrast ask for no score at all; an answer of no tokens is still none."""
    rows = [judged(0, [5], None), judged(1, [], None), judged(2, [6], None)]
    group = group_for(TARGETS, *rows, target="cat, dog")
    assert (group.response_indices, group.drop_reason) == ([0, 2], None)
    assert (group.judgments, group.verdicts) == ([], [])


@pytest.mark.parametrize(
    ("needs", "rows", "target", "reason"),
    [
        (JUDGED, [], None, "no_judgment"),
        (JUDGED, [(0, [5], None)], None, "no_judgment"),
        (JUDGED, [(0, [], "flawed"), (1, [6], None)], None, "no_judgment"),
        (JUDGED, [(0, [5], "flawed")], None, None),
        (JUDGED, [(0, [5], "perfect"), (1, [5], "perfect")], None, None),
        (BOTH, [(0, [5], None)], None, "no_reward"),
        (BOTH, [(0, [5], "flawed")], None, None),
        (TARGETS, [(0, [5], None)], None, "no_target"),
        (TARGETS, [(0, [], None)], "cat", "no_response"),
        (TARGETS, [(0, [5], None)], "", None),
        (TARGETS, [(0, [5], None)], "cat", None),
        (frozenset({"judgments", "targets"}), [(0, [5], None)], "cat", None),
    ],
)
def test_drop_reasons_beyond_rewards(
    needs: frozenset[str], rows: list[tuple[int, list[int], str | None]], target: str | None, reason: str | None
) -> None:
    assert group_for(needs, *[judged(*row) for row in rows], target=target).drop_reason == reason


def test_a_positive_set_aside_is_gone_where_only_judgments_count() -> None:
    rows = [judged(0, [5], "perfect"), judged(1, [6], "flawed"), judged(2, [7], "perfect")]
    group = group_for(JUDGED, *rows, keep_positive=lambda row: row.sample.index == 2)
    assert (group.response_indices, group.verdicts) == ([1, 2], ["flawed", "perfect"])
    every = group_for(JUDGED, *rows[::2], keep_positive=lambda row: False)
    assert (every.response_indices, every.drop_reason) == ([], "only_positives_set_aside")


def test_a_positive_set_aside_keeps_its_reward() -> None:
    """It is no answer for CUT any more, but one of K for NCA."""
    rows = [judged(0, [5], "perfect", 1.0), judged(1, [6], "flawed", 0.0)]
    group = group_for(BOTH, *rows, keep_positive=lambda row: False)
    assert (group.response_indices, group.rewards, group.verdicts) == ([0, 1], [1.0, 0.0], [None, "flawed"])


def test_flawed_answers_are_never_set_aside() -> None:
    group = group_for(JUDGED, judged(0, [5], "flawed"), keep_positive=lambda row: False)
    assert (group.response_indices, group.verdicts) == ([0], ["flawed"])


@pytest.mark.parametrize(
    ("negatives", "ratio", "kept"),
    [
        (4, 0.25, 1),
        (7, 0.25, 1),
        (8, 0.25, 2),
        (3, 0.25, 0),
        (4, 1.0, 4),
        (9, 1.0, 9),
        (10, 1.0, 10),
        (11, 1.0, 10),
        (1, 100.0, 10),
        (5, 0, 0),
        (0, 0.25, 0),
        (0, 5.0, 0),
        (0, -1, 10),
        (3, -1, 10),
        (100, 0.07, 7),
    ],
)
def test_edge_22_positives_are_cut_to_a_ratio_of_the_negatives(negatives: int, ratio: float, kept: int) -> None:
    """Of ten positives int(negatives x ratio) are kept, at most all; -1 is off; without negatives none is left.

    100 x 0.07 = 7.000000000000001: whole.
    """
    keys = [30, 10, 50, 90, 20, 70, 60, 100, 40, 80]
    limit = positive_limit(keys, negatives, ratio)
    assert len(keys) == 10
    assert sum(limit is None or key <= limit for key in keys) == kept
    assert (limit is None) == (kept == 10)
    assert limit == {0: -1, 10: None}.get(kept, 10 * kept)


def test_edge_22_no_positives_is_no_limit() -> None:
    assert positive_limit([], 0, 0.25) is None
    assert positive_limit([], 8, 0.25) is None


@given(st.sets(st.integers(0, 2**64 - 1), max_size=20), st.integers(0, 20), st.floats(0, 3), st.randoms())
def test_edge_22_the_limit_keeps_the_smallest_keys_in_any_order(
    keys: set[int], negatives: int, ratio: float, rng: Any
) -> None:
    shuffled = sorted(keys)
    rng.shuffle(shuffled)
    limit = positive_limit(iter(shuffled), negatives, ratio)
    kept = sorted(key for key in keys if limit is None or key <= limit)
    assert kept == sorted(keys)[: int(negatives * ratio)]


def test_the_random_order_of_positives() -> None:
    """From seed, round, prompt and index alone (no hash seed, no order of files): first eight bytes of a SHA-256."""
    row = judged(3, [5, 2], "perfect")
    key = positive_key(7, 2, row)
    assert key == 0xE2396E9B851499A3
    assert positive_key(7, 2, judged(3, [9], "perfect", 1.0)) == key
    others = [positive_key(8, 2, row), positive_key(7, 3, row), positive_key(7, 2, judged(4, [5, 2], "perfect"))]
    assert len({key, *others}) == 4


def test_kept_positives_are_spread_over_the_round() -> None:
    """400 positives, a quarter of 400 negatives: exactly 100, from the first half about as many as from the second.

    Hypergeometric, deviation sqrt(100 x 1/4 x 300/399) = 4.3: 50 +- 22 is five of them.
    """
    keys = [positive_key(0, 1, judged(index, [5], "perfect")) for index in range(400)]
    limit = positive_limit(keys, 400, 0.25)
    assert limit is not None
    kept = [key <= limit for key in keys]
    assert sum(kept) == 100
    assert abs(sum(kept[:200]) - 50) < 22


@given(st.permutations(range(5)))
def test_the_group_of_each_answer_depends_on_that_answer(order: list[int]) -> None:
    """In another order of rows the same answers, rewards, judgments and verdicts, each with its index."""
    rows = [
        judged(i, [5 + i], verdict, i / 4) for i, verdict in enumerate(["flawed", "perfect", None, "perfect", "flawed"])
    ]
    group = group_for(BOTH, *[rows[i] for i in order], keep_positive=lambda row: row.sample.index == 1)
    found = zip(group.response_indices, group.rewards, group.judgments, group.verdicts, strict=True)
    assert sorted(found) == [
        (0, 0.0, "says 0", "flawed"), (1, 0.25, "says 1", "perfect"), (2, 0.5, None, None),
        (3, 0.75, "says 3", None), (4, 1.0, "says 4", "flawed"),
    ]  # fmt: skip


def test_edge_11_a_cut_response_is_kept_as_it_was_sampled() -> None:
    """Stopped by the token limit: no EOS (2) at its end, and none is added; reference and policy get these same ids."""
    cut = ScoredSample(Sample("p", 0, "answer", [5, 6, 7], [-0.1, -0.2, -0.3], "length", 0, 0), [], 1.0)
    group = group_of(cut, scored(1, [8, 2], 0.0))
    assert group.response_token_ids == [[5, 6, 7], [8, 2]]
    assert group.response_logprobs[0] == [-0.1, -0.2, -0.3]
