"""What one round costs beside what its parts cost alone: bare vLLM, bare scoring, a bare update.

    .venv/bin/python benchmarks/round.py [--model demo|smollm2] [--prompts 64 --answers 6 --tokens 64] [--dtype float32]

A run of two rounds (`--rounds`) is made by `rayalign run`; the stages of the last one are read from the event log, and
its time from the end of the round before to its own, without the evaluation, which is of 8 prompts. Then, each in a
process of its own with as many threads as the run took: `LLM.generate` on the very prompts of the round, the rule on
the very answers, and one update of the learner on the very groups, its second one where the run's was not its first.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from rayalign.actors.vllm_devices import device_arguments  # noqa: E402
from rayalign.config.run import RunConfig  # noqa: E402
from rayalign.launch.models import find_base  # noqa: E402
from rayalign.learning.engine_cache import ENGINE_SEQUENCES, need_of_model  # noqa: E402
from rayalign.store.folder import Folder  # noqa: E402
from rayalign.store.round_dir import RoundDir  # noqa: E402
from rayalign.store.run_dir import RunDir  # noqa: E402

LOOP_SHARE, ROUND_RATIO, START_S, FIXED_S = 0.95, 1.08, 18.0, 2.0
"""What is asked: of bare vLLM's rate; of the sum of the parts; of the start of the actors; of a small round."""
SMALL = 8
EVALUATION = ("evaluate_s", "measure_KL_s", "score_canaries_s", "score_anchors_s")
PARTS = ("generate", "score", "update")
SOURCES = {"demo": "demo", "smollm2": "english.jsonl"}
RULES = {"demo": "demo", "smollm2": "rules/short_and_whole.py:score"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SOURCES, default="demo")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--answers", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", default="auto", help="of generator and learner: auto, or a number")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="further settings of the run")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        print(json.dumps(globals()[asked.part](asked.folder)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "round"
        whole_s = run(folder, asked)
        events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        [replica] = [
            one for one in json.loads((folder / "run.json").read_text())["attempts"][-1]["actors"] if "batch" in one
        ]
        print(json.dumps(stages(events, asked.rounds)), flush=True)
        threads = chosen(folder, replica["most_threads"])
        bare = child("generate", folder, threads)
        result = {
            "model": asked.model,
            "dtype": asked.dtype,
            **stages(events, asked.rounds),
            "whole_s": round(whole_s, 1),
            "bare_generate_s": round(bare["seconds"], 2),
            "bare_tokens": bare["tokens"],
            "threads": threads,
            "bare_score_s": round(child("score", folder, threads)["seconds"], 2),
            "bare_update_s": round(child("update", folder, threads)["seconds"], 2),
        }
    sampled = result["sample_tokens"] / result["sample_s"]
    result["bare_rate"] = round(bare["tokens"] / bare["seconds"], 1)
    result["loop_rate"] = round(sampled, 1)
    result["loop_share"] = round(sampled / result["bare_rate"], 3)
    parts = result["bare_generate_s"] + result["bare_score_s"] + result["bare_update_s"]
    result["round_ratio"] = round(result["round_s"] / parts, 3)
    small = result["round_s"] if asked.prompts <= SMALL else 0.0
    result["missed"] = [name for name, missed in {
        "loop_share": result["loop_share"] < LOOP_SHARE,
        "round_ratio": result["round_ratio"] > ROUND_RATIO,
        "start_actors_s": result["start_actors_s"] > START_S,
        "round_s": small > FIXED_S,
    }.items() if missed]  # fmt: skip
    for name, value in result.items():
        print(f"{name:20} {value}")
    print(json.dumps(result))


def run(folder: Path, asked: argparse.Namespace) -> float:
    """Seconds of a run of the rounds."""
    config = {
        "run": {"name": folder.name, "dir": str(folder.parent), "rounds": asked.rounds},
        "model": {"base": asked.model, "dtype": asked.dtype},
        "prompts": {"source": SOURCES[asked.model], "per_round": asked.prompts, "holdout": 8, "max_tokens": 512},
        "sampling": {"responses": asked.answers, "max_tokens": asked.tokens},
        "scoring": [{"type": "rule", "function": RULES[asked.model]}],
        "objective": {"type": "nca"},
        "evaluation": {"every": 1000, "responses": 1},
    }
    place = folder.parent / "round.yaml"
    place.write_text(yaml.safe_dump(config))
    words = [sys.executable, "-m", "rayalign", "run", str(place)]
    threads = [f"cluster.{part}.threads={asked.threads}" for part in ("generators", "learner")]
    for one in [*(threads if asked.threads != "auto" else ()), *asked.set]:
        words += ["--set", one]
    started = time.perf_counter()
    subprocess.run(words, check=True, cwd=ROOT / "configs")
    return time.perf_counter() - started


def stages(events: list[dict[str, Any]], last: int) -> dict[str, Any]:
    """Seconds of the start, of the last round and its stages, and of the first one."""
    found = {f"{one['stage'].replace(' ', '_')}_s": one["seconds"] for one in events
             if one["event"] == "stage" and (one["round"] == last or one["stage"] == "start actors")}  # fmt: skip
    ends = [datetime.datetime.fromisoformat(one["time"]) for one in events if one["event"] == "round"]
    times = [(end - start).total_seconds() for start, end in itertools.pairwise(ends)]
    times[-1] -= sum(found.get(name, 0) for name in EVALUATION)
    tokens = [one["tokens"] for one in events if one["event"] == "stage" and one["stage"] == "sample"]
    return {**found, "round_s": round(times[-1], 2), "first_round_s": times[0], "sample_tokens": tokens[-1]}


def chosen(folder: Path, most: int) -> int:
    """The threads of which the run's generator found that they are best; they are in the cache."""
    from rayalign.actors.thread_trial import threads_for
    from rayalign.actors.vllm_start import DECODING

    def unknown(threads: int) -> float:
        raise SystemExit("the run has not tried its threads")

    config, model, _ = saved(folder)
    if config.cluster.generators.threads != "auto":
        return config.cluster.generators.threads
    return threads_for(DECODING, model, config.model.dtype, most, unknown)


def child(what: str, folder: Path, threads: int) -> dict[str, Any]:
    """What this file's part `what` found, in a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "DS_ACCELERATOR": "cpu"}
    words = [sys.executable, __file__, "--part", what, "--folder", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def generate(folder: Path) -> dict[str, Any]:
    """The round's own requests, all at once, to a bare `LLM` of the same weights with as large a cache."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    config, model, round_dir = saved(folder)
    model = answering(folder, model, round_dir.index - 1)
    cache = device_arguments(config.cluster.engine, need_of_model(config, model))
    from vllm import LLM, SamplingParams

    longest = config.max_sequence_tokens + 1
    engine = LLM(
        model=str(model), dtype=config.model.dtype, max_model_len=longest, enforce_eager=True, seed=0,
        enable_chunked_prefill=False, max_num_batched_tokens=max(8192, longest), disable_log_stats=True,
        max_num_seqs=ENGINE_SEQUENCES, **cache,
    )  # fmt: skip
    from rayalign.actors.vllm_outputs import sample_seed
    from rayalign.loop.sampling import sampling_plan

    plan = sampling_plan(config, config.run.rounds, "train")
    prompts = round_dir.read_prompts(0, config.prompts.per_round or 0)
    keys = [(prompt, index) for prompt in prompts for index in range(plan.responses)]
    params = [
        SamplingParams(temperature=plan.temperature, top_p=plan.top_p, max_tokens=plan.max_tokens, logprobs=0,
                       seed=sample_seed(plan, prompt.id, index))
        for prompt, index in keys
    ]  # fmt: skip
    engine.generate([{"prompt_token_ids": prompts[0].token_ids}], params[:1], use_tqdm=False)
    started = time.perf_counter()
    outputs = engine.generate([{"prompt_token_ids": one.token_ids} for one, _ in keys], params, use_tqdm=False)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "tokens": sum(len(one.outputs[0].token_ids) for one in outputs)}


def answering(folder: Path, model: Path, version: int) -> Path:
    """A checkpoint of the weights that answered: answers of other weights are longer or shorter."""
    saved_adapter = RunDir(folder).round(version).adapter()
    if saved_adapter is None:
        return model
    from rayalign.learning.merged import MergedWeights

    merged = folder / "answering"
    shutil.copytree(model, merged, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    MergedWeights(model).write(saved_adapter.files.files, merged)
    return merged


def score(folder: Path) -> dict[str, Any]:
    """The round's own answers, by the rule."""
    from rayalign.demo.rules import demo_rule
    from rayalign.scoring.scorers import Scorers
    from rayalign.scoring.sources import SourceReaders, read_sources

    config, _, round_dir = saved(folder)
    readers = SourceReaders(lambda section: (folder, ""), demo_rule)
    scorers = Scorers(config.scorer_settings, read_sources(config.scoring, ROOT / "configs", readers))
    prompts = round_dir.read_prompts(0, config.prompts.per_round or 0)
    rows = [row for shard in round_dir.shards("train") for row in round_dir.read_shard("train", shard) or []]
    started = time.perf_counter()
    scorers.score(prompts, [row.sample for row in rows])
    return {"seconds": time.perf_counter() - started}


def update(folder: Path) -> dict[str, Any]:
    """The round's own groups, by a learner worker without Ray."""
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    import torch.distributed as dist

    from rayalign.actors.coordinator import UpdateWork
    from rayalign.actors.learner_worker import LearnerWorker
    from rayalign.records import Groups

    config, model, round_dir = saved(folder)
    with tempfile.TemporaryDirectory() as meeting:
        dist.init_process_group("gloo", init_method=f"file://{meeting}/rendezvous", rank=0, world_size=1)
        worker = LearnerWorker(config, model, 0, 1)
        commit = round_dir.committed("groups")
        assert commit is not None
        work = UpdateWork(config.run.rounds, Folder(folder), Groups.from_commit(commit["groups"]).files, None, None)
        if config.run.rounds > 1:
            worker.update(work)
        started = time.perf_counter()
        worker.update(work)
        seconds = time.perf_counter() - started
        dist.destroy_process_group()
    return {"seconds": seconds}


def saved(folder: Path) -> tuple[RunConfig, Path, RoundDir]:
    """Config, base model's folder, and the last round."""
    config = RunConfig.model_validate(yaml.safe_load((folder / "config.yaml").read_text()))
    return config, find_base(config.model.base), RunDir(folder).round(config.run.rounds)


if __name__ == "__main__":
    main()
