"""How vLLM is started for a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayalign.config.run import RunConfig
from rayalign.learning.folders import adapted_modules

if TYPE_CHECKING:
    import torch
    from vllm import LLMEngine


def start_vllm(model: str, config: RunConfig) -> LLMEngine:
    """A generator's engine for the base model in a local folder."""
    lora = {} if config.merges else _lora_arguments(model, config)
    longer = {"max_position_embeddings": config.model.context} if config.model.context else {}
    return start_engine(
        model,
        gpu=config.cluster.generators.gpus > 0,
        dtype=config.model.dtype,
        # One more than the longest sequence: a log-prob request generates one token after it.
        max_model_len=config.max_sequence_tokens + 1,
        seed=config.run.seed,
        hf_overrides=longer,
        **lora,
    )


def start_engine(model: str, *, gpu: bool, max_model_len: int, **arguments: Any) -> LLMEngine:
    """An engine in this process, with further arguments of vLLM's `EngineArgs`."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if not gpu:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import EngineArgs, LLMEngine

    return LLMEngine.from_engine_args(
        EngineArgs(
            model=model,
            max_model_len=max_model_len,
            enforce_eager=not gpu,
            # On CPU, vLLM rewinds the random state of a request whose prompt was cut over two steps, which its CPU
            # generators cannot do: whole prompts only.
            enable_chunked_prefill=None if gpu else False,
            max_num_batched_tokens=None if gpu else max(8192, max_model_len),
            disable_log_stats=True,
            **arguments,
        )
    )


def _lora_arguments(model: str, config: RunConfig) -> dict[str, object]:
    lora = config.model.lora
    return {
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
