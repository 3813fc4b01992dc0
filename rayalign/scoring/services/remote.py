"""An HTTP service of the user's own that gives rewards; docs/judges.md describes the wire format."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from rayalign.errors import ConfigError
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.services.bodies import parse_body
from rayalign.scoring.services.cache import ScoreCache, bypassed, cache_key
from rayalign.scoring.services.cached import CachedCalls, Questions
from rayalign.scoring.services.calls import OK, Caller, Failure, http_failure, remedy_of
from rayalign.scoring.services.canned import canned_answers
from rayalign.scoring.services.transport import CHECK_TIMEOUT_S, Key, unusable

_log = logging.getLogger(__name__)
Rewards = list[float | None]
Item = tuple[Prompt, Sample]


class _Unreachable(Failure):
    """Nobody is there; a service that breaks a request off is."""


@dataclass(frozen=True, slots=True)
class _Scored:
    score: Score
    failure: Failure | None = None
    """Of its request, if that failed."""


class RemoteScorer:
    """Sends batches of prompts and responses, gets rewards.

    A batch whose reply is not exactly what was asked for is `error` as a whole: rewards are never matched to
    responses by guessing.

    Args:
        version: the user's own, of what the service computes.
        batch: responses per request.
        cache: gets the rewards of every batch as they come.
        deadline_s: time limit of a `score` call that sets none itself.
    """

    def __init__(
        self,
        name: str,
        url: str,
        version: str,
        key: Key,
        caller: Caller,
        *,
        batch: int,
        cache: ScoreCache | None = None,
        deadline_s: float = 3600.0,
    ) -> None:
        self.name = name
        self.version = hashlib.sha256(f"{url}\n{version}".encode()).hexdigest()[:16]
        self._url, self._key, self._caller = url, key, caller
        questions = Questions(self._score_batch, [self._cache_key], self._remembered, _stored)
        self._calls = CachedCalls(name, questions, cache, deadline_s=deadline_s, batch=batch)
        self._session: aiohttp.ClientSession | None = None

    def check(self) -> None:
        """See that the service scores; to be called before anything is sampled.

        It gets an empty batch and then a canned answer, with the limits and the retries of every call. A service that
        takes the empty batch may refuse the canned answer, which has no metadata and is no prompt of its users'; what
        it replies must be the wire format's all the same.

        Raises:
            ConfigError: it cannot be reached, refuses both, or replies in another form.
        """
        refused = None
        try:
            self._calls.run(self._post_nothing())
        except _Unreachable as failure:
            raise self._unusable(failure) from None
        except Failure as failure:
            refused = failure
        [(prompt, (answer, _)), *_] = canned_answers()
        with contextlib.nullcontext() if refused is None else bypassed():
            [scored] = self._calls.answers([(prompt, answer)])
        failure = scored.failure
        if failure is not None and (refused is not None or failure.code == OK):
            raise self._unusable(failure)
        if failure is not None:
            _log.warning("%s did not score a canned answer: %s", self.name, failure.reason)

    def _unusable(self, failure: Failure) -> ConfigError:
        # One that is not there needs no longer limit.
        passing = None if isinstance(failure, _Unreachable) else remedy_of(failure)
        remedy = "; ".join(filter(None, (passing, "start it, or mend url and api_key_env, or what it replies")))
        return ConfigError(
            f"url: {self._url}",
            f"the reward service cannot be used: {failure.reason}",
            f"{remedy}; nothing has been sampled",
        )

    async def _post_nothing(self) -> None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._post([])
        except TimeoutError:
            raise _Unreachable("timeout", f"no reply within {CHECK_TIMEOUT_S:g} s") from None

    def close(self) -> None:
        if self._session is not None:
            self._calls.run(self._session.close())
        self._calls.close()

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample], within_s: float | None = None) -> list[Score]:
        """One score per sample; a reward of null is `abstain`.

        Args:
            within_s: time limit; what is not answered by then is `timeout`.
        """
        answers = self._calls.answers(list(zip(prompts, samples, strict=True)), within_s)
        return [answer.score for answer in answers]

    async def _score_batch(self, batch: Sequence[Item], deadline: float) -> list[_Scored]:
        started = time.perf_counter()
        try:
            rewards = await self._caller.run(lambda: self._post(batch), deadline)
        except Failure as failure:
            took = time.perf_counter() - started
            score = Score(self.name, self.version, failure.status, reason=failure.reason, latency_s=took)
            return [_Scored(score, failure)] * len(batch)
        took = time.perf_counter() - started
        return [self._scored(reward, took) for reward in rewards]

    def _remembered(self, value: object) -> _Scored | None:
        reward = _number(value)
        if reward is None:
            return None
        return _Scored(Score(self.name, self.version, "ok", reward, aspects={"cached": 1.0}))

    def _scored(self, reward: float | None, took: float) -> _Scored:
        if reward is None:
            reason = "the service gave null"
            return _Scored(Score(self.name, self.version, "abstain", reason=reason, latency_s=took))
        return _Scored(Score(self.name, self.version, "ok", reward, latency_s=took))

    async def _post(self, batch: Sequence[Item]) -> Rewards:
        """Rewards of one batch, in its order.

        Raises:
            Failure: no connection, an HTTP error, or another body than the wire format's.
        """
        items = [
            {"id": str(i), "messages": prompt.messages, "response": sample.text, "metadata": prompt.metadata}
            for i, (prompt, sample) in enumerate(batch)
        ]
        # ASCII escapes carry every text that Python can hold, lone surrogates included.
        body = json.dumps({"items": items}).encode()
        try:
            async with self._connected().post(self._url, data=body, allow_redirects=False) as response:
                content = await response.read()
                if response.status != OK:
                    # A redirection is not followed: it says where the service is instead.
                    said = content.decode(errors="replace") or response.headers.get("Location", "")
                    detail = self._key.complaint(said)
                    raise http_failure(response.status, detail, response.headers.get("Retry-After"))
        except (aiohttp.ClientError, OSError) as error:
            detail = self._key.reason(f"{type(error).__name__}: {error}")
            kind = _Unreachable if isinstance(error, aiohttp.ClientConnectorError) else Failure
            raise kind("error", f"no connection: {detail}", again=True) from None
        return self._read(content, [item["id"] for item in items])

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            key = self._key.reveal()
            headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
            self._session = aiohttp.ClientSession(
                headers=headers,
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=True,
            )
        return self._session

    def _read(self, content: bytes, ids: list[str]) -> Rewards:
        body: object = None
        try:
            body = parse_body(content, finite=True)
            found = [(entry["id"], entry["reward"]) for entry in body["scores"]]  # type: ignore[index]
        except (ValueError, KeyError, TypeError) as error:
            what = f"not the reply of a reward service ({type(error).__name__})"
            raise unusable(what, content.decode(errors="replace"), body, self._key) from None
        if len(found) != len(ids) or {one for one, _ in found if isinstance(one, str)} != set(ids):
            reason = f"{len(found)} scores for {len(ids)} responses, or other ids than those asked for"
            raise Failure("error", reason, code=OK)
        by_id = dict(found)
        for one, reward in found:
            if reward is not None and _number(reward) is None:
                raise Failure("error", f"the reward of item {one} is {self._key.reason(repr(reward))}", code=OK)
        return [None if by_id[one] is None else float(by_id[one]) for one in ids]

    def _cache_key(self, item: Item) -> bytes:
        prompt, sample = item
        return cache_key(
            prompt.messages,
            [sample.text],
            template="",
            scorer=self.name,
            version=self.version,
            seed=0,
            metadata=prompt.metadata,
        )


def _stored(scored: _Scored) -> float | None:
    return scored.score.reward if scored.score.status == "ok" else None


def _number(value: object) -> float | None:
    """The value, if it is a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number that no float can hold
        return None
