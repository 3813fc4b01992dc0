"""Forty times `kill -9` in a run over two Ray nodes: drivers, actors, workers, a node, the head. Nothing is lost.

`RAYALIGN_CHAOS_KILLS=n` takes another number of them, `RAYALIGN_CHAOS_SEED` others.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rayalign.records import Sample
from rayalign.store.run_dir import RunDir
from rayalign.store.verify import findings
from tests.integration.ray_nodes import RayNodes

pytestmark = [pytest.mark.slow, pytest.mark.integration]

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
KILLS = int(os.environ.get("RAYALIGN_CHAOS_KILLS", "40"))
ROUNDS, PROMPTS, ANSWERS = 4, 64, 4
SMALL = [
    f"run.rounds={ROUNDS}", f"prompts.per_round={PROMPTS}", "prompts.holdout=32", f"sampling.responses={ANSWERS}",
    "sampling.max_tokens=32", "evaluation.responses=2", "loop.deterministic=true",
]  # fmt: skip
ACTORS = {
    "generator": "GeneratorActor",
    "scorer": "ScorerActor",
    "learner's worker": "RayTrainWorker",
    "Ray Train's controller": "TrainController",
    "coordinator": "Coordinator",
}
VICTIMS = [*ACTORS, "generator", "learner's worker", "driver", "driver", "node", "notice", "raylet", "head"]
"""What is killed, the more often named the more often; of a notice the node that it told of."""
NOTICE_S = 15
"""Before a node goes of which the cloud gave notice."""
SERVED = 1e-3
"""Nats per token by which vLLM and transformers may differ on one answer."""
QUIET_S = 240
"""So long a run may take until something of it is to be seen again."""


class Chaos:
    """A cluster of two nodes, and a driver that is started anew whenever it ended before the run did."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "quickstart"
        self.drivers: list[subprocess.Popen[bytes]] = []
        self.codes: Counter[int] = Counter()
        self.begin()

    def begin(self) -> None:
        """A cluster."""
        self.state = tempfile.TemporaryDirectory(prefix="ra-chaos-", dir="/tmp", ignore_cleanup_errors=True)
        self.nodes = RayNodes(Path(self.state.name))
        self.head = self.nodes.start_head()
        self.node = self.nodes.start_node()

    def drive(self) -> subprocess.Popen[bytes]:
        """The driver that runs; another one where it has ended."""
        if self.drivers and self.drivers[-1].poll() is None:
            return self.drivers[-1]
        if self.drivers:
            self.codes[self.drivers[-1].returncode] += 1
        settings = [word for one in (f"run.dir={self.root}", *SMALL) for word in ("--set", one)]
        with (self.root / f"driver-{len(self.drivers)}.log").open("wb") as log:
            self.drivers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "rayalign", "run", str(QUICKSTART), *settings],
                    env={**self.nodes.env, "RAY_ADDRESS": self.nodes.gcs}, stdout=log, stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )  # fmt: skip
        return self.drivers[-1]

    @property
    def done(self) -> bool:
        return (self.folder / "rounds" / f"{ROUNDS:04d}" / "COMMIT.json").exists()

    def kill(self, victim: str, rng: random.Random) -> bool:
        """Whether there was one to kill."""
        if victim == "driver":
            os.killpg(self.drive().pid, signal.SIGKILL)
            return True
        if victim == "head":
            # And with it all that Ray knows; its driver ends by itself.
            self.nodes.kill(self.head)
            if self.drivers:
                self.drivers[-1].wait(timeout=QUIET_S)
            self.forget()
            self.begin()
            return True
        if victim == "node":
            self.replace_node()
            return True
        if victim == "notice":
            going = self.node
            self.nodes.drain(going, NOTICE_S)
            self.node = self.nodes.start_node()
            time.sleep(NOTICE_S)
            self.nodes.kill(going)
            return True
        found = self.nodes.actors(ACTORS[victim]) if victim in ACTORS else [
            one for one in psutil.Process(self.node.pid).children(recursive=True) if one.name() == "raylet"
        ]  # fmt: skip
        if not found:
            return False
        rng.choice(found).kill()
        if victim == "raylet":
            self.replace_node()
        return True

    def replace_node(self) -> None:
        self.nodes.kill(self.node)
        self.node = self.nodes.start_node()

    def wait_for_life(self) -> None:
        """Until the run says something new, or is done."""
        log, began = self.folder / "metrics.jsonl", time.monotonic()
        before = log.stat().st_size if log.exists() else 0
        while not self.done and (log.stat().st_size if log.exists() else 0) == before:
            self.drive()
            time.sleep(0.2)
            assert time.monotonic() - began < QUIET_S, f"the run stands still: {self.said()}"

    def said(self) -> str:
        return "\n".join(
            f"== driver {place}: {(self.root / f'driver-{place}.log').read_text()[-1500:]}"
            for place in range(len(self.drivers))[-2:]
        )

    def finish(self) -> None:
        deadline = time.monotonic() + 1200
        while not self.done:
            self.drive()
            time.sleep(0.5)
            assert time.monotonic() < deadline, self.said()
        assert self.drivers[-1].wait(timeout=180) == 0, self.said()

    def end(self) -> None:
        for driver in self.drivers:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()
        self.forget()

    def forget(self) -> None:
        """Ends the cluster."""
        self.nodes.stop()
        self.state.cleanup()


