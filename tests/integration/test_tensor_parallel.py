"""Engines of two processes (vLLM's tensor parallel, on CPU): what they answer, how they end, and whole runs."""

# ruff: noqa: F401, F811 (fixtures are imported, and named as arguments)

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rayalign.actors.vllm_devices import SHARED
from rayalign.records import Sample, SamplingPlan, Shard, TokenSequence
from rayalign.store.run_dir import RunDir
from tests.integration.conftest import model_source, small_config
from tests.integration.test_generator import BASE, PLAN, adapter, policy, prompts
from tests.integration.test_run import check_complete, finish, start

pytestmark = [pytest.mark.integration, pytest.mark.slow]
SPLIT = "cluster.generators.tensor_parallel=2"


@pytest.fixture(scope="module")
def generators(local_ray: None, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """By the number of processes of their engine."""
    from rayalign.actors.generator import RayGenerator

    made = {}
    for count in (1, 2):
        config = small_config(sync={"mode": "adapter"}, cluster={"generators": {"tensor_parallel": count}})
        logs = str(tmp_path_factory.mktemp("logs"))
        made[count] = RayGenerator(model_source(demo_folder), config, logs, cpus=0.4, say=print)
    for generator in made.values():
        generator.pool.ready()
    yield made
    for generator in made.values():
        generator.pool.close()


def sampled(generator, prompts, adapter=BASE, plan: SamplingPlan = PLAN) -> list[Sample]:
    [shard] = generator.sample([Shard(0, tuple(prompts))], plan, adapter)
    return shard.samples


def parts_of(pid: int) -> list[psutil.Process]:
    """The processes of an engine, by their number; the actor itself only schedules."""
    parts = [child for child in psutil.Process(pid).children(recursive=True) if "Worker_TP" in child.name()]
    assert len(parts) == 2
    return sorted(parts, key=lambda part: part.name())


def logps_of(samples: list[Sample]) -> list[float]:
    return [logp for sample in samples for logp in sample.logprobs]


def test_samples_are_those_of_an_engine_in_one_piece(generators, prompts) -> None:
    for generator in generators.values():
        generator.load(BASE, None)
    whole, split = (sampled(generators[count], prompts) for count in (1, 2))
    assert [one.token_ids for one in split] == [one.token_ids for one in whole]
    assert logps_of(split) == pytest.approx(logps_of(whole), abs=1e-5)


def test_log_probs_with_an_adapter_are_the_learners(generators, prompts, policy, adapter) -> None:
    from rayalign.learning.step import token_logps_of

    record, files = adapter
    generator = generators[2]
    [state] = generator.load(record, files)
    assert (state.version, state.sha256) == (1, record.sha256)
    samples = sampled(generator, prompts[:4], record)
    by_id = {prompt.id: prompt.token_ids for prompt in prompts}
    rows = [(by_id[one.prompt_id], one.token_ids) for one in samples]
    expected = [logp for row in token_logps_of(policy, rows, "cpu", 4096) for logp in row]
    assert logps_of(samples) == pytest.approx(expected, abs=1e-5)
    [found] = generator.logps([TokenSequence(*row) for row in rows], record).values()
    assert [logp for row in found for logp in row] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("victim", ["the actor", "one of its processes"])
def test_none_of_its_processes_outlives_an_actor_and_it_is_replaced(
    generators,
    prompts,
    adapter,
    wait_for: Callable[[Callable[[], bool], float], None],
    victim: str,
) -> None:
    record, files = adapter
    generator = generators[2]
    generator.load(record, files)
    before = sampled(generator, prompts, record)
    [was] = generator.pool.ready()
    parts = parts_of(was["pid"])
    os.kill(was["pid"] if victim == "the actor" else parts[1].pid, signal.SIGKILL)
    assert [one.token_ids for one in sampled(generator, prompts, record)] == [one.token_ids for one in before]
    [now] = generator.pool.ready()
    assert now["pid"] != was["pid"]
    wait_for(lambda: not any(part.is_running() for part in parts), 30)


def test_its_processes_end_with_the_pool_and_no_memory_is_left_behind(
    local_ray: None, demo_folder: Path, tmp_path: Path, wait_for: Callable[[Callable[[], bool], float], None]
) -> None:
    from rayalign.actors.generator import RayGenerator

    config = small_config(cluster={"generators": {"tensor_parallel": 2}})
    generator = RayGenerator(model_source(demo_folder), config, str(tmp_path), cpus=0.4, say=print)
    [described] = generator.pool.ready()
    parts = parts_of(described["pid"])
    shared = [one.path for part in parts for one in part.memory_maps() if one.path.startswith(SHARED)]
    assert shared and not any(Path(path).exists() for path in shared)
    generator.pool.close()
    wait_for(lambda: not any(part.is_running() for part in parts), 30)


def test_a_whole_run_of_two_generators_and_two_learner_ranks(demo_folder: Path, tmp_path: Path) -> None:
    two = ["cluster.generators.min=2", "cluster.generators.max=2", SPLIT, "training.workers=2", "training.zero_stage=3"]
    assert "Traceback" not in finish(start(tmp_path, *two))
    run_dir = RunDir(tmp_path / "quickstart")
    check_complete(run_dir)
    names = {one["name"] for one in run_dir.info["attempts"][-1]["actors"]}
    assert names >= {"generator-0", "generator-1", "learner-0", "learner-1"}
    reports = [round_dir.report() or {} for round_dir in run_dir.rounds()]
    for report in reports[1:]:
        assert report["sync"]["canary_gap"] <= 1e-5 < report["sync"]["moved"]
        assert report["metrics"]["pass_rate"]["value"] > reports[0]["metrics"]["pass_rate"]["value"]


def test_a_whole_run_starts_with_the_samples_of_one_process(demo_folder: Path, tmp_path: Path) -> None:
    output = finish(start(tmp_path / "split", SPLIT))
    assert "Traceback" not in output
    run_dir = RunDir(tmp_path / "split" / "quickstart")
    check_complete(run_dir)
    reports = [round_dir.report() or {} for round_dir in run_dir.rounds()]
    for report in reports[1:]:
        assert report["sync"]["canary_gap"] <= 1e-5 < report["sync"]["moved"]
    finish(start(tmp_path / "whole", "run.rounds=1", "sync.mode=adapter"))
    whole, split = (first_round(RunDir(tmp_path / name / "quickstart")) for name in ("whole", "split"))
    assert [one.token_ids for one in split] == [one.token_ids for one in whole]
    assert logps_of(split) == pytest.approx(logps_of(whole), abs=1e-5)


def first_round(run_dir: RunDir) -> list[Sample]:
    one = run_dir.round(1)
    return [row.sample for shard in sorted(one.shards("train")) for row in one.read_shard("train", shard) or []]
