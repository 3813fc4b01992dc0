"""Sixty rounds: what each process holds does not grow; what a round takes is shown.

`RAYALIGN_SOAK_ROUNDS=n` takes another number of them.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from scipy import stats

from tests.terminal import command_line

pytestmark = [pytest.mark.slow, pytest.mark.integration]

ROUNDS = int(os.environ.get("RAYALIGN_SOAK_ROUNDS", "60"))
WARM = 12
"""First rounds, in which caches fill."""
GROWS = 0.03
"""Of its mean, over all the rounds that are looked at."""
ALLOCATORS = {"GeneratorActor": 0.12, "others": 0.06, "driver": 0.06, "RayTrainWorker": 0.05}
"""What vLLM, Ray's own processes, the driver's pages of ever more rounds, and torch with ever other lengths take in
sixty rounds; it slows down over two hundred (docs/log.md). An engine of DeepSpeed that stayed made 0.11 of the
learner's."""
MIB = 1
"""More is needed for something to grow that is as small as the object store."""
TIME = "seconds of a round"
"""Is shown, and not asserted: other work on the machine moves it."""
ACTORS = ("GeneratorActor", "ScorerActor", "RayTrainWorker", "Coordinator")
EVALUATED = 10
"""Every so many rounds; these take longer."""
GROUPS = """
import sys
from ray._private.gcs_utils import PlacementGroupTableData as Group
from ray._raylet import GcsClientOptions, GlobalStateAccessor
options = GcsClientOptions.create(sys.argv[1], None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False)
accessor = GlobalStateAccessor(options)
assert accessor.connect()
states = [Group.FromString(one).state for one in accessor.get_placement_group_table()]
print(sum(state != Group.PlacementGroupState.REMOVED for state in states))
"""
Series = dict[str, list[tuple[int, float]]]


def kind_of(process: psutil.Process, driver: int) -> str:
    if process.pid == driver:
        return "driver"
    words = " ".join(process.cmdline()[:1])
    return next((name for name in ACTORS if f"ray::{name}" in words), "others")


def look(driver: int, round_index: int, series: Series) -> None:
    """What all processes of the run hold now."""
    family = [psutil.Process(driver), *psutil.Process(driver).children(recursive=True)]
    sums: defaultdict[str, float] = defaultdict(float)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            kind = kind_of(process, driver)
            # What is shared is the object store's, which is looked at for itself.
            memory = process.memory_info()
            sums[f"{kind}: MiB of its own"] += (memory.rss - memory.shared) / 2**20
            sums["file handles"] += process.num_fds()
            sums["threads"] += process.num_threads()
            sums["processes"] += 1
    shm = os.statvfs("/dev/shm")
    sums["object store: MiB"] = (shm.f_blocks - shm.f_bfree) * shm.f_frsize / 2**20
    for name, value in sums.items():
        series.setdefault(name, []).append((round_index, value))


def placement_groups(driver: int) -> int:
    """How many of the run's own Ray are not removed."""
    [address] = [
        word.removeprefix("--gcs-address=")
        for child in psutil.Process(driver).children()
        for word in command_line(child)
        if word.startswith("--gcs-address=") and child.name() == "raylet"
    ]
    env = {**os.environ, "RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [sys.executable, "-c", GROUPS, address], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    return int(done.stdout)


def events(log: Path) -> list[dict[str, object]]:
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]


def slopes(series: Series) -> dict[str, dict[str, float | bool]]:
    """Of each series: mean, slope per round with its 95 % interval, and whether it is flat."""
    found = {}
    for name, pairs in sorted(series.items()):
        rounds, values = (np.array(column) for column in zip(*pairs, strict=True))
        late = rounds > WARM
        fit = stats.linregress(rounds[late], values[late])
        # Of a series that does not move scipy gives none.
        half = float(np.nan_to_num(stats.t.ppf(0.975, late.sum() - 2) * fit.stderr))
        mean, span = float(values[late].mean()), float(rounds[late].max() - rounds[late].min())
        grows = ALLOCATORS.get(name.partition(":")[0], GROWS)
        flat = (fit.slope - half) * span <= max(grows * mean, MIB if "MiB" in name else 0)
        found[name] = {"mean": mean, "slope": float(fit.slope), "half": half, "flat": bool(flat)}
    return found


def test_nothing_grows(tmp_path: Path) -> None:
    config = {
        "run": {"name": "soak", "dir": str(tmp_path), "rounds": ROUNDS},
        "model": {"base": "demo"},
        "prompts": {"source": "demo", "per_round": 32, "holdout": 16},
        "sampling": {"responses": 4, "max_tokens": 24},
        "scoring": [{"type": "rule", "function": "demo"}],
        "objective": {"type": "nca"},
        "training": {"learning_rate": 1e-4},
        "evaluation": {"responses": 1, "every": EVALUATED},
        "guards": [],
    }
    (tmp_path / "soak.yaml").write_text(yaml.safe_dump(config))
    with (tmp_path / "out.log").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "rayalign", "run", str(tmp_path / "soak.yaml")], stdout=out, stderr=out
        )
    log, series, seen = tmp_path / "soak" / "metrics.jsonl", Series(), 0
    while process.poll() is None:
        done = sum(one["event"] == "round" for one in events(log))
        if done > max(seen, 1):
            seen = done
            with contextlib.suppress(psutil.NoSuchProcess):
                look(process.pid, done - 1, series)
                if (done - 1) % EVALUATED == 0 and done <= ROUNDS:
                    series.setdefault("placement groups", []).append((done - 1, placement_groups(process.pid)))
        time.sleep(0.2)
    assert process.returncode == 0, (tmp_path / "out.log").read_text()[-3000:]
    ends = [datetime.datetime.fromisoformat(str(one["time"])) for one in events(log) if one["event"] == "round"]
    times = [(after - before).total_seconds() for before, after in itertools.pairwise(ends)]
    series[TIME] = [(i + 1, took) for i, took in enumerate(times) if (i + 1) % EVALUATED]
    found = slopes(series)
    for name, one in found.items():
        print(f"{name:32} {one['mean']:10.2f}  {one['slope']:+.4f} ± {one['half']:.4f} a round")
    assert len(ends) == ROUNDS + 1 and "placement groups" in found
    assert {f"{name}: MiB of its own" for name in ("driver", *ACTORS)} <= found.keys()
    grown = {name: one for name, one in found.items() if name != TIME and not one["flat"]}
    assert not grown, grown
