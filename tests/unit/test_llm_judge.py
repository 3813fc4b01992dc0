"""Judges behind a transport: scores, pairs in both orders, costs, and what a failure does to its neighbours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rayalign.records import Message, Sample
from rayalign.scoring.judges.pairs import pairs_of
from rayalign.scoring.services.cache import ScoreCache
from rayalign.scoring.services.calls import Failure
from rayalign.scoring.services.transport import Reply
from tests.unit.judge_cases import judge, prompt, samples, shown

PROMPT = prompt()


def by_length(messages: Sequence[Message]) -> dict[str, Any]:
    return {"rating": min(10, len(shown(messages, "response")))}


def longer(messages: Sequence[Message]) -> dict[str, Any]:
    first, second = len(shown(messages, "response A")), len(shown(messages, "response B"))
    return {"better": "tie" if first == second else "A" if first > second else "B"}


def test_ratings_are_rewards_with_cost_and_without_verdict() -> None:
    """100 input tokens at 1 dollar per million and 10 output tokens at 10 dollars: 0.0002 dollars."""
    made, _ = judge("rating", by_length)
    scores = made.score([PROMPT] * 3, samples(PROMPT, "abc", "a", "abcdef"))
    made.close()
    assert [score.reward for score in scores] == [3.0, 1.0, 6.0]
    assert {(s.scorer, s.scorer_version, s.status, s.verdict) for s in scores} == {
        ("judge:rating:fake", made.version, "ok", None)
    }
    assert [score.cost for score in scores] == [pytest.approx(0.0002)] * 3


def test_judgments_have_a_verdict_and_no_reward() -> None:
    made, _ = judge("cut", lambda m: {"judgment": "perfect" if shown(m, "response") == "good" else "Too short."})
    scores = made.score([PROMPT] * 2, samples(PROMPT, "good", "bad"))
    made.close()
    assert [(s.judgment, s.verdict, s.reward) for s in scores] == [
        ("perfect", "perfect", None),
        ("Too short.", "flawed", None),
    ]


def test_a_failure_stays_with_its_item() -> None:
    def answer(messages: Sequence[Message]) -> Any:
        text = shown(messages, "response")
        if text == "late":
            raise Failure("timeout", "no reply within 1 s")
        if text == "down":
            raise Failure("error", "HTTP 500: down")
        replies = {"cut off": Reply('{"rating": 10}', True, 100, 64), "prose": Reply("Rating: 10", False)}
        replies["digits"] = Reply(f'{{"rating": {"9" * 5000}}}', False)
        return replies.get(text, {"rating": 7})

    made, _ = judge("rating", answer)
    scores = made.score([PROMPT] * 7, samples(PROMPT, "fine", "late", "down", "cut off", "prose", "digits", "fine too"))
    made.close()
    assert [(s.status, s.reward) for s in scores] == [
        ("ok", 7.0), ("timeout", None), *[("error", None)] * 4, ("ok", 7.0),
    ]  # fmt: skip
    assert [s.reason for s in scores[1:6]] == [
        "no reply within 1 s",
        "HTTP 500: down",
        "a reply cut at 64 tokens: it may lack its end",
        "the reply 'Rating: 10': it is not one JSON object",
        "a reply with a number of too many digits: no verdict can be read",
    ]
    assert scores[3].cost == pytest.approx((100 + 640) / 1e6)


def test_the_same_seed_asks_the_same_and_another_seed_does_not() -> None:
    sent = []
    for seed in (1, 1, 2):
        made, transport = judge("rating", by_length, seed=seed)
        made.score([PROMPT], samples(PROMPT, "abc"))
        made.close()
        sent.append((transport.sent, transport.seeds))
    assert sent[0] == sent[1] != sent[2]


@pytest.mark.parametrize(
    ("answers", "opponents", "pairs"),
    [
        (1, 0, []), (2, 0, [(0, 1)]), (3, 0, [(0, 1), (0, 2), (1, 2)]), (2, 1, [(0, 1)]), (1, 3, []),
        (4, 1, [(0, 1), (1, 2), (2, 3), (0, 3)]), (3, 9, [(0, 1), (1, 2), (0, 2)]),
    ],
)  # fmt: skip
def test_pairs(answers: int, opponents: int, pairs: list[tuple[int, int]]) -> None:
    assert pairs_of(answers, opponents) == pairs


def test_win_shares_within_the_prompts_own_group() -> None:
    """Lengths 1, 3, 3, 5: the longest wins 3 of 3, the two of length 3 win 1 and tie 1 (0.5), the shortest none. They
    stand among the answers of another prompt, in mixed order."""
    other = prompt("Another.")
    own = samples(PROMPT, "a", "abc", "cba", "abcde")
    rows = [(other, samples(other, "x")[0]), *[(PROMPT, sample) for sample in reversed(own)]]
    made, transport = judge("pairwise", longer)
    scores = made.score([owner for owner, _ in rows], [sample for _, sample in rows])
    made.close()
    assert [score.reward for score in scores] == [None, 1.0, 0.5, 0.5, 0.0]
    assert (scores[0].status, scores[0].reason) == ("abstain", "a comparison needs two answers to a prompt")
    assert [score.preferred_over for score in scores[1:]] == [0, 0, 0, None]
    assert {tuple(sorted(score.aspects.items())) for score in scores[1:]} == {(("comparisons", 3.0), ("flips", 0.0))}
    assert len(transport.sent) == 12
    assert sum(score.cost for score in scores) == pytest.approx(12 * 0.0002)


def test_equal_texts_tie_without_a_question() -> None:
    made, transport = judge("pairwise", longer)
    scores = made.score([PROMPT] * 2, samples(PROMPT, "abc", "abc"))
    made.close()
    assert [(score.reward, score.aspects) for score in scores] == [(0.5, {"comparisons": 0.0, "flips": 0.0})] * 2
    assert transport.sent == []


def test_orders_that_disagree_are_a_tie_and_a_flip() -> None:
    made, _ = judge("pairwise", lambda messages: {"better": "A"})
    scores = made.score([PROMPT] * 3, samples(PROMPT, "a", "ab", "abc"))
    made.close()
    assert [(score.reward, score.preferred_over, score.aspects) for score in scores] == [
        (0.5, None, {"comparisons": 2.0, "flips": 2.0})
    ] * 3


def uniform(*parts: object) -> float:
    """A number in [0, 1) that hangs on `parts` alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big") / 2**48


