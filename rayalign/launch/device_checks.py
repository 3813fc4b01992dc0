"""What `doctor --gpu` tries: the parts of a round on this device, each with a run's own engine and learner.

    python -m rayalign.launch.device_checks NAME DEVICE FOLDER RESULT

Every check runs in such a process of its own, so that one that hangs, or dies with its device, hides no other. It
writes its outcome to the file RESULT. FOLDER keeps the models, which have random weights, between the checks.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import cast

from rayalign.config.run import RunConfig
from rayalign.errors import DeviceError, RayalignError
from rayalign.launch.device_bench import (
    FILE_IT,
    Bench,
    Device,
    EngineGenerator,
    WorkerLearner,
    check_gap,
    make_prompts,
    write_groups,
)
from rayalign.loop.adapter_sync import AdapterSync
from rayalign.parts import Learner
from rayalign.records import Adapter, SamplingPlan, SavedAdapter, Shard, TokenSequence
from rayalign.store.folder import Folder

Facts = dict[str, float | str]
"""Name of a figure -> its value; the names end in their unit."""


def device(bench: Bench) -> Facts:
    from rayalign.actors.device_probe import describe_device

    return describe_device(bench.device)


def sampling(bench: Bench) -> Facts:
    """Answers of the base, twice with the same seeds; the first time compiles and fills caches."""
    from rayalign.actors.device_probe import device_memory
    from rayalign.actors.engine import Engine

    prompts, responses, answer = (64, 4, 128) if bench.device == "cuda" else (4, 4, 16)
    model = bench.model("large")
    started = time.perf_counter()
    config = bench.config(model, prompt=64, answer=answer)
    engine = Engine("doctor", str(model), config, on_failure=lambda: None)
    start_s = time.perf_counter() - started
    engine.hold(0, None)
    plan = SamplingPlan(0, "train", 0, responses, 1.0, 1.0, answer)
    first = engine.sample(make_prompts(prompts, 64), plan, 0)
    started = time.perf_counter()
    second = engine.sample(make_prompts(prompts, 64), plan, 0)
    seconds = time.perf_counter() - started
    engine.close()
    for sample in second:
        if not sample.token_ids or not all(math.isfinite(logp) and logp <= 0 for logp in sample.logprobs):
            raise DeviceError(
                f"an answer of {len(sample.token_ids)} tokens has log-probabilities {sample.logprobs[:3]} ...",
                "a round trains on them",
                FILE_IT,
            )
    same = [a.token_ids == b.token_ids for a, b in zip(first, second, strict=True)]
    return {
        "start_s": start_s,
        "tokens_per_s": sum(len(sample.token_ids) for sample in second) / seconds,
        "same_answers_at_same_seeds": sum(same) / len(same),
        "taken_gib": device_memory(bench.device),
    }


def adapter_sync(bench: Bench) -> Facts:
    """The proof of `AdapterSync` between a generator's engine and a learner's worker, both on this device."""
    from rayalign.actors.device_probe import files_of
    from rayalign.actors.engine import Engine
    from rayalign.actors.learner_worker import LearnerWorker
    from rayalign.demo.random_model import random_adapter

    model = bench.model("small")
    config = bench.config(model, prompt=32, answer=16)
    engine = Engine("doctor", str(model), config, on_failure=lambda: None)
    learner = LearnerWorker(config, model, 0, 1)
    canaries = Shard(0, tuple(make_prompts(8, 32)))
    plan = SamplingPlan(0, "train", 0, 1, 1.0, 1.0, 16)
    sync = AdapterSync(
        EngineGenerator(engine), cast(Learner, WorkerLearner(learner)), canaries, plan, config.sync.tolerance
    )
    base = sync.start(SavedAdapter.base("doctor"))
    check_gap("engine and learner on the base", [[base.canary_gap]], [[0.0]])
    files = files_of(1, random_adapter(model, config.model))
    started = time.perf_counter()
    proof = sync.sync(SavedAdapter(Adapter(1, "doctor", files.sha256, "doctor", 0), files))
    seconds = time.perf_counter() - started
    engine.close()
    if not proof.moved > config.sync.tolerance:
        raise DeviceError(f"the adapter moves the canaries by {proof.moved:.4f} nats", "so the proof tells nothing")
    return {"base_gap": base.canary_gap, "gap": proof.canary_gap, "moved": proof.moved, "sync_s": seconds}


def sleep_and_wake(bench: Bench) -> Facts:
    """vLLM's sleep with an adapter loaded: what it frees, how long both ways take, and that it answers as before."""
    from rayalign.actors.device_probe import BareEngine, device_memory, files_of
    from rayalign.demo.random_model import random_adapter

    model = bench.model("large")
    config = bench.config(model, prompt=32, answer=16)
    before = device_memory(bench.device)
    # On CPU vLLM has no such mode, and its sleep does nothing.
    engine = BareEngine(model, config, **({"enable_sleep_mode": True} if bench.device == "cuda" else {}))
    engine.load(files_of(1, random_adapter(model, config.model)))
    prompts = [prompt.token_ids for prompt in make_prompts(8, 32)]
    answers = engine.answer(prompts, 16)
    sequences = [TokenSequence(p, a) for p, a in zip(prompts, answers, strict=True)]
    logps = engine.logps(sequences)
    awake = device_memory(bench.device) - before
    sleep_s = engine.sleep()
    asleep = device_memory(bench.device) - before
    wake_s = engine.wake()
    gap = check_gap("the engine before and after its sleep", engine.logps(sequences), logps)
    if bench.device == "cuda" and asleep > awake / 2:
        raise DeviceError(
            f"asleep the engine holds {asleep:.1f} GiB of the {awake:.1f} GiB that it held awake",
            "a learner on the same GPU would have no room",
            FILE_IT,
        )
    return {"awake_gib": awake, "asleep_gib": asleep, "sleep_s": sleep_s, "wake_s": wake_s, "gap_after": gap}


