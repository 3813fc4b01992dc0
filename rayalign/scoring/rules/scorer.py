"""Rules: a function of prompt and response, the demo world's or the user's own."""

from __future__ import annotations

from collections.abc import Sequence

from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.rules.calls import (
    ASKED_ALONE,
    AsyncCalls,
    Item,
    Outcome,
    call_batch,
    call_batch_async,
    call_each,
    is_async,
)
from rayalign.scoring.rules.file import RuleFunction, RuleSource, compile_rule, wants_metadata
from rayalign.scoring.rules.isolation import RuleProcess
from rayalign.scoring.rules.worker import Setup
from rayalign.scoring.services.calls import LoopThread


class RuleScorer:
    """Scores with a function in this process; what it raises is that answer's `error`, never a number.

    A function with a parameter named `metadata` also gets the prompt's metadata. An async function runs on up to
    `concurrency` answers at once; one on batches gets lists and returns a list of the same length.
    """

    def __init__(
        self, name: str, version: str, function: RuleFunction, *, batch: bool = False, concurrency: int = 32
    ) -> None:
        self.name = name
        self.version = version
        self._function, self._batch = function, batch
        self._wants_metadata = wants_metadata(function)
        # One loop for as long as the scorer lives: a user's client stays bound to it.
        self._loop = LoopThread(name) if is_async(function) else None
        self._calls = AsyncCalls(function, concurrency)

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        """One score per sample; `prompts` holds the prompt of each."""
        items = items_of(prompts, samples, self._wants_metadata)
        return scores_of(self.name, self.version, self._outcomes(items))

    def close(self) -> None:
        """End the event loop."""
        if self._loop:
            self._loop.close()

    def _outcomes(self, items: list[Item]) -> Sequence[Outcome]:
        if self._loop is None:
            return call_batch(self._function, items) if self._batch else list(call_each(self._function, items))
        if self._batch:
            return self._loop.run(call_batch_async(self._function, items, None))
        found: dict[int, Outcome] = {}
        self._loop.run(self._calls.each(items, found.__setitem__))
        return [found[place] for place in range(len(items))]


class IsolatedRuleScorer:
    """Scores as `RuleScorer` does, with a time limit per answer, in a child process: crashes and loops stay there."""

    def __init__(
        self, name: str, source: RuleSource, *, timeout_s: float, batch: bool = False, concurrency: int = 32
    ) -> None:
        self.name = name
        self.version = source.version
        self._wants_metadata = wants_metadata(compile_rule(source))
        self._process = RuleProcess(Setup(source, batch, concurrency, timeout_s))

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        """One score per sample; `prompts` holds the prompt of each."""
        items = items_of(prompts, samples, self._wants_metadata)
        return scores_of(self.name, self.version, self._process.run(items))

    def close(self) -> None:
        """End the child process."""
        self._process.close()


def items_of(prompts: Sequence[Prompt], samples: Sequence[Sample], with_metadata: bool) -> list[Item]:
    """What a rule gets of each sample."""
    pairs = zip(prompts, samples, strict=True)
    return [(prompt.text, sample.text, prompt.metadata if with_metadata else None) for prompt, sample in pairs]


def scores_of(name: str, version: str, outcomes: Sequence[Outcome]) -> list[Score]:
    """The outcomes of one scorer's rule as its scores."""
    return [
        Score(name, version, status, reward, aspects={"asked_alone": 1.0}, latency_s=seconds)
        if reason == ASKED_ALONE
        else Score(name, version, status, reward, latency_s=seconds, reason=reason)
        for status, reward, reason, seconds in outcomes
    ]
