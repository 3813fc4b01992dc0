"""How long the report of a large run takes to write and to open, and how large it is.

    .venv/bin/python benchmarks/report.py [--rounds 10 --prompts 1024 --answers 8] [--keep FOLDER]

A run folder is made through the project's own writers: every round with as many training and held-out prompts, each
with as many answers, scored by two scorers. Then `rayalign report` is run on it, in a process of its own, twice: the
first time may have to bundle the page's scripts, which are kept in the cache. Where Chromium is, it opens the report
from disk, until the first of its answers are listed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
SECONDS, MEGABYTES, OPEN_SECONDS = 5.0, 15.0, 2.0
"""What the report may take."""
WORDS = ["the", "a", "cat", "dog", "lion", "runs", "over", "under", "green", "small", "old", "house", "river", "slowly"]
TOKENS = 48
SHARD = 32
SCORERS = ("reward_model:demo", "judge:llm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=1024)
    parser.add_argument("--answers", type=int, default=8)
    parser.add_argument("--keep", type=Path, help="make the run folder here, and use it again where it is there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch) / "run"
        made = time.perf_counter()
        if not (folder / "config.yaml").exists():
            make_run(folder, asked.rounds, asked.prompts, asked.answers)
        print(f"run folder made in {time.perf_counter() - made:.1f} s")
        first, again = write(folder), write(folder)
        size = (folder / "report.html").stat().st_size / 1e6
        shown = opened(folder / "report.html")
    print(f"report written in {first:.1f} s, again in {again:.1f} s; {size:.1f} MB")
    print("no Chromium, so not opened" if shown is None else f"opened in {shown:.1f} s")
    result = {
        "rounds": asked.rounds,
        "prompts": asked.prompts,
        "answers": asked.answers,
        "first_s": round(first, 2),
        "write_s": round(again, 2),
        "megabytes": round(size, 2),
        "open_s": None if shown is None else round(shown, 2),
        "passed": again <= SECONDS and size <= MEGABYTES and (shown or 0) <= OPEN_SECONDS,
    }
    print(json.dumps(result))


def write(folder: Path) -> float:
    """Seconds that `rayalign report` takes, all in all."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "rayalign", "report", str(folder)], check=True, cwd=ROOT)
    return time.perf_counter() - started


def opened(report: Path) -> float | None:
    """Seconds until a Chromium that runs already lists the first answers of the report; None without Chromium."""
    from tests.chromium import CHROMIUM, QUIET

    if not CHROMIUM.exists():
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        page = browser.new_page()
        started = time.perf_counter()
        page.goto(report.resolve().as_uri(), wait_until="commit")
        page.wait_for_selector("#browser [data-row]")
        seconds = time.perf_counter() - started
        browser.close()
    return seconds


def make_run(folder: Path, rounds: int, prompts: int, answers: int) -> None:
    """A finished run of `rounds` rounds, and round 0."""
    from rayalign.store.event_log import EventLog
    from rayalign.store.run_dir import RunDir

    run_dir = RunDir(folder)
    scoring = [{"name": name, "type": name.split(":")[0]} for name in SCORERS]
    run_dir.save_config({
        "run": {"name": "benchmark", "rounds": rounds, "seed": 0},
        "model": {"base": "synthetic"},
        "objective": [{"type": "nca"}],
        "scoring": scoring,
        "evaluation": {"responses": answers},
        "sync": {"tolerance": 0.02},
        "prompts": {"template": "auto"},
    })  # fmt: skip
    run_dir.update_info(schema_version=1, attempts=[{"started": "2026-01-01T00:00:00+00:00"}])
    held_out = make_prompts("held out", prompts)
    with EventLog(folder / "metrics.jsonl") as log:
        log.write("start", attempt=0)
        for index in range(rounds + 1):
            make_round(run_dir, index, held_out, prompts, answers)
            for stage, took in (("sample", 40.0), ("groups", 2.0), ("update", 60.0), ("evaluate", 20.0)):
                log.write("stage", round=index, stage=stage, seconds=took, items=prompts, tokens=1000)
            log.write("pool", name="generator", what="sample", replicas=2, utilisation=0.9)


def make_prompts(kind: str, count: int) -> list[Any]:
    from rayalign.records import Prompt, prompt_id

    found = []
    for place in range(count):
        messages = [{"role": "user", "content": f"Number {place} {kind}: " + " ".join(WORDS)}]
        found.append(Prompt(prompt_id(messages), messages, list(range(30)), metadata={"kind": kind}))
    return found


