"""`memory: auto` on CPU: a cache for what a replica has under way, said alike by an engine and a plan."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rayalign.actors import vllm_devices
from rayalign.actors.vllm_devices import device_arguments
from rayalign.commands.plan import _placed
from rayalign.config.cluster import GIB, EngineSection
from rayalign.config.file import with_defaults
from rayalign.config.nodes import NodesConfig
from rayalign.config.run import RunConfig
from rayalign.errors import PlacementError
from rayalign.learning import engine_cache
from rayalign.learning.engine_cache import CacheNeed, cache_need, main_memory, need_of_model, sequences_at_once
from rayalign.planning.cluster import machines_of
from rayalign.planning.devices import cpu_core
from rayalign.planning.memory import generator_memory
from rayalign.store.changes import differences
from tests.unit.planned import SHAPE, on_cpu

MIB = 2**20


@pytest.mark.parametrize(
    ("changes", "sequences"),
    [
        ({"prompts__per_round": 256}, 128),
        ({"prompts__per_round": 8, "prompts__holdout": 8, "sampling__responses": 2}, 32),  # 8 x 4 held-out answers
        ({"prompts__per_round": 20, "prompts__holdout": 8, "sampling__responses": 3}, 60),
        ({"prompts__per_round": 256, "sampling__responses": 2, "evaluation__responses": 1,
          "loop__deterministic": True}, 64),
        ({"prompts__per_round": 256, "sampling__responses": 8, "loop__deterministic": True}, 128),
        ({"prompts__per_round": 1, "prompts__holdout": 1, "evaluation__responses": 2, "sampling__responses": 2,
          "evaluation__benchmarks": [{"type": "instructions", "questions": "x.jsonl"}]}, 128),
    ],
)  # fmt: skip
def test_sequences_at_once_are_those_of_the_shards_in_flight(changes: dict[str, Any], sequences: int) -> None:
    assert sequences_at_once(on_cpu(**changes)) == sequences


def test_of_a_dataset_only_the_evaluation_is_sampled() -> None:
    given = on_cpu(prompts__holdout=5, prompts__per_round=100, evaluation__responses=3)
    data = {**given.to_dict(), "samples": {"source": "x.jsonl"}, "objective": {"type": "dpo"}}
    assert (sequences_at_once(given), sequences_at_once(RunConfig.model_validate(data))) == (128, 15)


def test_what_a_cache_holds_is_counted_in_whole_blocks() -> None:
    """1,024 + 512 + 1 tokens are 13 blocks of 128: 13 MiB a sequence; of 128 such, and an empty block, 1,665 MiB."""
    need = cache_need(on_cpu(), SHAPE)
    assert need == CacheNeed(sequences=128, tokens=1537, sequence=13 * MIB, block=MIB, floor=256 * MIB)
    assert need.whole == 1665 * MIB
    assert need.describe(need.whole) == "1.63 GiB, for 128 sequences of 1537 tokens"
    assert need.describe(261 * MIB) == "0.25 GiB, room for 20 of 128 sequences of 1537 tokens"
    assert need.describe(MIB / 2) == "0.00 GiB, room for 0 of 128 sequences of 1537 tokens"


def test_a_smaller_type_and_more_processes_take_less_each() -> None:
    assert cache_need(on_cpu(model__dtype="bfloat16"), SHAPE).sequence == 6.5 * MIB
    for processes, each in ((2, 6.5), (4, 3.25), (8, 3.25)):  # 4 heads have keys and values
        pools = {"tensor_parallel": processes, "max": 1}
        assert cache_need(on_cpu(cluster__generators=pools), SHAPE).sequence == each * MIB


def test_all_that_is_needed_as_far_as_the_machines_memory_goes() -> None:
    """An eighth of it, which all engines on the machine share."""
    need = cache_need(on_cpu(), SHAPE)
    assert need.bytes(64 * GIB, 1) == need.bytes(math.inf, 9) == 1665 * MIB
    assert need.bytes(8 * GIB, 1) == GIB
    assert need.bytes(8 * GIB, 2) == 512 * MIB
    assert need.bytes(8 * GIB, 100) == 256 * MIB
    small = dataclasses.replace(need, sequences=3)
    assert (small.whole, small.bytes(64 * GIB, 1)) == (40 * MIB, 256 * MIB)


def test_the_longest_sequence_has_room_whatever_it_takes() -> None:
    """100,000 + 512 + 1 tokens are 786 blocks: more than an eighth of 4 GiB."""
    need = cache_need(on_cpu(prompts__max_tokens=100_000), SHAPE)
    assert need.bytes(4 * GIB, 1) == 787 * MIB
    assert need.describe(787 * MIB) == "0.77 GiB, room for 1 of 128 sequences of 100513 tokens"


def test_layers_with_a_state_have_no_less_than_a_gib() -> None:
    """Two of four layers keep a state: 6.5 MiB a sequence, of 40 such 260.5 MiB with an empty block."""
    stateful = dataclasses.replace(SHAPE, windowed=2, window=0, stateful=2)
    config = on_cpu(prompts__per_round=5, prompts__holdout=10)
    assert cache_need(config, stateful).whole == (40 * 6.5 + 0.5) * MIB
    assert cache_need(config, stateful).bytes(64 * GIB, 1) == GIB


def test_sizes_that_nobody_knows(tmp_path: Path) -> None:
    assert need_of_model(on_cpu(), tmp_path) is None
    assert EngineSection().cache_bytes(64 * GIB) == GIB


# -- who asks


@pytest.mark.parametrize(("generators", "nodes", "engines"), [(1, 1, 1), (3, 1, 3), (4, 3, 2), (5, 3, 3)])
def test_a_plan_and_an_engine_say_the_same(
    generators: int, nodes: int, engines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On machines of 8 GiB; of three nodes the learner has one."""
    memory_is(monkeypatch, 8 * GIB, free=8 * GIB)
    file = NodesConfig.model_validate({"nodes": [{"count": nodes, "cpus": 16, "memory_gib": 8}]})
    asked = on_cpu(cluster__generators={"max": generators})
    config, machines, misfits = _placed(asked, machines_of(file), shared=nodes > 1)
    assert (machines.engines(config), misfits) == (engines, [])
    planned = generator_memory(config, SHAPE, cpu_core(machines.memory), engines).memory.cache
    assert planned == GIB / engines
    need = cache_need(config, SHAPE)
    assert device_arguments(config.cluster.engine, need, engines)["kv_cache_memory_bytes"] == int(planned)


