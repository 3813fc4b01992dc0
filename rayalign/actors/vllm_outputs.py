"""What vLLM's engines are asked, and what they give as the project's records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from rayalign.errors import ActorFailedError
from rayalign.records import Prompt, Sample, SamplingPlan

if TYPE_CHECKING:
    from vllm import LLMEngine, RequestOutput
    from vllm.logprobs import Logprob


def sample_seed(plan: SamplingPlan, prompt_id: str, index: int) -> int:
    """Seed of one sample, so that a retried shard gives the same samples (31 bits)."""
    key = f"{plan.seed}:{plan.round_index}:{plan.purpose}:{prompt_id}:{index}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) >> 1


def finished_requests(engine: LLMEngine) -> list[RequestOutput]:
    """Run one step; the outputs of the requests that it finished, which all generate text."""
    return [cast("RequestOutput", output) for output in engine.step() if output.finished]


def logps_of(token_ids: Sequence[int], entries: Iterable[Mapping[int, Logprob] | None]) -> list[float]:
    """The log-probability of each token (nats), from what vLLM says of its place."""
    found = []
    for token, entry in zip(token_ids, entries, strict=True):
        assert entry is not None
        found.append(float(entry[token].logprob))
    return found


def to_sample(
    output: RequestOutput,
    prompt: Prompt,
    index: int,
    version: int,
    seed: int,
    spoken: Callable[[str, Sequence[int]], str],
) -> Sample:
    """The response that a request gave.

    Args:
        spoken: takes from the text of tokens what the chat template writes before every answer.

    Raises:
        ActorFailedError: vLLM ended it neither at its end nor at its limit.
    """
    completion = output.outputs[0]
    token_ids = list(completion.token_ids)
    assert completion.logprobs is not None
    logprobs = logps_of(token_ids, completion.logprobs)
    reason = completion.finish_reason
    if reason not in ("stop", "length"):
        raise ActorFailedError(f"vLLM ended a response to prompt {prompt.id} with {reason!r}")
    return Sample(prompt.id, index, spoken(completion.text, token_ids), token_ids, logprobs, reason, version, seed)
