"""What it gains to sample the next round while one trains (`loop.max_staleness: 1`), and what it costs in quality.

    .venv/bin/python benchmarks/overlap.py [--rounds 5 --prompts 256 --answers 4 --seeds 0,1,2]

The demo model on this machine's cores: in turns the generator and the learner have them all, each in its phase; beside
each other they share them (`--dry-run` says how). For every seed both runs take place, one after the other, in an order
that alternates. Timed are the rounds without their evaluation: from the end of round 0 to the end of the last update's
sync. Passed means: the median over seeds of the ratio is at most .85, and after the last round the intervals of the
held-out pass rates overlap for every seed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

SHARE, METRIC = 0.85, "pass_rate"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--answers", type=int, default=4)
    parser.add_argument("--seeds", default="0,1,2")
    asked = parser.parse_args()
    found: dict[int, dict[int, dict[str, Any]]] = {}
    for number, seed in enumerate(int(word) for word in asked.seeds.split(",")):
        found[seed] = {}
        for staleness in (0, 1) if number % 2 == 0 else (1, 0):
            found[seed][staleness] = run(asked, seed, staleness)
            print(f"seed {seed} staleness {staleness}  {json.dumps(found[seed][staleness])}", flush=True)
    shares = {seed: round(both[1]["rounds_s"] / both[0]["rounds_s"], 3) for seed, both in found.items()}
    same = all(meet(both[0]["quality"], both[1]["quality"]) for both in found.values())
    share = statistics.median(shares.values())
    print(json.dumps({"runs": found, "shares": shares, "share": share, "same_quality": same,
                      "passed": share <= SHARE and same}))  # fmt: skip


def run(asked: argparse.Namespace, seed: int, staleness: int) -> dict[str, Any]:
    """Seconds of a run's rounds and of their stages, and what the last round measures."""
    with tempfile.TemporaryDirectory() as scratch:
        config = {
            "run": {"name": "overlap", "dir": scratch, "rounds": asked.rounds, "seed": seed},
            "model": {"base": "demo"},
            "prompts": {"source": "demo", "per_round": asked.prompts, "holdout": 200},
            "sampling": {"responses": asked.answers},
            "scoring": [{"type": "rule", "function": "demo"}],
            "objective": {"type": "nca"},
            "evaluation": {"every": 1000, "canaries": 0, "anchors": 0},
            "loop": {"max_staleness": staleness},
        }
        place = Path(scratch) / "overlap.yaml"
        place.write_text(yaml.safe_dump(config))
        subprocess.run([sys.executable, "-m", "rayalign", "run", str(place)], check=True, cwd=ROOT, stdout=sys.stderr)
        folder = Path(scratch) / "overlap"
        events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return measured(events, asked.rounds)


def measured(events: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Of the event log: from the end of round 0 to that of the last sync, stages by name, and the last pass rate."""
    begun = when(next(one for one in events if one["event"] == "round"))
    ended = when([one for one in events if one["event"] == "stage" and one["stage"] == "sync"][-1])
    stages: dict[str, list[float]] = {}
    for one in events:
        if one["event"] == "stage" and one["round"] and one["stage"] in ("sample", "groups", "update", "sync"):
            stages.setdefault(one["stage"], []).append(round(one["seconds"], 2))
    last = next(one for one in events if one["event"] == "round" and one["round"] == rounds)["metrics"][METRIC]
    return {"rounds_s": round((ended - begun).total_seconds(), 2), "stages_s": stages, "quality": last}


def when(event: dict[str, Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(event["time"])


def meet(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two intervals have a point in common."""
    return one["ci95"][0] <= other["ci95"][1] and other["ci95"][0] <= one["ci95"][1]


if __name__ == "__main__":
    main()
