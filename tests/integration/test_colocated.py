"""Generators and learner that take turns in the memory of their devices: on CPU, with all that turns are made of."""

# ruff: noqa: F401, F811 (fixtures are imported, and named as arguments)

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.records import Sample, Shard
from rayalign.store.run_dir import RunDir
from tests.integration.conftest import model_source, small_config
from tests.integration.test_generator import BASE, MODES, PLAN, adapter, policy, prompts
from tests.integration.test_many_workers import actors, process_of, updating
from tests.integration.test_run import adapters, check_complete, finish, start

pytestmark = [pytest.mark.integration, pytest.mark.slow]
TURNS: dict[str, Any] = {"placement": "colocated", "turns": True}
RUN = ["loop.deterministic=true", "prompts.holdout=96", "cluster.placement=colocated"]
Wait = Callable[[Callable[[], object], float], None]


@pytest.fixture(scope="module")
def generators(local_ray: None, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """One in each mode of sync, whose sleep forgets the weights."""
    from rayalign.actors.generator import RayGenerator

    made = {}
    for mode in MODES:
        config = small_config(sync={"mode": mode}, cluster={**TURNS, "generators": {"sleep": 2}})
        logs = str(tmp_path_factory.mktemp("logs"))
        made[mode] = RayGenerator(model_source(demo_folder), config, logs, cpus=0.4, say=print)
    for generator in made.values():
        generator.pool.ready()
    yield made
    for generator in made.values():
        generator.pool.close()


@pytest.mark.parametrize("mode", MODES)
def test_weights_that_were_forgotten_are_the_same_when_it_wakes(generators, prompts, adapter, mode: str) -> None:
    """On CPU vLLM drops nothing; what brings weights and adapter back is the same."""
    generator, served = generators[mode], (adapter, (BASE, None))

    def sampled() -> list[list[Sample]]:
        found = []
        for record, files in served:
            generator.load(record, files)
            generator.leave()
            generator.take()
            found.append(next(generator.sample([Shard(0, tuple(prompts))], PLAN, record)).samples)
        return found

    tuned, plain = sampled()
    generator.load(*served[0])
    expected = next(generator.sample([Shard(0, tuple(prompts))], PLAN, served[0][0])).samples
    assert [one.token_ids for one in tuned] == [one.token_ids for one in expected]
    assert [one.token_ids for one in plain] != [one.token_ids for one in expected]
    logps = [[logp for one in some for logp in one.logprobs] for some in (tuned, expected)]
    assert logps[0] == pytest.approx(logps[1], abs=1e-5)


def turns(run_dir: RunDir) -> list[dict[str, Any]]:
    log = run_dir.root.local_path() / "metrics.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return [event for line in lines if line.endswith("}") and (event := json.loads(line))["event"] == "turn"]


def holder(run_dir: RunDir, round_index: int) -> str | None:
    """Who has the devices, if that is for this round."""
    newest = turns(run_dir)[-1:]
    return newest[0]["holder"] if newest and newest[0]["round"] == round_index else None


def test_either_side_may_die_in_each_turn_and_nothing_changes(
    demo_folder: Path, tmp_path: Path, wait_for: Wait
) -> None:
    """Killed: a generator asleep, a worker of the learner while it is away, one while it updates, and a generator while
    it answers. The adapters are those of a run without turns and without deaths, byte for byte."""
    plain, run_dir = (RunDir(tmp_path / name / "quickstart") for name in ("plain", "turns"))
    assert "Traceback" not in finish(start(tmp_path / "plain", *RUN))
    assert turns(plain) == []
    process = start(tmp_path / "turns", *RUN, "cluster.turns=true")

    def kill_when(met: Callable[[], object], pid: Callable[[], int | None]) -> None:
        wait_for(lambda: met() or process.poll() is not None, 400)
        assert process.poll() is None, process.communicate()[0]
        victim = pid()
        assert victim is not None
        os.kill(victim, signal.SIGKILL)

    kill_when(
        lambda: updating(run_dir, 1) and holder(run_dir, 1) == "learner",
        lambda: actors(run_dir)["generator-0"]["pid"],
    )
    kill_when(
        lambda: run_dir.round(2).committed("prompts") and holder(run_dir, 2) == "generators",
        lambda: actors(run_dir)["learner-0"]["pid"],
    )
    kill_when(
        lambda: updating(run_dir, 2) and holder(run_dir, 2) == "learner",
        lambda: process_of(process.pid, "ray::RayTrainWorker"),
    )
    kill_when(
        lambda: run_dir.round(2).shards("evaluation") and holder(run_dir, 2) == "generators",
        lambda: process_of(process.pid, "ray::GeneratorActor"),
    )
    output = finish(process)
    assert output.count("generator-0 died: starting it again") == 2 and "Traceback" not in output
    check_complete(run_dir)
    assert adapters(run_dir) == adapters(plain)
    taken = turns(run_dir)
    assert all(one["holder"] != other["holder"] for one, other in itertools.pairwise(taken))
    for round_dir in run_dir.rounds():
        report, mine = round_dir.report() or {}, [turn for turn in taken if turn["round"] == round_dir.index]
        assert report["turns"]["count"] == len(mine) > 0
        assert report["turns"]["seconds"] == pytest.approx(sum(t["left_s"] + t["taken_s"] for t in mine), abs=0.05)
    assert "Turns on shared devices" in (run_dir.root / "report.html").read_text()
