"""Judges that are language models behind a transport: each answer alone, or each pair of answers in both orders."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rayalign.config.services import Prices
from rayalign.errors import DataError
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.judges.pairs import Outcome, pairs_of, tally
from rayalign.scoring.judges.quoting import Nonces
from rayalign.scoring.judges.template_version import earlier_version, template_version
from rayalign.scoring.judges.templates import Reading, Template, schema_text
from rayalign.scoring.services.cache import ScoreCache, bypassed, cache_key
from rayalign.scoring.services.cached import CachedCalls, Questions
from rayalign.scoring.services.calls import Caller, Failure
from rayalign.scoring.services.canned import canned_answers
from rayalign.scoring.services.transport import Reply, Transport, judge_refusal, replied

CHARACTERS_PER_TOKEN = 3.0
"""What is assumed to estimate a prompt's tokens before it is sent; English has about 4."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one question to the judge: a reading, or why there is none."""

    status: Literal["ok", "error", "timeout"]
    reading: Reading | None = None
    reason: str | None = None
    latency_s: float = 0.0
    cost: float = 0.0
    cached: bool = False
    failure: Failure | None = None
    """Of the call, if it gave no completion."""


@dataclass(frozen=True, slots=True)
class Question:
    prompt: Prompt
    samples: tuple[Sample, ...]
    """The one to be judged, or the two of a comparison in the order in which they are shown."""


