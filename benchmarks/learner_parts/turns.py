"""Ways of making an update, each in a process of its own that makes a step when it is told to.

So they can take turns, group by group, and a machine whose speed drifts slows all of them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.learner_parts.cases import make_groups, response_tokens

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Work:
    """What all ways have in common."""

    case: str
    k: int
    groups: int
    device: str
    dtype: str
    budget: int
    """Tokens per micro-batch on our side; at least one group."""

    @property
    def steps(self) -> list[list[int]]:
        """Groups of each step: one, or all where our side may take several at once."""
        return [[index] for index in range(self.groups)] if self.budget == 1 else [list(range(self.groups))]


class Side:
    """One way in its process."""

    def __init__(self, name: str, work: Work) -> None:
        self.name, self.work = name, work
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115
        words = [sys.executable, "-m", __name__, name, json.dumps(dataclasses.asdict(work))]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=ROOT
        )

    def ask(self, what: str, value: Any = None) -> Any:
        """The answer of `serve`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([what, value]) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            code = self._process.wait()
            self._errors.seek(0)
            raise SystemExit(f"{self.name} {self.work.case} ended ({code}):\n{self._errors.read()[-3000:]}") from None

    def close(self) -> None:
        self._process.communicate()
        self._errors.close()


def in_turns(names: Sequence[str], work: Work, repeats: int, *, shares: bool = False) -> dict[str, dict[str, Any]]:
    """What was measured of each way: seconds of all groups, each group's the least of its repeats; the same of
    processor time; response tokens per second; loss; peak memory in bytes; FLOP/s of a large matrix product.

    Args:
        shares: also measure where the time of a step of the first way goes.
    """
    sides = [Side(name, work) for name in names]
    for side in sides:
        side.ask("step", work.steps[0])
    # Only now: before, others were still loading.
    peaks = [side.ask("peak") for side in sides]
    least = {name: [[math.inf, math.inf, 0.0] for _ in work.steps] for name in names}
    for _ in range(repeats):
        for place, chosen in enumerate(work.steps):
            for side in sides:
                seconds, cpu, loss = side.ask("step", chosen)
                best = least[side.name][place]
                least[side.name][place] = [min(seconds, best[0]), min(cpu, best[1]), loss]
    found = {}
    for side, peak in zip(sides, peaks, strict=True):
        seconds, cpu, loss = (sum(column) for column in zip(*least[side.name], strict=True))
        found[side.name] = {"seconds": seconds, "cpu": cpu, "loss": loss / len(work.steps)}
        found[side.name] |= {"memory": side.ask("memory"), "peak": max(peak, side.ask("peak"))}
        if shares and side is sides[0]:
            found[side.name]["shares"] = side.ask("shares")
        side.close()
        _show(side.name, work, found[side.name])
    return found


def trl_in_process(work: Work, repeats: int) -> dict[str, Any]:
    """The same of TRL's trainer, which makes all its steps by itself."""
    side = Side("trl", work)
    found = {"seconds": side.ask("trl", repeats), "memory": side.ask("memory"), "peak": side.ask("peak"), "loss": 0.0}
    side.close()
    _show("trl", work, found)
    return found


def _show(name: str, work: Work, found: dict[str, Any]) -> None:
    found["rate"] = response_tokens(make_groups(work.case, work.k, work.groups)) / found["seconds"]
    print(f"{work.case:12} K {work.k:<3} {name:8} {work.dtype:9} {found['rate']:9.1f} response tokens/s  "
          f"{found['memory'] / 2**30:6.2f} GiB  {found['seconds']:7.2f} s  loss {found['loss']:.6f}  "
          f"product {found['peak'] / 1e9:.1f} GFLOP/s", flush=True)  # fmt: skip


def serve(name: str, work: Work) -> None:
    """Do what each line of standard input asks for, and answer in a line."""
    import torch

    from benchmarks.learner_parts.operations import matmul_peak, peak_memory, step_shares
    from benchmarks.learner_parts.sides import make_side, train_trl

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(os.cpu_count() or 1)
    groups = make_groups(work.case, work.k, work.groups)
    step = None if name == "trl" else make_side(name, work.case, work.device, work.dtype, work.k, work.budget)

    def timed(chosen: list[int]) -> tuple[float, float, float]:
        assert step is not None
        start, cpu = time.perf_counter(), time.process_time()
        loss = step([groups[index] for index in chosen])
        if work.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start, time.process_time() - cpu, loss

    ways: dict[str, Callable[[Any], Any]] = {
        "step": timed,
        "trl": lambda repeats: train_trl(work.case, work.dtype, groups, repeats),
        "memory": lambda _: peak_memory(work.device),
        "peak": lambda _: matmul_peak(work.device, work.dtype),
        "shares": lambda _: step_shares(lambda: [timed(chosen) for chosen in work.steps]),
    }
    for line in sys.stdin:
        what, value = json.loads(line)
        print(json.dumps(ways[what](value)), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], Work(**json.loads(sys.argv[2])))
