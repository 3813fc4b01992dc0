"""Operations of one update counted by hand, and what is measured of a processor, a process and a step.

Counted are the frozen linear layers, attention and the output head. A backward pass is as much again for weights that
get no gradient of their own, and twice as much for attention. LoRA's thin products are counted apart: they are no part
of what is called useful. Norms, rotary embeddings and other elementwise work are not counted.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.learner_parts.cases import CASES, RANK, SHAPES

if TYPE_CHECKING:
    from rayalign.records import TrainingGroup

PEAK_TRIES, PEAK_S = 12, 10.0
"""Matrix products that are timed, and seconds after which no other one is begun."""


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of an update, an addition and a multiplication being two."""

    linear: float
    attention: float
    head: float
    lora: float

    @property
    def useful(self) -> float:
        return self.linear + self.attention + self.head


def ours_flops(case: str, device: str, groups: Iterable[TrainingGroup]) -> Flops:
    """Of our update: a prompt once, pairs that see each other, the head on response tokens, no reference pass."""
    tokens = pairs = predicting = 0
    for group in groups:
        prompt, lengths = len(group.prompt_token_ids), [len(r) for r in group.response_token_ids]
        tokens += prompt + sum(n - 1 for n in lengths)
        pairs += prompt * (prompt + 1) // 2 + sum((n - 1) * prompt + (n - 1) * n // 2 for n in lengths)
        predicting += sum(lengths)
    return _update(case, device, tokens, pairs, predicting, references=0)


def release_flops(case: str, device: str, groups: Iterable[TrainingGroup]) -> Flops:
    """Of an update as the release does it: K copies of the prompt at the padded width, the head at every position,
    a reference forward. Its attention has a mask for the padding, and so goes over all pairs of positions."""
    tokens = pairs = 0
    for group in groups:
        width = len(group.prompt_token_ids) + max(len(r) for r in group.response_token_ids)
        rows = len(group.response_token_ids)
        tokens += rows * width
        pairs += rows * width**2
    return _update(case, device, tokens, pairs, tokens, references=1)


def _update(case: str, device: str, tokens: int, pairs: int, predicting: int, *, references: int) -> Flops:
    """Forward and backward, and so many reference forwards (without LoRA)."""
    shape = SHAPES[device]
    hidden, wide, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    weights = layers * (4 * hidden**2 + 3 * hidden * wide)
    adapter = layers * RANK * (4 * 2 * hidden + 3 * (hidden + wide))
    linear, attention, head = 2 * weights * tokens, 4 * pairs * hidden * layers, 2 * predicting * CASES[case]["vocab"]
    return Flops(
        linear * (2 + references), attention * (3 + references), head * hidden * (2 + references), 6 * adapter * tokens
    )


def matmul_peak(device: str, dtype: str) -> float:
    """Best measured FLOP/s of a square matrix product in the benchmark's type."""
    import torch

    size = 8192 if device == "cuda" else 256 if in_software(device, dtype) else 1536
    a = torch.randn(size, size, device=device, dtype=getattr(torch, dtype))
    best, begun = 0.0, time.perf_counter()
    for _ in range(PEAK_TRIES):
        start = time.perf_counter()
        for _ in range(4):
            torch.mm(a, a)
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 4 * 2 * size**3 / (time.perf_counter() - start))
        if time.perf_counter() - begun > PEAK_S:
            break
    return best


def peak_memory(device: str) -> int:
    """Most bytes that this process had: of the GPU there, else of main memory."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_software(device: str, dtype: str) -> bool:
    """Whether this processor has no instructions for products of numbers of this type."""
    import torch

    found = torch.cpu.get_capabilities()
    known = any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return device == "cpu" and dtype == "bfloat16" and not known


def step_shares(step: Callable[[], object]) -> dict[str, float]:
    """Shares of the time of a step on CPU: matrix products, attention, and all else. Its profiler is not free: only
    the shares count, not the seconds."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    found = {"matmul": 0.0, "attention": 0.0, "rest": 0.0}
    for one in seen.key_averages():
        product = one.key in ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm")
        kind = "matmul" if product else "attention" if "scaled_dot_product" in one.key else "rest"
        found[kind] += one.self_cpu_time_total
    return {kind: us / sum(found.values()) for kind, us in found.items()}
