"""Shards cut into calls for replicas, and put together again."""

from __future__ import annotations

import dataclasses
import random

import pytest

from rayalign.actors.calls import CALL_ANSWERS, CALL_TOKENS, MOST_IN_FLIGHT, Assembly, Call, InFlight, cut
from rayalign.records import Prompt, Sample, SamplingPlan, Shard

PLAN = SamplingPlan(1, "train", 0, 4, 1.0, 1.0, 64)


def shard_of(lengths: list[int], index: int = 3) -> Shard:
    return Shard(index, tuple(Prompt(f"p{i}", [], [7] * length) for i, length in enumerate(lengths)))


def answers(call: Call, responses: int) -> list[Sample]:
    return [
        Sample(prompt.id, index, "", [1], [-1.0], "stop", 0, 0) for prompt in call.prompts for index in range(responses)
    ]


@pytest.mark.parametrize(
    ("responses", "tokens", "sizes"),
    [(1, 64, [32]), (4, 64, [8] * 4), (6, 64, [5] * 6 + [2]), (40, 64, [1] * 32), (4, 2048, [3] * 10 + [2])],
)
def test_a_call_is_bounded_by_answers_and_tokens(responses: int, tokens: int, sizes: list[int]) -> None:
    plan = dataclasses.replace(PLAN, responses=responses, max_tokens=tokens)
    calls = list(cut(shard_of([20] * 32), plan))
    assert [len(call.places) for call in calls] == sizes
    for call in calls:
        most = sum(len(prompt.token_ids) + tokens for prompt in call.prompts) * responses
        assert len(call.places) == 1 or (len(call.places) * responses <= CALL_ANSWERS and most <= CALL_TOKENS)


def test_long_prompts_come_first_and_every_prompt_once() -> None:
    lengths = [random.Random(0).randrange(1, 900) for _ in range(32)]
    asked = [prompt for call in cut(shard_of(lengths), PLAN) for prompt in call.prompts]
    assert [len(prompt.token_ids) for prompt in asked] == sorted(lengths, reverse=True)
    assert {prompt.id for prompt in asked} == {f"p{i}" for i in range(32)}


def test_a_whole_shard_is_one_call_in_its_order() -> None:
    shard = shard_of([5, 9, 2])
    assert [call.prompts for call in cut(shard, PLAN, whole=True)] == [shard.prompts]


def test_a_shard_without_prompts_comes_back() -> None:
    (call,) = cut(shard_of([]), PLAN)
    whole = Assembly(4).add(call, [])
    assert whole is not None and (whole.shard.index, whole.samples) == (3, [])


def test_shards_are_put_together_in_their_order_whatever_order_calls_come_in() -> None:
    shards = [shard_of([1 + (i * 37) % 50 for i in range(20)], index) for index in range(3)]
    calls = [call for shard in shards for call in cut(shard, PLAN)]
    random.Random(1).shuffle(calls)
    assembly, done, held = Assembly(4), [], 0
    for call in calls:
        held += len(call.places) * 4
        if (whole := assembly.add(call, answers(call, 4))) is not None:
            done.append(whole)
            held -= len(whole.samples)
        assert assembly.waiting == held
    assert sorted(one.shard.index for one in done) == [0, 1, 2] and held == 0
    for one in done:
        expected = [(prompt.id, index) for prompt in one.shard.prompts for index in range(4)]
        assert [(sample.prompt_id, sample.index) for sample in one.samples] == expected


def test_how_many_calls_fill_a_batch() -> None:
    in_flight = InFlight(32)
    assert in_flight.calls(128) == 13, "three times the batch, and one"
    for _ in range(5):
        in_flight.note([10, 10, 10, 10])
    assert in_flight.calls(128) == 33, "as long as each other, four to a call"
    in_flight.note([1000, 1, 1, 1])
    assert in_flight.calls(10_000) == MOST_IN_FLIGHT