def tensor_parallel(bench: Bench) -> Facts:
    """One engine over two devices, against a learner on the same weights."""
    if bench.device == "cpu":
        # Else vLLM wants a NUMA node for each process.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    from rayalign.actors.device_probe import BareEngine, device_memory, files_of
    from rayalign.actors.learner_worker import LearnerWorker
    from rayalign.demo.random_model import random_adapter

    model = bench.model("small")
    config = bench.config(model, prompt=32, answer=16)
    started = time.perf_counter()
    engine = BareEngine(model, config, tensor_parallel_size=2, distributed_executor_backend="mp")
    start_s = time.perf_counter() - started
    files = files_of(1, random_adapter(model, config.model))
    engine.load(files)
    prompts = [prompt.token_ids for prompt in make_prompts(8, 32)]
    answers = engine.answer(prompts, 16)
    sequences = [TokenSequence(p, a) for p, a in zip(prompts, answers, strict=True)]
    theirs = engine.logps(sequences)
    taken = device_memory(bench.device)
    ours = LearnerWorker(config, model, 0, 1).logps(sequences, "current", files, None)
    gap = check_gap("engine over two devices and learner", theirs, ours)
    return {"start_s": start_s, "gap": gap, "taken_gib": taken}


def learner(bench: Bench) -> Facts:
    """Two updates by a run's worker under DeepSpeed; the first compiles."""
    from rayalign.actors.coordinator import UpdateWork
    from rayalign.actors.device_probe import one_rank, peak_memory, settle
    from rayalign.actors.learner_worker import LearnerWorker

    groups, prompt, answer = (32, 256, 128) if bench.device == "cuda" else (8, 16, 8)
    model = bench.model("large")
    config = bench.config(model, prompt=prompt, answer=answer)
    file = bench.folder / "groups.parquet"
    write_groups(file, groups, prompt, answer, config.sampling.responses)
    with one_rank(bench.device):
        worker = LearnerWorker(config, model, 0, 1)
        first = worker.update(UpdateWork(1, Folder(bench.folder), [file.name], None, None))
        assert first is not None
        started = time.perf_counter()
        second = worker.update(UpdateWork(2, Folder(bench.folder), [file.name], first.adapter, first.adapter))
        settle(bench.device)
        seconds = time.perf_counter() - started
        assert second is not None
        peak = peak_memory(bench.device)
    if first.adapter.sha256 == second.adapter.sha256:
        raise DeviceError("an update changed no weight of the adapter", "a round would teach nothing")
    return {
        "tokens_per_s": second.metrics["tokens"] / seconds,
        "first_update_s": first.metrics["seconds"],
        "peak_gib": peak,
        "loss": second.metrics["loss"],
    }