def test_a_position_bias_of_30_percent_leaves_no_net_bias() -> None:
    """Equal answers: the judge takes the first one shown in 30 % of its calls, and says tie in the others. Asked once,
    the first one would lead by 0.3; asked in both orders, every share is 0.5 exactly, and a pair flips wherever one of
    its calls was biased: in 1 - 0.7^2 = 51 % of them, and in exactly those that the judge itself counted."""
    biased: dict[frozenset[str], bool] = {}

    def answer(messages: Sequence[Message]) -> dict[str, Any]:
        first, second = shown(messages, "response A"), shown(messages, "response B")
        first_wins = uniform(first, second) < 0.3
        pair = frozenset((first, second))
        biased[pair] = biased.get(pair, False) or first_wins
        return {"better": "A" if first_wins else "tie"}

    rows = [(owner, sample) for i in range(100) for owner in [prompt(f"Prompt {i}.")]
            for sample in samples(owner, *(f"answer {i} {k}" for k in range(5)))]  # fmt: skip
    made, transport = judge("pairwise", answer)
    scores = made.score([owner for owner, _ in rows], [sample for _, sample in rows])
    made.close()
    once = [uniform(*(shown(m, f"response {x}") for x in "AB")) < 0.3 for m in transport.sent[::2]]
    assert sum(once) / len(once) == pytest.approx(0.3, abs=0.05)
    assert [score.reward for score in scores] == [0.5] * 500
    flips, comparisons = (sum(score.aspects[name] for score in scores) for name in ("flips", "comparisons"))
    assert comparisons == 2 * 1000
    assert flips == 2 * sum(biased.values())
    assert flips / comparisons == pytest.approx(0.51, abs=0.05)


