"""Does Self-Contrast grow with its number of negatives? On the demo world, against SFT and DPO with gold negatives.

    sft       the model before any training
    dpo       each prompt's target against a flawed answer that the world wrote (gold negatives)
    k=1,4,16  the target against k of the model's own answers, without the quarter most like the target

All arms see the same prompts, targets, steps and learning rate; each run is `rayalign run` on a shipped config.

    .venv/bin/python benchmarks/self_contrast.py [--seeds 0,1,2] [--negatives 1,4,16] [--folder FOLDER]

Runs in the folder are taken up where they stopped, finished ones are only read. The last line is JSON: pass rate and
win rate against the targets of each arm and seed, their means, and whether the means grow with k.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

METRICS = {"pass_rate": "pass rate", "win_rate/target": "wins against targets"}


@dataclass(frozen=True)
class Arm:
    """One line of the table."""

    name: str
    config: str
    settings: tuple[str, ...] = ()


def arms(negatives: Sequence[int], responses: int) -> list[Arm]:
    contrast = [
        Arm(f"k={k}", "self_contrast.yaml", (f"objective.negatives={k}", f"sampling.responses={responses}"))
        for k in negatives
    ]
    return [Arm("dpo", "dpo_offline.yaml"), *contrast]


def run_arm(arm: Arm, seed: int, folder: Path, shared: Sequence[str]) -> list[dict[str, Any]]:
    """The reports of a run's rounds; the run is made or finished first.

    Raises:
        SystemExit: the run failed; its output was shown.
    """
    from rayalign.store.run_dir import RunDir

    name = f"{arm.name.replace('=', '')}-seed{seed}"
    rounds = int(next(text for text in shared if text.startswith("run.rounds=")).partition("=")[2])
    run_dir = RunDir(folder / name)
    if not run_dir.round(rounds).finished:
        settings = [f"run.dir={folder}", f"run.name={name}", f"run.seed={seed}", *shared, *arm.settings]
        command = [sys.executable, "-m", "rayalign", "run", str(ROOT / "configs" / arm.config)]
        done = subprocess.run([*command, *(part for text in settings for part in ("--set", text))], cwd=ROOT)
        if done.returncode:
            raise SystemExit(f"{name}: rayalign run ended with {done.returncode}; run this again to go on")
    return [report for r in run_dir.rounds() if (report := r.report()) is not None]


def measure(reports: Sequence[dict[str, Any]], *, last: bool) -> dict[str, float]:
    metrics = reports[-1 if last else 0]["metrics"]
    return {name: round(metrics[name]["value"], 4) for name in METRICS}


def summary(found: dict[str, list[dict[str, float]]], negatives: Sequence[int]) -> dict[str, Any]:
    means = {
        arm: {name: round(statistics.mean(row[name] for row in rows), 4) for name in METRICS}
        for arm, rows in found.items()
    }
    steps = list(itertools.pairwise(sorted(negatives)))
    grows = {name: all(means[f"k={low}"][name] < means[f"k={high}"][name] for low, high in steps) for name in METRICS}
    return {"means": means, "grows_with_k": grows if steps else None, "seeds": found}


def table(found: dict[str, list[dict[str, float]]]) -> str:
    lines = [f"{'arm':8}" + "".join(f"{title:>36}" for title in METRICS.values())]
    for arm, rows in found.items():
        cells = []
        for name in METRICS:
            values = [row[name] for row in rows]
            cells.append(" ".join(f"{value:.3f}" for value in values) + f"   mean {statistics.mean(values):.3f}")
        lines.append(f"{arm:8}" + "".join(f"{cell:>36}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--negatives", default="1,4,16", help="the k to compare")
    parser.add_argument("--responses", type=int, default=32, help="n, sampled per prompt; negatives are among them")
    parser.add_argument("--prompts", type=int, default=1024, help="per round")
    parser.add_argument("--rounds", type=int, default=1, help="the paper makes one")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--holdout", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=Path("runs/self_contrast"))
    args = parser.parse_args()
    seeds, negatives = ([int(part) for part in text.split(",")] for text in (args.seeds, args.negatives))
    shared = [
        f"run.rounds={args.rounds}", f"prompts.per_round={args.prompts}", f"prompts.holdout={args.holdout}",
        f"training.learning_rate={args.learning_rate}", f"objective.beta={args.beta}", "objective.reference=base",
    ]  # fmt: skip
    found: dict[str, list[dict[str, float]]] = {"sft": []}
    for seed, arm in itertools.product(seeds, arms(negatives, args.responses)):
        reports = run_arm(arm, seed, args.folder.absolute(), shared)
        if arm.name == "dpo":
            found["sft"].append(measure(reports, last=False))
        found.setdefault(arm.name, []).append(measure(reports, last=True))
    print(table(found))
    print(json.dumps(summary(found, negatives)))


if __name__ == "__main__":
    main()