def colocated_round(bench: Bench) -> Facts:
    """A whole run of one round, through Ray, in which the generator and the learner take turns on this device."""
    from rayalign.launch.run import run

    data = bench.config(bench.model("large"), prompt=512, answer=32).to_dict()
    data["run"] |= {"name": "colocated", "dir": str(bench.folder), "rounds": 1}
    data["prompts"] |= {"per_round": 32, "holdout": 32}
    data["cluster"] |= {"placement": "colocated", "turns": True}
    started = time.perf_counter()
    folder = run(RunConfig.model_validate(data))
    seconds = time.perf_counter() - started
    report = json.loads((Path(folder) / "rounds/0001/report.json").read_text())
    sync, turns = report["sync"], report["turns"]
    return {
        "gap": sync["canary_gap"],
        "moved": sync["moved"],
        "turns": turns["count"],
        "all_turns_s": turns["seconds"],
        "run_s": seconds,
    }


CHECKS: dict[str, Callable[[Bench], Facts]] = {
    "device": device,
    "sampling": sampling,
    "adapter sync": adapter_sync,
    "sleep and wake": sleep_and_wake,
    "tensor parallel": tensor_parallel,
    "learner": learner,
    "colocated round": colocated_round,
}
"""In the order in which they run and are shown."""

REMEDIES = (
    (
        "out of memory|CUDA_ERROR_OUT_OF_MEMORY|less than desired GPU memory",
        "free the GPU: `nvidia-smi` lists who holds it",
    ),
    ("no kernel image", "these builds hold no code for this GPU: it is too old, or too new; another GPU"),
    ("driver.{0,40}(too old|insufficient)|insufficient for CUDA", "install a newer NVIDIA driver"),
    ("nvcc|CUDA_HOME", "install the CUDA toolkit of torch's version, and set CUDA_HOME"),
    ("[Cc]ompiler|gcc|g\\+\\+|Python\\.h", "install a C compiler and Python's headers (Debian: g++ python3-dev)"),
    ("NCCL|nccl", "run it again with NCCL_DEBUG=INFO and look into the log"),
)
"""What an error says -> what to do, the first that fits."""


def outcome_of(check: Callable[[Bench], Facts], bench: Bench) -> dict[str, object]:
    """The figures of a check, or what it failed with."""
    try:
        return {"facts": check(bench)}
    except Exception as error:
        traceback.print_exc()
        return {"error": told(error)}


def told(error: Exception) -> tuple[str, str, str]:
    """(found, why, remedy) of an error that anything may have raised."""
    if isinstance(error, RayalignError):
        return error.found, error.why, error.remedy or FILE_IT
    text = str(error).strip()
    found = ": ".join([type(error).__name__, *text.splitlines()[:1]])
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "rayalign" in frame.filename]
    why = f"raised below {ours[-1].name} of {Path(ours[-1].filename).name}" if ours else ""
    return found, why, next((remedy for words, remedy in REMEDIES if re.search(words, text)), FILE_IT)


def main() -> None:
    name, device, folder, result = sys.argv[1:]
    outcome = outcome_of(CHECKS[name], Bench(cast(Device, device), Path(folder)))
    Path(result).write_text(json.dumps(outcome))
    sys.stdout.flush()
    sys.stderr.flush()
    # Libraries that wait for their threads at the end have nothing left to do here.
    os._exit(0)


if __name__ == "__main__":
    main()
