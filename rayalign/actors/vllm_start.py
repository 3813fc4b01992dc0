"""How vLLM is started for a run."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rayalign.actors.thread_trial import threads_for
from rayalign.actors.threads import generator_tries
from rayalign.actors.vllm_devices import device_arguments, end_together
from rayalign.config.cluster import EngineSection
from rayalign.config.run import RunConfig
from rayalign.errors import ModelError
from rayalign.learning.engine_cache import ENGINE_SEQUENCES, CacheNeed, need_of_model
from rayalign.learning.targets import adapted_modules, empty_adapter

if TYPE_CHECKING:
    import torch
    from vllm import LLMEngine

TRIED_REQUESTS, TRIED_TOKENS = 64, 4
"""Of a trial of threads: requests, and tokens of the prompt and the answer of each. Fewer requests at once wait for
memory, whatever the threads."""
DECODING = "decoding of 64"
"""The kind of work that is tried."""
TRIED_ID = 2**31 - 1
"""vLLM's number of the adapter that is tried; those that are served count from 1."""


def start_vllm(model: str, config: RunConfig, engines: int = 1, **others: Any) -> LLMEngine:
    """A generator's engine for the base model in a local folder, with other arguments of vLLM's `EngineArgs`.

    Args:
        engines: processes of generators' engines on this machine, which share its memory.
    """
    lora = {} if config.merges else _lora_arguments(model, config)
    longer = {"max_position_embeddings": config.model.context} if config.model.context else {}
    # On CPU vLLM has no such mode, and its sleep does nothing.
    sleeps = {"enable_sleep_mode": True} if config.cluster.shares_gpus else {}
    devices = config.cluster.engine
    engine = start_engine(
        model,
        devices,
        None if devices.gpus else need_of_model(config, Path(model)),
        engines,
        dtype=config.model.dtype,
        # One more than the longest sequence: a log-prob request generates one token after it.
        max_model_len=config.max_sequence_tokens + 1,
        seed=config.run.seed,
        hf_overrides=longer,
        **sleeps,
        **lora,
        **others,
    )
    if lora:
        _try_adapter(engine, Path(model), config)
    return engine


def decode_with_best_threads(
    engine: LLMEngine, model: Path, config: RunConfig, set_threads: Callable[[int], None]
) -> None:
    """Let the calling thread, which runs the engine, do so with as many of its threads as are best.

    Args:
        set_threads: torch's own; vLLM puts a function that does nothing in its place.
    """
    import torch

    if generator_tries(config):
        trial = _trial(engine, set_threads)
        set_threads(threads_for(DECODING, model, config.model.dtype, torch.get_num_threads(), trial))


def _trial(engine: LLMEngine, set_threads: Callable[[int], None]) -> Callable[[int], float]:
    """Seconds that a few requests take with so many threads."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=TRIED_TOKENS, ignore_eos=True)

    def seconds(threads: int) -> float:
        set_threads(threads)
        started = time.perf_counter()
        for place in range(TRIED_REQUESTS):
            engine.add_request(f"try-{place}", {"prompt_token_ids": [1] * TRIED_TOKENS}, params.clone())
        while engine.has_unfinished_requests():
            engine.step()
        return time.perf_counter() - started

    return seconds


def _try_adapter(engine: LLMEngine, model: Path, config: RunConfig) -> None:
    """Load and drop an adapter that changes nothing: what vLLM does not take is seen before anything is sampled."""
    from vllm.lora.request import LoRARequest

    with tempfile.TemporaryDirectory(prefix="rayalign-try-") as folder:
        for name, content in empty_adapter(model, config.model.lora).items():
            (Path(folder) / name).write_bytes(content)
        try:
            if not engine.add_lora(LoRARequest("try", TRIED_ID, folder)):
                raise ValueError("it was not loaded")
        except Exception as error:
            raise ModelError(
                f"model.lora.targets: {config.model.lora.targets}",
                f"vLLM does not take such an adapter of {model}: {_said(error)}",
                "choose other modules, or set sync.mode: merged",
            ) from error
        engine.remove_lora(TRIED_ID)


def start_engine(
    model: str,
    devices: EngineSection,
    need: CacheNeed | None = None,
    engines: int = 1,
    *,
    max_model_len: int,
    **arguments: Any,
) -> LLMEngine:
    """An engine in this process, with further arguments of vLLM's `EngineArgs`.

    Args:
        need, engines: as of `device_arguments`.

    Raises:
        PlacementError: the vLLM that is installed here is for other devices, or these have too little memory.
        ModelError: vLLM does not serve this model, or not with these arguments.
    """
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    on_devices = device_arguments(devices, need, engines)
    from vllm import EngineArgs, LLMEngine

    gpu = devices.gpus > 0
    settings = {
        "model": model,
        "max_model_len": max_model_len,
        "enforce_eager": not gpu,
        # On CPU, vLLM rewinds the random state of a request whose prompt was cut over two steps, which its CPU
        # generators cannot do: whole prompts only.
        "enable_chunked_prefill": None if gpu else False,
        "max_num_seqs": None if gpu else ENGINE_SEQUENCES,
        "max_num_batched_tokens": None if gpu else max(8192, max_model_len),
        "disable_log_stats": True,
        **on_devices,
        **arguments,
    }
    try:
        engine = LLMEngine.from_engine_args(EngineArgs(**settings))
        if devices.tensor_parallel > 1:
            end_together(engine)
        return engine
    except Exception as error:
        # Where memory, a device or one of its processes fails (which vLLM tells by a bare exception), the same start
        # may succeed elsewhere or later.
        passing = isinstance(error, RuntimeError | MemoryError) and not isinstance(error, NotImplementedError)
        if passing or type(error) is Exception:
            raise
        raise ModelError(
            f"vLLM cannot serve {model}", _said(error), "name a model of an architecture that vLLM serves"
        ) from error


def _said(error: Exception) -> str:
    """What an error says, in one line; pydantic's first lines name the class that was checked."""
    text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    return ": ".join([type(error).__name__, *text.strip().splitlines()[:1]])


def _lora_arguments(model: str, config: RunConfig) -> dict[str, object]:
    lora = config.model.lora
    on_cpu = {"worker_extension_cls": "rayalign.actors.lora_on_cpu.LoraWorker"}
    return {
        **({} if config.cluster.engine.gpus else on_cpu),
        "enable_lora": True,
        "max_lora_rank": max(lora.r, 8),
        "max_loras": 1,
        # Without it vLLM also wraps the output head, which slows decoding and breaks prompt log-probs on CPU.
        "lora_target_modules": adapted_modules(Path(model), lora),
    }


def pack_head(model: torch.nn.Module) -> None:
    """Bring tied output heads up to date after a reload: on CPU, a head that shares an embedding's weights computes
    with a packed copy of them, which vLLM makes at its start only."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

    embeddings = [m for m in model.modules() if isinstance(m, VocabParallelEmbedding)]
    for head in embeddings:
        shared = any(other is not head and other.weight is head.weight for other in embeddings)
        if isinstance(head, ParallelLMHead) and shared:
            head.quant_method.process_weights_after_loading(head)