def test_position_bias_on_top_of_a_taste_leaves_the_taste() -> None:
    """30 % of the pairs are decided by position, the others by a taste that knows no position: shares differ by taste
    alone, so the mean share of answers by the place they were sampled in is 0.5."""

    def answer(messages: Sequence[Message]) -> dict[str, Any]:
        first, second = shown(messages, "response A"), shown(messages, "response B")
        if uniform(*sorted((first, second)), "position") < 0.3:
            return {"better": "A"}
        return {"better": "A" if uniform(first) > uniform(second) else "B"}

    owners = [prompt(f"Prompt {i}.") for i in range(400)]
    rows = [(owner, s) for i, owner in enumerate(owners) for s in samples(owner, f"one {i}", f"two {i}")]
    made, _ = judge("pairwise", answer)
    scores = made.score([owner for owner, _ in rows], [sample for _, sample in rows])
    made.close()
    flips = sum(score.aspects["flips"] for score in scores[::2])
    first = [float(score.reward or 0.0) for score in scores[::2]]
    assert flips == sum(reward == 0.5 for reward in first)
    assert flips / 400 == pytest.approx(0.3, abs=0.06)
    decided = [reward for reward in first if reward != 0.5]
    assert sum(decided) / len(decided) == pytest.approx(0.5, abs=0.09)


def test_a_poisoned_answer_takes_no_score_from_the_others() -> None:
    """Whatever meets "poison" fails; the others keep their shares of the comparisons that are left."""

    def answer(messages: Sequence[Message]) -> Any:
        if "poison" in messages[-1]["content"]:
            raise Failure("timeout", "no reply within 1 s")
        return longer(messages)

    made, _ = judge("pairwise", answer)
    scores = made.score([PROMPT] * 4, samples(PROMPT, "a", "poison", "abc", "ab"))
    made.close()
    assert [score.reward for score in scores] == [0.0, None, 1.0, 0.5]
    assert (scores[1].status, scores[1].reason) == ("timeout", "3 of 3 comparisons failed: no reply within 1 s")


def test_too_few_comparisons_left_are_no_share() -> None:
    """Of three comparisons each, those between "x..." answers fail: they keep one of three, the odd one out all."""

    def answer(messages: Sequence[Message]) -> Any:
        if shown(messages, "response A")[0] == shown(messages, "response B")[0]:
            raise Failure("error", "HTTP 500: down")
        return longer(messages)

    made, _ = judge("pairwise", answer)
    scores = made.score([PROMPT] * 4, samples(PROMPT, "x1", "y", "x22", "x333"))
    made.close()
    assert [(score.status, score.reward) for score in scores] == [
        ("error", None), ("ok", 0.0), ("error", None), ("error", None),
    ]  # fmt: skip


@pytest.mark.parametrize("template", ["cut", "rating", "pairwise"])
def test_cached_results_are_not_asked_for_again(template: Any, tmp_path: Path) -> None:
    """And failures are: the third answer failed at first. Another round's answer of the same text is a hit."""
    replies = {"cut": {"judgment": "Too short."}, "rating": {"rating": 4}, "pairwise": {"better": "B"}}
    down = True

    def answer(messages: Sequence[Message]) -> Any:
        if down and "ccc" in messages[-1]["content"]:
            raise Failure("error", "HTTP 500: down")
        return replies[template]

    def score(indices: list[int]) -> tuple[list[Any], int]:
        made, transport = judge(template, answer, cache=ScoreCache(tmp_path))
        given = [Sample(PROMPT.id, i, text, [1], [0.0], "stop", 0, 0)
                 for i, text in zip(indices, ("a", "bb", "ccc"), strict=True)]  # fmt: skip
        scores = made.score([PROMPT] * 3, given)
        made.close()
        return [(s.status, s.reward, s.judgment, s.verdict) for s in scores], len(transport.sent)

    first, asked = score([0, 1, 2])
    assert asked == (6 if template == "pairwise" else 3)
    down = False
    second, asked = score([5, 6, 7])
    assert asked == (4 if template == "pairwise" else 1)
    assert first[2][0] == "error" and [one[0] for one in second] == ["ok"] * 3
    third, asked = score([0, 1, 2])
    assert (third, asked) == (second, 0)
