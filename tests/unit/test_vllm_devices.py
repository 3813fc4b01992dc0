"""What vLLM is told of its devices: the real CPU build, and a platform that stands for a GPU of 80 GiB."""

from __future__ import annotations

import os
import sys
from multiprocessing.resource_tracker import unregister
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from rayalign.actors.vllm_devices import GIB, device_arguments, forget_shared_names
from rayalign.config.cluster import EngineSection
from rayalign.errors import PlacementError

VARIABLES = ("VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND")


class Gpu80:
    """As vLLM's build for CUDA tells of the machine."""

    def is_cpu(self) -> bool:
        return False

    def get_device_total_memory(self) -> int:
        return 80 * GIB


@pytest.fixture(autouse=True)
def own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import vllm.platforms

    monkeypatch.setattr(vllm.platforms, "_current_platform", Gpu80())


def test_memory_on_cpu_is_the_cache_of_each_process() -> None:
    assert device_arguments(EngineSection()) == {"kv_cache_memory_bytes": GIB}
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "7"
    assert device_arguments(EngineSection(memory=1.5)) == {"kv_cache_memory_bytes": 3 * GIB // 2}
    assert "VLLM_CPU_KVCACHE_SPACE" not in os.environ
    [share] = device_arguments(EngineSection(memory=0.01)).values()
    assert isinstance(share, int) and 0 < share < 1024 * GIB


def test_more_memory_than_the_machine_has_is_refused() -> None:
    with pytest.raises(PlacementError, match="for each of 1 processes"):
        device_arguments(EngineSection(memory=1e6))
    with pytest.raises(PlacementError, match="for each of 64 processes"):
        device_arguments(EngineSection(memory=0.5, tensor_parallel=64))


def test_an_engine_of_several_processes_needs_no_numa_node_for_each() -> None:
    found = device_arguments(EngineSection(tensor_parallel=2))
    told = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp", "kv_cache_memory_bytes": GIB}
    assert found == told
    assert os.environ["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


@pytest.mark.parametrize(
    ("devices", "share"),
    [
        ({"gpus": 1}, None),
        ({"gpus": 2, "tensor_parallel": 2}, None),
        ({"gpus": 0.5}, 0.45),
        ({"gpus": 1, "memory": 0.7}, 0.7),
        ({"gpus": 0.5, "memory": 0.5}, 0.5),
        ({"gpus": 1, "memory": 20}, 0.25),
        ({"gpus": 2, "tensor_parallel": 2, "memory": 60}, 0.75),
        ({"gpus": 0.5, "memory": 40}, 0.5),
    ],
)
def test_memory_on_a_gpu_is_its_share(gpu: None, devices: dict[str, float], share: float | None) -> None:
    assert device_arguments(EngineSection(**devices)).get("gpu_memory_utilization") == share


def test_more_memory_than_the_reserved_part_of_a_gpu_is_refused(gpu: None) -> None:
    with pytest.raises(PlacementError, match=r"memory 41 GiB of a GPU with 80.0 GiB, of which gpus 0.5 reserves 40.0"):
        device_arguments(EngineSection(gpus=0.5, memory=41))
    with pytest.raises(PlacementError, match="memory 81 GiB"):
        device_arguments(EngineSection(gpus=1, memory=81))


def test_the_build_of_another_profile_is_refused(request: pytest.FixtureRequest) -> None:
    with pytest.raises(PlacementError, match="installed is its CPU build") as told:
        device_arguments(EngineSection(gpus=1))
    assert told.value.exit_code == 2
    request.getfixturevalue("gpu")
    with pytest.raises(PlacementError, match="an engine on CPU is asked for") as told:
        device_arguments(EngineSection())
    assert "make setup" in told.value.remedy


@pytest.mark.skipif(sys.platform != "linux", reason="names of shared memory are files on Linux")
def test_shared_memory_without_a_name_is_still_shared() -> None:
    """Two that have it open go on; no file is left that nobody would remove if both were killed."""
    mine = SharedMemory(create=True, size=16)
    other = SharedMemory(mine.name)
    file = Path("/dev/shm") / mine.name
    assert file.exists()
    forget_shared_names()
    assert not file.exists()
    mine.buf[3] = 7
    assert other.buf[3] == 7
    unregister(f"/{mine.name}", "shared_memory")
    other.close()
    mine.close()
