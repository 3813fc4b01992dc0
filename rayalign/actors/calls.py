"""Shards on their way through generators: cut into calls, and put together again.

A shard is what is scored and committed, a call is what a replica gets at once. Calls are smaller, so that all replicas
have work in a round of few shards, and one with a slow prompt goes on with other shards' prompts meanwhile. All answers
to a prompt are in one call: they share its part of the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rayalign.records import Adapter, Prompt, Sample, SampledShard, SamplingPlan, Shard

CALL_ANSWERS, CALL_TOKENS = 32, 1 << 15
"""Of a call at most, where it has more than one prompt; prompts and the longest answers to them count."""
MOST_IN_FLIGHT = 128
"""Calls in one replica at most; each holds a thread of it."""
FIRST_RATIO = 3.0
"""Of the longest answer to the mean one, before any is there."""


@dataclass(frozen=True, slots=True)
class Call:
    """Some of a shard's prompts, and where they stand in it."""

    shard: Shard
    places: tuple[int, ...]

    @property
    def index(self) -> int:
        """The shard's, by which messages name it."""
        return self.shard.index

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        return tuple(self.shard.prompts[place] for place in self.places)


def cut(shard: Shard, plan: SamplingPlan, *, whole: bool = False) -> Iterator[Call]:
    """The calls of a shard, long prompts first, as these take longest.

    Args:
        whole: a single one, in the shard's order.
    """
    lengths = [len(prompt.token_ids) for prompt in shard.prompts]
    if whole or not lengths:
        yield Call(shard, tuple(range(len(lengths))))
        return
    places: list[int] = []
    tokens = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        more = plan.responses * (lengths[place] + plan.max_tokens)
        full = (len(places) + 1) * plan.responses > CALL_ANSWERS or tokens + more > CALL_TOKENS
        if places and full:
            yield Call(shard, tuple(places))
            places, tokens = [], 0
        places.append(place)
        tokens += more
    yield Call(shard, tuple(places))


def unanswered(call: Call, plan: SamplingPlan, adapter: Adapter) -> list[Sample]:
    """What stands for the answers to a call of which generators die."""
    return [
        Sample(prompt.id, index, "", [], [], "failed", adapter.version, plan.seed)
        for prompt in call.prompts
        for index in range(plan.responses)
    ]


class Assembly:
    """Shards whose calls are answered one by one."""

    def __init__(self, responses: int) -> None:
        self._responses = responses
        self._answered: dict[int, dict[int, list[Sample]]] = {}
        """By shard, then by the prompt's place in it."""

    @property
    def waiting(self) -> int:
        """Answers that are here, of shards that are not whole."""
        return sum(len(places) for places in list(self._answered.values())) * self._responses

    def add(self, call: Call, samples: Sequence[Sample]) -> SampledShard | None:
        """Take in the answers to a call; the shard, where that was its last one."""
        shard, size = call.shard, self._responses
        places = self._answered.setdefault(shard.index, {})
        for number, place in enumerate(call.places):
            places[place] = list(samples[number * size : (number + 1) * size])
        if len(places) < len(shard.prompts):
            return None
        del self._answered[shard.index]
        return SampledShard(shard, [sample for place in range(len(shard.prompts)) for sample in places[place]])


class InFlight:
    """How many calls a replica gets at once so that its engine's batch stays full.

    A call ends with its longest answer; until then its other places in the batch are for other calls' answers. So what
    is in flight is to fill the batch as often as the longest answer is longer than the mean one, and one call more,
    while the driver sends the next.

    Args:
        answers: to a call, before any is there.
    """

    def __init__(self, answers: int) -> None:
        self._first_answers = answers
        self._calls = self._answers = 0
        self._longest = self._mean = 0.0

    def note(self, lengths: Sequence[int]) -> None:
        """Take in the lengths of a call's answers."""
        if lengths:
            self._calls += 1
            self._answers += len(lengths)
            self._longest += max(lengths)
            self._mean += sum(lengths) / len(lengths)

    def calls(self, batch: int) -> int:
        """
        Args:
            batch: sequences that the engine runs at once.
        """
        ratio = self._longest / self._mean if self._mean else FIRST_RATIO
        answers = self._answers / self._calls if self._calls else self._first_answers
        return min(MOST_IN_FLIGHT, math.ceil(ratio * batch / answers) + 1)
