"""How fast this machine is with one model: a run's own engine and learner on random weights of the model's sizes.

Each is measured in a process of its own, with the threads that it has in a run; nothing but config.json is read.

    python -m rayalign.actors.calibration   (stdin: the task as JSON; the last line of stdout: the result)
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rayalign.actors.devices import gpus_here
from rayalign.config.run import RunConfig
from rayalign.errors import ConfigError, ModelError, RayalignError
from rayalign.records import EngineMeasured, JsonObject, LearnerMeasured
from rayalign.stopping import call

if TYPE_CHECKING:
    from rayalign.learning.packing import Batch, Row

MOST_REQUESTS = 256
"""Answers of the measured batch: twice as many as run at a time, so that its end counts as it does in a run."""
REPEATS, ENOUGH_S = 9, 10.0
"""What is measured is repeated so often, or for so long, and its median counts."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure: a micro-batch is so many groups, a group a prompt of so many tokens with K answers."""

    what: Literal["engine", "learner"]
    config: JsonObject
    folder: str
    prompt: int
    answer: int
    groups: int
    largest: tuple[int, int, int]
    """(prompt, answer, groups) of the largest micro-batch, for the peak of memory."""
    flops: tuple[float, float]
    """Of training one group, and of its forward pass alone."""


def check(config: RunConfig) -> None:
    """Refuse what cannot be measured here, or not with random weights.

    Raises:
        ConfigError: weights of another kind are needed, or GPUs where there are none.
    """
    key = "model.full" if config.model.full else "model.quantization" if config.model.quantization != "none" else None
    if key is not None:
        raise ConfigError(
            f"--calibrate with {key}",
            "it measures with random weights, and these are made of the model's own",
            "plan without --calibrate, or measure the same model with a LoRA adapter on weights as they are",
        )
    if config.wanted_gpus() and not gpus_here():
        raise ConfigError(
            "--calibrate with a config that asks for GPUs",
            "rates are measured on this machine, which has none that torch sees",
            "plan without --calibrate, or call it on a machine with such a GPU",
        )


def measure(engine: Task, learner: Task) -> tuple[EngineMeasured, LearnerMeasured]:
    """Measure both, one after the other.

    Raises:
        ModelError: the model does not run here.
    """
    return EngineMeasured(**_in_process(engine)), LearnerMeasured(**_in_process(learner))


def _in_process(task: Task) -> dict[str, float]:
    from rayalign.actors.process import runtime_env

    pools = RunConfig.model_validate(task.config).cluster
    gpus = pools.generators.gpus if task.what == "engine" else pools.learner.gpus
    env = os.environ | runtime_env(1, gpu=gpus > 0)["env_vars"] | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "rayalign.actors.calibration"]
    given = json.dumps(dataclasses.asdict(task))
    done = call(lambda: subprocess.run(command, input=given, capture_output=True, text=True, env=env, check=False))
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise ModelError(
            f"--calibrate: the {task.what} does not run here",
            said,
            "plan without --calibrate, or free memory and cores",
        )
    result = json.loads(done.stdout.splitlines()[-1])
    if "error" in result:
        raise ModelError(*result["error"])
    return result


def main() -> None:
    """A process that measures one thing."""
    given = json.load(sys.stdin)
    task = Task(**{**given, "largest": tuple(given["largest"]), "flops": tuple(given["flops"])})
    config = RunConfig.model_validate(task.config)
    try:
        result = dataclasses.asdict(_engine(task, config) if task.what == "engine" else _learner(task, config))
    except RayalignError as error:
        result = {"error": [error.found, error.why, error.remedy]}
    print(f"\n{json.dumps(result)}", flush=True)
    # Libraries that wait for their threads at the end have nothing left to do here.
    os._exit(0)