def adapters(run_dir: RunDir) -> list[dict[str, bytes]]:
    return [saved.files.files for one in run_dir.rounds() if (saved := one.adapter()) is not None]


def keys(run_dir: RunDir) -> dict[int, list[tuple[str, int, int]]]:
    return {
        one.index: [
            (row.sample.prompt_id, row.sample.index, row.sample.adapter_version)
            for shard in one.shards("train")
            for row in one.read_shard("train", shard) or []
        ]
        for one in run_dir.rounds()[1:]
    }


def strays(run_dir: RunDir, base: Path, index: int) -> tuple[float, float]:
    """How far, over the shards of a round, the log-probabilities that answers came with are at most from those that the
    adapter which was to answer gives them, by PEFT, and at least from the base's; mean nats per token."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if index > 1:
        model = PeftModel.from_pretrained(model, str(run_dir.round(index - 1).root / "adapter"))
    one = run_dir.round(index)
    prompts = {prompt.id: prompt.token_ids for prompt in one.read_prompts(0, PROMPTS)}

    @torch.inference_mode()
    def gap(sample: Sample) -> float:
        tokens = torch.tensor([[*prompts[sample.prompt_id], *sample.token_ids]])
        logps_TV = model(tokens).logits[0, -len(sample.token_ids) - 1 : -1].log_softmax(-1)
        logps_T = logps_TV.gather(1, tokens[0, -len(sample.token_ids) :, None])[:, 0]
        return float((logps_T - torch.tensor(sample.logprobs)).abs().mean())

    shards = [[row.sample for row in one.read_shard("train", shard) or []] for shard in one.shards("train")]

    def gaps() -> list[float]:
        return [max(gap(sample) for sample in shard if sample.token_ids) for shard in shards]

    own = max(gaps())
    with model.disable_adapter() if index > 1 else contextlib.nullcontext():
        return own, min(gaps())


@pytest.fixture(scope="module")
def undisturbed(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDir]:
    chaos = Chaos(tmp_path_factory.mktemp("undisturbed"))
    try:
        chaos.finish()
        yield RunDir(chaos.folder)
    finally:
        chaos.end()


def test_a_run_survives_all_that_is_killed(
    undisturbed: RunDir, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(os.environ.get("RAYALIGN_CHAOS_SEED", "0"))
    table: dict[str, Counter[str]] = {victim: Counter() for victim in VICTIMS}
    killed = 0
    while killed < KILLS:
        chaos = Chaos(tmp_path_factory.mktemp("chaos"))
        here: Counter[str] = Counter()
        try:
            while not chaos.done and killed < KILLS:
                chaos.wait_for_life()
                time.sleep(rng.uniform(0, 8))
                victim = rng.choice(VICTIMS)
                if not chaos.done and chaos.kill(victim, rng):
                    killed += 1
                    here[victim] += 1
                    print(f"{killed}: {victim}", flush=True)
            chaos.finish()
            run_dir = RunDir(chaos.folder)
            found = keys(run_dir)
            same = adapters(run_dir) == adapters(undisturbed)
            whole = not findings(run_dir) and found == keys(undisturbed)
            for index, rows in found.items():
                assert len(set(rows)) == len(rows) == PROMPTS * ANSWERS
                assert {version for _, _, version in rows} == {index - 1}
            assert chaos.codes.keys() <= {3, -signal.SIGKILL}, f"drivers ended with {dict(chaos.codes)}"
            assert whole and same, f"adapters the same: {same}; answers whole: {whole}"
            served = {index: strays(run_dir, demo_folder, index) for index in found}
            print(f"log-probabilities off the adapter's and off the base's, by round: {served}")
            assert all(own < SERVED and (index == 1 or base > 10 * SERVED) for index, (own, base) in served.items())
        finally:
            for victim, count in here.items():
                table[victim]["killed"] += count
                table[victim]["survived"] += count * chaos.done
            print(f"drivers ended with {dict(chaos.codes)}")
            chaos.end()
    print(json.dumps({victim: dict(counts) for victim, counts in table.items()}, indent=1))