def make_round(run_dir: Any, index: int, held_out: list[Any], prompts: int, answers: int) -> None:
    round_dir, rng = run_dir.round(index), random.Random(index)
    if index:
        drawn = make_prompts(f"round {index}", prompts)
        round_dir.write_prompts(drawn)
        commit_answers(round_dir, "train", drawn, answers, rng)
        round_dir.commit("sampling", {}, stage={"seconds": 40.0}, scores={"ok": prompts * answers})
    commit_answers(round_dir, "evaluation", held_out, answers, rng)
    report = json.dumps(make_report(index, prompts, answers)).encode()
    round_dir.commit("report", round_dir.write("report.json", report))
    round_dir.finish()


def commit_answers(round_dir: Any, purpose: str, prompts: list[Any], answers: int, rng: random.Random) -> None:
    for shard in range(0, len(prompts), SHARD):
        rows = [
            make_answer(prompt.id, place, round_dir.index, rng)
            for prompt in prompts[shard : shard + SHARD]
            for place in range(answers)
        ]
        round_dir.commit_shard(purpose, shard // SHARD, rows)


def make_answer(prompt: str, place: int, version: int, rng: random.Random) -> Any:
    from rayalign.records import Sample, Score, ScoredSample

    words = rng.choices(WORDS, k=rng.randint(TOKENS // 2, TOKENS))
    tokens, reward = [rng.randrange(1000) for _ in words], rng.gauss(0.1 * version, 1.0)
    logprobs = [-0.5] * len(tokens)
    sample = Sample(prompt, place, " ".join(words), tokens, logprobs, "stop", version, seed=place)
    failed = rng.random() < 0.01
    scores = [
        Score(SCORERS[0], "1", "ok", reward),
        Score(SCORERS[1], "1", "error", reason="HTTP 503")
        if failed
        else Score(SCORERS[1], "1", "ok", round(reward), judgment="A clear answer, but it leaves out the reason. " * 2),
    ]
    return ScoredSample(sample, scores, None if failed else reward)


def make_report(index: int, prompts: int, answers: int) -> dict[str, Any]:
    n = prompts * answers

    def metric(value: float, half: float = 0.02) -> dict[str, Any]:
        return {"value": value, "n": n, "ci95": [value - half, value + half]}

    shares = ("win_rate/round_0", "win_rate/previous") if index else ()
    scorer = {"answers": n, "status": {"ok": n - 80, "error": 80}, "reasons": {"error: HTTP 503": 80}, "aspects": {},
              "cost": 0.5, "latency_s": {"mean": 0.25, "max": 1.0}}  # fmt: skip
    training = {"loss": 1.0 / (index + 1), "implicit_reward/margin": 0.1 * index, "implicit_reward/accuracy": 0.6,
                "implicit_reward/best": 0.1, "implicit_reward/worst": -0.1, "logratio/best": 0.5,
                "logratio/worst": -0.5}  # fmt: skip
    trust = {
        "gold": SCORERS[1],
        "scorers": dict.fromkeys(SCORERS, scorer),
        "agreement": {
            "pairs": [{"a": SCORERS[0], "b": SCORERS[1], "alike": metric(0.7)}],
            "gold": {SCORERS[0]: {"accuracy": metric(0.7)}},
            "length": dict.fromkeys(SCORERS, metric(0.1)),
        },
        "gap": {SCORERS[0]: {"proxy": metric(0.1 * index), "gold": metric(0.08 * index), "gap": metric(0.02 * index)}},
        "alarms": [],
    }
    return {
        "schema_version": 1,
        "round": index,
        "adapter_version": index,
        "metrics": {
            "mean_reward": metric(0.1 * index),
            **{f"mean_reward/{name}": metric(0.1 * index) for name in SCORERS},
            **{name: metric(0.5 + 0.02 * index) for name in shares},
            **{name: metric(0.1 * index) for name in ("kl_base", "distinct_2", "duplicate_rate", "truncation_rate")},
            "length_tokens": metric(36.0),
        },
        "stages": {name: {"seconds": 40.0, "items": n, "tokens": 36 * n} for name in ("sample", "update", "evaluate")},
        "groups": {"kept": prompts - 20, "dropped": {"equal_rewards": 20}},
        "scores": {"ok": 2 * n - 80, "error": 80},
        "training": training if index else {},
        "sync": {"canary_gap": 1e-3, "base_gap": 1e-3, "moved": 0.1 * index, "replicas": 2, "version": index},
        "trust": trust,
        "benchmarks": {"instructions": {"metrics": {"strict": metric(0.3), "loose": metric(0.4)}, "facts": {}}},
        "answers": [{"prompt": "p", "response": " ".join(WORDS), "reward": 0.5} for _ in range(8)],
    }


if __name__ == "__main__":
    main()