def _engine(task: Task, config: RunConfig) -> EngineMeasured:
    import torch
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    from rayalign.actors import engine as _engine_module, generator as _generator_module  # noqa: F401  as in a run
    from rayalign.actors.vllm_start import decode_with_best_threads, start_vllm

    folder, sampling = Path(task.folder), config.sampling
    no_tokenizer = not any(folder.glob("tokenizer*"))
    set_threads = torch.set_num_threads
    engine = start_vllm(task.folder, config, load_format="dummy", skip_tokenizer_init=no_tokenizer)
    decode_with_best_threads(engine, folder, config, set_threads)
    lora = None
    if not config.merges:
        from vllm.lora.request import LoRARequest

        from rayalign.learning.targets import empty_adapter

        place = Path(tempfile.mkdtemp(prefix="rayalign-adapter-"))
        for name, content in empty_adapter(folder, config.model.lora).items():
            (place / name).write_bytes(content)
        lora = LoRARequest("measured", 1, str(place))
        engine.add_lora(lora)
    words, rng = engine.model_config.get_vocab_size(), random.Random(0)

    names = itertools.count()

    def answer(prompts: int, answers: int, tokens: int, top_p: float) -> None:
        for _ in range(prompts):
            ids = [rng.randrange(words) for _ in range(task.prompt)]
            for _ in range(answers):
                params = SamplingParams(
                    temperature=sampling.temperature, top_p=top_p, max_tokens=tokens, min_tokens=tokens,
                    ignore_eos=True, seed=rng.randrange(2**31), logprobs=0, output_kind=RequestOutputKind.FINAL_ONLY,
                )  # fmt: skip
                engine.add_request(str(next(names)), {"prompt_token_ids": ids}, params, lora_request=lora)
        while engine.has_unfinished_requests():
            engine.step()

    def per_answer(prompts: int, answers: int, top_p: float) -> float:
        """Seconds, with so many prompts for all replicas."""
        some = max(1, min(MOST_REQUESTS // answers, prompts // config.cluster.generators.min))
        return _seconds(lambda: answer(some, answers, task.answer, top_p)) / (some * answers)

    # The first batch compiles and fills caches.
    answer(8, sampling.responses, min(8, task.answer), sampling.top_p)
    train = per_answer(config.prompts.per_round, sampling.responses, sampling.top_p)
    held_out = per_answer(config.prompts.holdout, config.evaluation.responses, 1.0) if sampling.top_p < 1 else train
    return EngineMeasured(train, held_out, _peak(config.cluster.generators.gpus > 0))


def _learner(task: Task, config: RunConfig) -> LearnerMeasured:
    import ray.train.torch  # noqa: F401  a run's process holds it too
    import torch
    import torch.distributed as dist
    from transformers import AutoModelForCausalLM

    from rayalign.actors.zero import ZeroPolicy
    from rayalign.learning.attention import register
    from rayalign.learning.folders import load_config
    from rayalign.learning.model import policy_on

    gpu = config.cluster.learner.gpus > 0
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    meeting = Path(tempfile.mkdtemp(prefix="rayalign-")) / "meeting"
    dist.init_process_group("nccl" if gpu else "gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    register()
    with torch.device("cuda" if gpu else "cpu"):
        dtype = getattr(torch, config.model.dtype)
        base = AutoModelForCausalLM.from_config(load_config(Path(task.folder)), dtype=dtype)
    checkpointing = config.training.gradient_checkpointing
    policy = policy_on(base, Path(task.folder), config.model, checkpointing=checkpointing)
    # On one rank there is nothing to share out.
    training = config.training
    alone = {"zero_stage": min(2, training.zero_stage), "offload": [x for x in training.offload if x == "optimizer"]}
    zero = ZeroPolicy(policy, training.model_copy(update=alone))

    def batch(prompt: int, answer: int, groups: int) -> Batch:
        rows = _rows(base.config.vocab_size, prompt, answer, groups, config.sampling.responses)
        return policy.collate(rows).to(base.device)

    with zero.updating() as (engine, _):

        def train(of: Batch) -> None:
            engine.backward(engine(of).sum() * 0.0, scale_wrt_gas=False)

        one, many = batch(task.prompt, task.answer, 1), batch(task.prompt, task.answer, task.groups)
        train(one)
        single, several = _seconds(lambda: train(one)), _seconds(lambda: train(many))
        step = _seconds(lambda: (train(one), engine.step())) - single
        with torch.no_grad():
            forward = _seconds(lambda: policy(many))
        train(batch(*task.largest))
    trained, passed = task.flops
    # t = a + b flops, from two sizes; of a single one, all is taken for the products.
    slope = (several - single) / (task.groups - 1) if task.groups > 1 else single
    beside = max(0.0, single - slope)
    slope = max(slope, several / task.groups / 2)
    return LearnerMeasured(beside, trained / slope, passed * task.groups / forward, max(0.0, step), _peak(gpu))


def _rows(words: int, prompt: int, answer: int, groups: int, answers: int) -> list[Row]:
    rng = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(words) for _ in range(count)]

    prompts = [tokens(prompt) for _ in range(groups)]
    return [(ids, tokens(answer)) for ids in prompts for _ in range(answers)]


def _seconds(action: Callable[[], object]) -> float:
    """The median of a few calls."""
    import torch

    started, times = time.perf_counter(), []
    while not times or (len(times) < REPEATS and time.perf_counter() - started < ENOUGH_S):
        before = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def _peak(gpu: bool) -> float:
    """Bytes of this process at its peak: of its device, or resident in main memory."""
    if gpu:
        import torch

        free, total = torch.cuda.mem_get_info()
        return max(torch.cuda.max_memory_allocated(), total - free)
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