class LLMJudge:
    """Asks a judge for every sample (`cut`, `rating`) or for pairs of a prompt's samples (`pairwise`).

    Args:
        identity: what else decides a reply: endpoint, model, sampling settings.
        seed: decides the delimiters and the judge's sampling; the same seed asks the same questions.
        max_tokens: the longest reply, which counts for the token limit before it is there.
        opponents: see `pairs_of`.
        cache: gets every reading as it comes.
        deadline_s: time limit of a `score` call that sets none itself.
    """

    def __init__(
        self,
        name: str,
        template: Template,
        transport: Transport,
        caller: Caller,
        *,
        identity: str,
        seed: int,
        max_tokens: int,
        prices: Prices,
        opponents: int = 0,
        cache: ScoreCache | None = None,
        deadline_s: float = 3600.0,
    ) -> None:
        self.name = name
        self.version = _version(template_version(template), identity)
        self._template, self._transport, self._caller = template, transport, caller
        self._nonces, self._seed = Nonces(seed, template.name), seed
        self._max_tokens, self._prices, self._opponents = max_tokens, prices, opponents
        self._overhead = len(schema_text(template))
        earlier = earlier_version(template)
        versions = [self.version, *([_version(earlier, identity)] if earlier else [])]
        # The seeds that the judge was sent under its earlier version: the same questions stay the same.
        self._seed_version = versions[-1]
        keys = [functools.partial(self._key, version=version) for version in versions]
        questions = Questions(self._ask_alone, keys, _remembered, _stored)
        self._calls = CachedCalls(name, questions, cache, deadline_s=deadline_s)

    def check(self) -> None:
        """See that the judge gives verdicts, by a canned answer; to be called before anything is sampled.

        It is asked with the limits and the retries of every call. A verdict in the cache counts where the endpoint is
        known to serve the model still. A reply without one may be chance, in free text above all, and how many of its
        answers may fail is the user's to say: all other canned answers follow it, at once.

        Raises:
            ConfigError: it cannot be reached, refuses what it is asked, or gave no verdict to any of the answers.
        """
        doubt = self._calls.run(self._transport.check())
        with bypassed() if doubt else contextlib.nullcontext():
            failed = self._without_verdict()
        if failed is None:
            return
        raise judge_refusal(self._transport.name, failed.reason, failed.failure, doubt)

    def _without_verdict(self) -> Judged | None:
        """What came of the last canned question, if none had a verdict."""
        first, *others = self._canned_questions()
        judged = self._calls.answers([first])
        if judged[0].status != "ok" and replied(judged[0].failure):
            judged += self._calls.answers(others)
        return None if any(one.status == "ok" for one in judged) else judged[-1]

    def _canned_questions(self) -> list[Question]:
        """Each canned answer alone, the better ones first; or each pair in both orders."""
        canned = canned_answers()
        if self._template.name == "pairwise":
            both = [*canned, *((prompt, (second, first)) for prompt, (first, second) in canned)]
            return [Question(prompt, answers) for prompt, answers in both]
        return [Question(prompt, (answers[place],)) for place in (0, 1) for prompt, answers in canned]

    def close(self) -> None:
        self._calls.run(self._transport.close())
        self._calls.close()

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample], within_s: float | None = None) -> list[Score]:
        """One score per sample; with `pairwise`, `samples` holds all samples of each of its prompts.

        Args:
            within_s: time limit; what is not answered by then is `timeout`.
        """
        items = list(zip(prompts, samples, strict=True))
        if self._template.name != "pairwise":
            judged = self._calls.answers([Question(prompt, (sample,)) for prompt, sample in items], within_s)
            return [self._single(one) for one in judged]
        groups: dict[str, list[int]] = {}
        for position, (prompt, _) in enumerate(items):
            groups.setdefault(prompt.id, []).append(position)
        scores: dict[int, Score] = {}
        for positions, outcomes in self._compare(items, list(groups.values()), within_s):
            for position, score in zip(positions, self._tallied(samples, positions, outcomes), strict=True):
                scores[position] = score
        return [scores[position] for position in range(len(items))]

    def judged(self, questions: Sequence[Question], within_s: float | None = None) -> list[Judged]:
        """What comes of each question, in their order."""
        return self._calls.answers(questions, within_s)

    def _single(self, judged: Judged) -> Score:
        reading = judged.reading or Reading()
        return Score(
            self.name,
            self.version,
            judged.status,
            reading.reward,
            reading.judgment,
            reading.verdict,
            aspects={"cached": 1.0} if judged.cached else {},
            latency_s=judged.latency_s,
            cost=judged.cost,
            reason=judged.reason,
        )

    def _compare(
        self, items: Sequence[tuple[Prompt, Sample]], groups: Sequence[list[int]], within_s: float | None
    ) -> list[tuple[list[int], list[Outcome]]]:
        """The outcome of every pair of each group; all questions of all groups are asked at once."""
        pairs = [(group, pairs_of(len(group), self._opponents)) for group in groups]
        questions = []
        for group, chosen in pairs:
            for a, b in chosen:
                (prompt, first), (_, second) = items[group[a]], items[group[b]]
                if first.text != second.text:
                    questions += [Question(prompt, (first, second)), Question(prompt, (second, first))]
        answers = iter(self._calls.answers(questions, within_s))
        compared = []
        for group, chosen in pairs:
            outcomes = []
            for a, b in chosen:
                equal = items[group[a]][1].text == items[group[b]][1].text
                outcomes.append(Outcome.equal(a, b) if equal else _outcome(a, b, next(answers), next(answers)))
            compared.append((group, outcomes))
        return compared

    def _tallied(self, samples: Sequence[Sample], positions: list[int], outcomes: list[Outcome]) -> list[Score]:
        scores = []
        for standing in tally(len(positions), outcomes):
            over = standing.preferred_over
            scores.append(
                Score(
                    self.name,
                    self.version,
                    standing.status,
                    standing.share,
                    preferred_over=None if over is None else samples[positions[over]].index,
                    aspects=standing.aspects,
                    latency_s=standing.latency_s,
                    cost=standing.cost,
                    reason=standing.reason,
                )
            )
        return scores

    async def _ask_alone(self, questions: Sequence[Question], deadline: float) -> list[Judged]:
        [question] = questions
        return [await self._ask_one(question, deadline)]

    async def _ask_one(self, question: Question, deadline: float) -> Judged:
        started = time.perf_counter()
        nonce = self._nonce(question)
        messages = self._template.messages(question.prompt, [sample.text for sample in question.samples], nonce)
        characters = sum(len(message["content"]) for message in messages) + self._overhead
        tokens = characters / CHARACTERS_PER_TOKEN + self._max_tokens
        seed = int.from_bytes(self._key(question, self._seed_version)[:4], "big") >> 1

        async def attempt() -> Reply:
            return await self._transport.complete(messages, self._template.schema, seed)

        try:
            reply = await self._caller.run(attempt, deadline, tokens, _tokens_used)
        except Failure as failure:
            took = time.perf_counter() - started
            return Judged(failure.status, None, failure.reason, took, failure=failure)
        took, cost = time.perf_counter() - started, self._cost(reply)
        try:
            if reply.truncated:
                limit = reply.output_tokens or self._max_tokens
                raise DataError(f"a reply cut at {limit} tokens", "it may lack its end")
            return Judged("ok", self._template.parse(reply.text, nonce), None, took, cost)
        except DataError as error:
            return Judged("error", None, f"{error.found}: {error.why}", took, cost)
        except ValueError:
            # Python reads no integer of thousands of digits.
            return Judged("error", None, "a reply with a number of too many digits: no verdict can be read", took, cost)

    def _nonce(self, question: Question) -> str:
        samples = question.samples
        texts = [message["content"] for message in question.prompt.messages] + [sample.text for sample in samples]
        key = [question.prompt.id, *((sample.index, sample.adapter_version) for sample in samples)]
        return self._nonces.nonce(key, texts)

    def _key(self, question: Question, version: str) -> bytes:
        texts = [sample.text for sample in question.samples]
        return cache_key(
            question.prompt.messages,
            texts,
            template=self._template.name,
            scorer=self.name,
            version=version,
            seed=self._seed,
        )

    def _cost(self, reply: Reply) -> float:
        bought = (reply.input_tokens or 0) * self._prices.input + (reply.output_tokens or 0) * self._prices.output
        return bought / 1e6


def _version(template: str, identity: str) -> str:
    return hashlib.sha256(f"{template}\n{identity}".encode()).hexdigest()[:16]


def _remembered(fields: object) -> Judged | None:
    return Judged("ok", Reading(**fields), cached=True) if isinstance(fields, dict) else None


def _stored(judged: Judged) -> object:
    return None if judged.reading is None else dataclasses.asdict(judged.reading)


def _tokens_used(reply: Reply) -> float | None:
    if reply.input_tokens is None or reply.output_tokens is None:
        return None
    return float(reply.input_tokens + reply.output_tokens)


def _outcome(a: int, b: int, forth: Judged, back: Judged) -> Outcome:
    """What both orders together say of answers `a` (shown first in `forth`) and `b` (shown first in `back`)."""
    paid = (max(forth.latency_s, back.latency_s), forth.cost + back.cost)
    if forth.reading is None or back.reading is None:
        failed = forth if forth.reading is None else back
        return Outcome(a, b, None, False, failed.status, failed.reason, *paid)
    first = {"first": a, "second": b}.get(forth.reading.choice or "tie")
    second = {"first": b, "second": a}.get(back.reading.choice or "tie")
    winner, cached = first if first == second else None, forth.cached + back.cached
    return Outcome(a, b, winner, first != second, "ok", None, *paid, cached=cached)
