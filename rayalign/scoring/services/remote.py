"""An HTTP service of the user's own that gives rewards; docs/judges.md describes the wire format."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from rayalign.errors import ConfigError
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.services.cache import ScoreCache, cache_key
from rayalign.scoring.services.calls import Caller, Failure, LoopThread, http_failure
from rayalign.scoring.services.transport import CHECK_TIMEOUT_S, Key

Rewards = list[float | None]


class RemoteScorer:
    """Sends batches of prompts and responses, gets rewards.

    A batch whose reply is not exactly what was asked for is `error` as a whole: rewards are never matched to
    responses by guessing.

    Args:
        version: the user's own, of what the service computes.
        batch: responses per request.
        cache: gets the rewards of every batch as they come.
        deadline_s: of a `score` call that sets no limit itself.
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
        self._url, self._key, self._caller, self._batch = url, key, caller, batch
        self._cache, self._deadline_s = cache, deadline_s
        self._thread = LoopThread(name)
        self._session: aiohttp.ClientSession | None = None

    def check(self) -> None:
        """See that the service answers an empty batch; to be called before anything is sampled.

        Raises:
            ConfigError: it does not.
        """
        try:
            self._thread.run(asyncio.wait_for(self._post([]), CHECK_TIMEOUT_S))
        except (Failure, TimeoutError) as error:
            reason = str(error) or f"no reply within {CHECK_TIMEOUT_S:g} s"
            raise ConfigError(
                f"url: {self._url}",
                f"the reward service cannot be used: {reason}",
                "start it, or mend url and api_key_env; nothing has been sampled",
            ) from None

    def close(self) -> None:
        if self._session is not None:
            self._thread.run(self._session.close())
        self._thread.close()
        if self._cache is not None:
            self._cache.close()

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample], within_s: float | None = None) -> list[Score]:
        """One score per sample; a reward of null is `abstain`.

        Args:
            within_s: time limit; what is not answered by then is `timeout`.
        """
        items = list(zip(prompts, samples, strict=True))
        keys = [self._cache_key(prompt, sample) for prompt, sample in items]
        known = self._cache.get(keys) if self._cache is not None else [None] * len(items)
        scores = {i: self._found(reward) for i, reward in enumerate(known) if reward is not None and _number(reward)}
        missing = [i for i in range(len(items)) if i not in scores]
        batches = [missing[start : start + self._batch] for start in range(0, len(missing), self._batch)]
        limit_s = self._deadline_s if within_s is None else within_s
        replies = self._thread.run(self._score_all([[items[i] for i in batch] for batch in batches], limit_s))
        for batch, reply in zip(batches, replies, strict=True):
            scores |= dict(zip(batch, reply, strict=True))
        return [scores[i] for i in range(len(items))]

    async def _score_all(self, batches: Sequence[list[tuple[Prompt, Sample]]], limit_s: float) -> list[list[Score]]:
        deadline = asyncio.get_running_loop().time() + limit_s
        return await asyncio.gather(*(self._score_and_keep(batch, deadline) for batch in batches))

    async def _score_and_keep(self, batch: list[tuple[Prompt, Sample]], deadline: float) -> list[Score]:
        scores = await self._score_batch(batch, deadline)
        rewards = {
            self._cache_key(*item): one.reward for item, one in zip(batch, scores, strict=True) if one.status == "ok"
        }
        if self._cache is not None and rewards:
            # In another thread: a cache that another process is writing to must not hold up the replies.
            await asyncio.to_thread(self._cache.put, rewards)
        return scores

    async def _score_batch(self, batch: list[tuple[Prompt, Sample]], deadline: float) -> list[Score]:
        started = time.perf_counter()
        try:
            rewards = await self._caller.run(lambda: self._post(batch), deadline)
        except Failure as failure:
            took = time.perf_counter() - started
            failed = Score(self.name, self.version, failure.status, reason=failure.reason, latency_s=took)
            return [failed] * len(batch)
        took = time.perf_counter() - started
        return [self._scored(reward, took) for reward in rewards]

    def _found(self, reward: float) -> Score:
        return Score(self.name, self.version, "ok", reward, aspects={"cached": 1.0})

    def _scored(self, reward: float | None, took: float) -> Score:
        if reward is None:
            return Score(self.name, self.version, "abstain", reason="the service gave null", latency_s=took)
        return Score(self.name, self.version, "ok", reward, latency_s=took)

    async def _post(self, batch: Sequence[tuple[Prompt, Sample]]) -> Rewards:
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
                if response.status != 200:
                    detail = self._key.reason(content.decode(errors="replace"))
                    raise http_failure(response.status, detail, response.headers.get("Retry-After"))
        except (aiohttp.ClientError, OSError) as error:
            detail = self._key.reason(f"{type(error).__name__}: {error}")
            raise Failure("error", f"no connection: {detail}", again=True) from None
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
        def no_constant(name: str) -> float:
            raise ValueError(f"{name} is no JSON number")

        try:
            scores = json.loads(content, parse_constant=no_constant)["scores"]
            found = [(entry["id"], entry["reward"]) for entry in scores]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            detail = self._key.reason(content.decode(errors="replace"))
            raise Failure("error", f"not the reply of a reward service ({type(error).__name__}): {detail}") from None
        if len(found) != len(ids) or {one for one, _ in found if isinstance(one, str)} != set(ids):
            raise Failure("error", f"{len(found)} scores for {len(ids)} responses, or other ids than those asked for")
        by_id = dict(found)
        for one, reward in found:
            if reward is not None and not _number(reward):
                raise Failure("error", f"the reward of item {one} is {self._key.reason(repr(reward))}")
        return [None if by_id[one] is None else float(by_id[one]) for one in ids]

    def _cache_key(self, prompt: Prompt, sample: Sample) -> bytes:
        own: dict[str, Any] = {"template": "", "scorer": self.name, "version": self.version, "seed": 0}
        return cache_key(prompt.messages, [sample.text], metadata=prompt.metadata, **own)


def _number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