def memory_is(monkeypatch: pytest.MonkeyPatch, machine: float, *, free: float) -> None:
    monkeypatch.setattr(vllm_devices, "main_memory", lambda: machine)
    monkeypatch.setattr(vllm_devices.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")


def test_where_others_have_the_memory_a_cache_is_smaller(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    need = cache_need(on_cpu(), SHAPE)
    memory_is(monkeypatch, 64 * GIB, free=GIB)
    with caplog.at_level(logging.WARNING):
        assert device_arguments(EngineSection(), need)["kv_cache_memory_bytes"] == 512 * MIB
    assert "0.50 GiB, room for 39 of 128 sequences of 1537 tokens; 1.0 GiB of memory are free" in caplog.text
    assert "VLLM_CPU_KVCACHE_SPACE" not in os.environ
    memory_is(monkeypatch, 64 * GIB, free=255 * MIB)
    with pytest.raises(PlacementError, match=r"memory auto is a key-value cache of 0.2 GiB for each of 1 proc") as told:
        device_arguments(EngineSection(), need)
    assert told.value.exit_code == 2 and "lower prompts.max_tokens" in told.value.remedy


def test_what_a_container_may_have_is_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = main_memory()
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(engine_cache, "_LIMITS", (str(tmp_path / "none"), str(limit)))
    for text, found in (("max\n", whole), ("1048576\n", MIB), (f"{2**63}\n", whole)):
        limit.write_text(text)
        assert main_memory() == found


def test_null_of_an_older_run_is_auto_and_the_run_goes_on() -> None:
    saved = on_cpu().to_dict()
    assert saved["cluster"]["generators"]["memory"] == "auto"
    for pool in ("generators", "judges"):
        saved["cluster"][pool]["memory"] = None
    assert differences(with_defaults(saved), on_cpu().to_dict()) == {}
    assert RunConfig.model_validate(saved, strict=True).cluster.judges.memory == "auto"
