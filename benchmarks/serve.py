"""How quickly `rayalign serve` answers, and in how much memory: 100 runs with 1,000,000 answers in all.

The runs are written by the project's own writers; the server is the real one, in a process of its own, whose largest
resident memory is read from the kernel. The last line is JSON.

    python benchmarks/serve.py [--runs 100] [--answers 1000000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import yaml

from rayalign.config.run import RunConfig
from rayalign.records import SHARD_PROMPTS, Message, Prompt, Sample, Score, ScoredSample, prompt_id
from rayalign.store.held_out import write_held_out
from rayalign.store.run_dir import RunDir

ROUNDS, RESPONSES, TOKENS = 5, 4, 60
"""Of each run: rounds after round 0, answers to a prompt, tokens of an answer."""
WORDS = tuple(
    f"{first}{last}" for first in ("the", "of", "to", "in", "it", "he") for last in ("", "m", "se", "at", "y")
)
QUERIES: dict[str, dict[str, str]] = {
    "regressions": {"sort": "regression"},
    "filtered and sorted": {"sort": "gain", "min": "0.2", "max": "0.9", "scorer": "judge", "status": "ok"},
    "by metadata, page 2": {"sort": "spread", "meta": "topic=3", "page": "1", "size": "20"},
    "searched": {"q": "they inat", "sort": "length"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--answers", type=int, default=1_000_000, help="of all runs together")
    parser.add_argument("--folder", type=Path, help="keeps the runs there, and takes those that are there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rayalign-serve-") as scratch:
        folder = asked.folder or Path(scratch)
        written = write_runs(folder, asked.runs, asked.answers)
        print(f"{asked.runs} runs, {written} answers in {folder}", flush=True)
        print(json.dumps({"runs": asked.runs, "answers": written, **measure(folder)}))


# -- the runs


def write_runs(folder: Path, runs: int, answers: int) -> int:
    """Write the runs that are not there yet; returns how many answers all of them have."""
    stages = 2 * ROUNDS + 1  # an evaluation in each round and in round 0, and training answers in each round
    prompts = max(SHARD_PROMPTS, round(answers / runs / stages / RESPONSES))
    first = folder / "run-000"
    if not first.exists():
        write_run(first, prompts)
    for index in range(1, runs):
        if not (target := folder / f"run-{index:03d}").exists():
            shutil.copytree(first, target)
            config = yaml.safe_load((target / "config.yaml").read_text())
            config["run"]["name"] = target.name
            (target / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return runs * prompts * stages * RESPONSES


def write_run(root: Path, prompts: int) -> None:
    chance = random.Random(0)
    run_dir = RunDir(root)
    settings = {
        "run": {"name": root.name, "rounds": ROUNDS},
        "model": {"base": "demo"},
        "prompts": {"source": "demo", "per_round": prompts, "holdout": prompts},
        "sampling": {"responses": RESPONSES},
        "scoring": [{"type": "rule", "function": "demo"}],
        "objective": {"type": "nca"},
    }
    run_dir.open(RunConfig.model_validate(settings).to_dict())
    held_out = [make_prompt(chance, place) for place in range(prompts)]
    write_held_out(root, held_out)
    for index in range(ROUNDS + 1):
        round_dir = run_dir.round(index)
        for purpose, asked in (("evaluation", held_out), ("train", [make_prompt(chance, p) for p in range(prompts)])):
            if purpose == "train" and index == 0:
                continue
            if purpose == "train":
                round_dir.write_prompts(asked)
            for shard, start in enumerate(range(0, prompts, SHARD_PROMPTS)):
                rows = [row for one in asked[start : start + SHARD_PROMPTS] for row in answered(chance, one, index)]
                round_dir.commit_shard(purpose, shard, rows)
        metrics = {"mean_reward": {"value": index / 10, "n": prompts, "ci95": [index / 10 - 0.1, index / 10 + 0.1]}}
        report = {"round": index, "adapter_version": index, "metrics": metrics}
        round_dir.commit("report", round_dir.write("report.json", json.dumps(report).encode()))
        round_dir.finish()


def make_prompt(chance: random.Random, place: int) -> Prompt:
    messages: list[Message] = [{"role": "user", "content": sentence(chance, 30)}]
    return Prompt(prompt_id(messages), messages, [1] * 40, metadata={"topic": place % 10, "level": chance.random()})


def answered(chance: random.Random, prompt: Prompt, index: int) -> Iterator[ScoredSample]:
    for number in range(RESPONSES):
        reward, opinion = chance.random(), chance.random()
        tokens = [chance.randrange(50_000) for _ in range(chance.randrange(TOKENS // 2, TOKENS * 3 // 2))]
        text = sentence(chance, len(tokens))
        sample = Sample(prompt.id, number, text, tokens, [-chance.random() for _ in tokens], "stop", index, seed=1)
        status = "ok" if chance.random() < 0.95 else "error"
        judged = Score("judge", "1", status, opinion if status == "ok" else None, judgment=sentence(chance, 20))
        yield ScoredSample(sample, [Score("rule", "1", "ok", reward), judged], reward)


def sentence(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


# -- the server


def measure(folder: Path) -> dict[str, float]:
    """Milliseconds of what a person waits for, and the server's peak memory in MB."""
    command = [sys.executable, "-m", "rayalign", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = re.search(r"http://\S+", server.stdout.readline())
            assert address is not None
            found = ask(address[0])
            found["peak_memory_mb"] = peak_mb(server.pid)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    return found


def ask(address: str) -> dict[str, float]:
    found = {"runs_page_ms": timed(address)}
    found["first_list_ms"] = timed(f"{address}api/runs/run-000/prompts")
    found["facets_ms"] = timed(f"{address}api/runs/run-000/facets")
    for name, query in QUERIES.items():
        found[f"{name} (ms)"] = max(timed(f"{address}api/runs/run-000/prompts?{urlencode(query)}") for _ in range(5))
    with urllib.request.urlopen(f"{address}api/runs/run-000/prompts?size=1") as reply:
        one = json.load(reply)["rows"][0]["id"]
    found["first_view_ms"] = timed(f"{address}api/runs/run-000/prompts/{one}")
    found["view_ms"] = max(timed(f"{address}api/runs/run-000/prompts/{one}") for _ in range(5))
    found["run_page_ms"] = timed(f"{address}runs/run-000")
    with urllib.request.urlopen(f"{address}api/runs") as reply:
        names = [run["name"] for run in json.load(reply)]
    firsts = sorted(timed(f"{address}api/runs/{name}/prompts") for name in names[1:])
    if firsts:
        found["first_list_of_the_other_runs_median_ms"] = firsts[len(firsts) // 2]
        found["first_list_of_the_other_runs_worst_ms"] = firsts[-1]
    for name, value in found.items():
        print(f"{name:<40} {value:8.1f}", flush=True)
    return found


def timed(url: str) -> float:
    start = time.perf_counter()
    with urllib.request.urlopen(url) as reply:
        reply.read()
    return round(1000 * (time.perf_counter() - start), 1)


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return round(int(peak[1]) / 1024, 1) if peak else float("nan")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
