"""What `doctor --gpu` asks of torch and vLLM directly: about a device, for a rank alone, for a bare engine."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rayalign.actors.vllm_outputs import finished_requests, logps_of
from rayalign.actors.vllm_start import start_vllm
from rayalign.config.run import RunConfig
from rayalign.records import AdapterFiles, TokenSequence, weights_file

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

GIB = 2**30


def describe_device(device: str) -> dict[str, Any]:
    """Its name, memory and capability, and what a matrix product reaches."""
    if device == "cpu":
        threads = torch.get_num_threads()
        return {"device": f"CPU, {threads} threads", "matmul_tflops": matmul_rate(device, 1024, torch.float32)}
    free, total = torch.cuda.mem_get_info()
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "gpus": torch.cuda.device_count(),
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": total / GIB,
        "free_gib": free / GIB,
        "matmul_tflops": matmul_rate(device, 8192, torch.bfloat16),
        "to_device_gib_s": _copy_rate(),
    }


def matmul_rate(device: str, size: int, dtype: torch.dtype) -> float:
    """The best of some runs, in 1e12 operations a second."""
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    best = 0.0
    for _ in range(5):
        settle(device)
        started = time.perf_counter()
        for _ in range(4):
            torch.mm(matrix, matrix)
        settle(device)
        best = max(best, 4 * 2 * size**3 / (time.perf_counter() - started))
    return best / 1e12


def bfloat16_gain() -> float:
    """How many times float32's rate this machine's CPU multiplies bfloat16, of a small model's sizes."""
    rates = [matmul_rate("cpu", 768, dtype) for dtype in (torch.bfloat16, torch.float32)]
    return rates[0] / rates[1]


def lacks_bfloat16() -> str | None:
    """The name of this machine's GPU where it has no instructions for bfloat16; None where it has, or is none."""
    if not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    return torch.cuda.get_device_properties(0).name


def _copy_rate() -> float:
    """From pinned host memory, GiB/s: what waking a model that sleeps in host memory costs."""
    there = torch.empty(GIB // 4, dtype=torch.uint8, pin_memory=True)
    there.to("cuda")
    settle("cuda")
    started = time.perf_counter()
    there.to("cuda", non_blocking=True)
    settle("cuda")
    return 0.25 / (time.perf_counter() - started)


def settle(device: str) -> None:
    """Wait for what the device was given to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def device_memory(device: str) -> float:
    """GiB that are taken of the device by all processes; 0 on CPU."""
    if device == "cpu":
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / GIB


def peak_memory(device: str) -> float:
    """GiB that torch's tensors in this process took of the device at most; 0 on CPU."""
    return torch.cuda.max_memory_allocated() / GIB if device == "cuda" else 0.0


@contextmanager
def one_rank(device: str) -> Iterator[None]:
    """This process as the only one of its group, as a learner of one worker is."""
    import torch.distributed as dist

    if device == "cuda":
        torch.cuda.set_device(0)
    else:
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    with tempfile.TemporaryDirectory(prefix="rayalign-rank-") as folder:
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            yield
        finally:
            dist.destroy_process_group()


def files_of(version: int, files: dict[str, bytes]) -> AdapterFiles:
    return AdapterFiles(version, hashlib.sha256(files[weights_file(files)]).hexdigest(), files)


class BareEngine:
    """vLLM as a generator starts it, with what a generator has no setting for yet: sleep, several processes.

    Args:
        others: arguments of vLLM's `EngineArgs`.
    """

    def __init__(self, model: Path, config: RunConfig, **others: Any) -> None:
        self._engine = start_vllm(str(model), config, **others)
        self._folder = tempfile.TemporaryDirectory(prefix="rayalign-adapter-")
        self._lora: Any = None
        self._asked = 0

    def load(self, files: AdapterFiles) -> None:
        """Serve the adapter from now on."""
        from vllm.lora.request import LoRARequest

        for name, content in files.files.items():
            (Path(self._folder.name) / name).write_bytes(content)
        self._lora = LoRARequest(f"v{files.version}", files.version, self._folder.name)
        assert self._engine.add_lora(self._lora)

    def answer(self, prompts: Sequence[list[int]], tokens: int) -> list[list[int]]:
        """The likeliest answer to each prompt, of so many tokens."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
        return [list(output.outputs[0].token_ids) for output in self._run(prompts, params)]

    def logps(self, sequences: Sequence[TokenSequence]) -> list[list[float]]:
        """Raw log-probability of every response token (nats)."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        outputs = self._run([s.prompt_token_ids + s.response_token_ids for s in sequences], params)
        found = []
        for sequence, output in zip(sequences, outputs, strict=True):
            assert output.prompt_logprobs is not None
            found.append(
                logps_of(sequence.response_token_ids, output.prompt_logprobs[len(sequence.prompt_token_ids) :])
            )
        return found

    def sleep(self) -> float:
        """Give the device's memory back, the weights to host memory; seconds."""
        started = time.perf_counter()
        # What the cache holds does not outlast it.
        self._engine.reset_prefix_cache()
        self._engine.sleep(level=1)
        return time.perf_counter() - started

    def wake(self) -> float:
        """Take it again; seconds."""
        started = time.perf_counter()
        self._engine.wake_up()
        return time.perf_counter() - started

    def _run(self, prompts: Sequence[list[int]], params: SamplingParams) -> list[RequestOutput]:
        names = [f"{self._asked}-{i}" for i in range(len(prompts))]
        self._asked += 1
        for name, token_ids in zip(names, prompts, strict=True):
            self._engine.add_request(name, {"prompt_token_ids": token_ids}, params.clone(), lora_request=self._lora)
        outputs: dict[str, RequestOutput] = {}
        while len(outputs) < len(names):
            outputs |= {output.request_id: output for output in finished_requests(self._engine)}
        return [outputs[name] for name in names]
