"""Which GPUs actors ask for, what of that is refused, and who is told of which device."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from rayalign.actors.cluster import Cluster, Node
from rayalign.actors.devices import Wish, describe_devices, lay_out, wishes
from rayalign.actors.placement import describe_placement, place
from rayalign.actors.process import check_torch, runtime_env
from rayalign.config.run import RunConfig
from rayalign.errors import PlacementError
from tests.unit.test_placement import config, with_judges


def changed(sections: dict[str, object]) -> RunConfig:
    return RunConfig.model_validate({**config().model_dump(mode="json"), **sections})


def nodes(*gpus: int, cpus: float = 64) -> Cluster:
    return Cluster(tuple(Node(f"n{i}", "", cpus, count) for i, count in enumerate(gpus)), shared=True)


@pytest.mark.parametrize(
    ("pools", "told"),
    [
        ({"generators": {"gpus": 4}}, "gpus 4 would reserve 4 GPUs for an engine that uses one: set tensor_parallel"),
        ({"judges": {"gpus": 2}}, "gpus 2 would reserve 2 GPUs"),
        ({"generators": {"gpus": 1.5}}, "neither a part of one GPU nor a whole number"),
        ({"generators": {"gpus": 1, "tensor_parallel": 2}}, "runs on 2 GPUs of one node, and gpus is 1: set gpus to 2"),
        ({"judges": {"gpus": 0.5, "tensor_parallel": 2}}, "gpus is 0.5: set gpus to 2, or to 0"),
        ({"learner": {"gpus": 4}}, "each uses one GPU at most, and 4 would be reserved"),
        ({"scorers": {"gpus": 1.5}}, "each uses one GPU at most"),
        ({"generators": {"gpus": 0.5, "memory": 0.9}}, "memory 0.9 is more of a GPU than the 0.5 that gpus reserves"),
        ({"judges": {"gpus": 0.25, "memory": 0.3}}, "lower memory, or raise gpus"),
        ({"generators": {"memory": 0}}, "greater than 0"),
        ({"generators": {"tensor_parallel": 0}}, "greater than or equal to 1"),
        ({"generators": {"gpus": float("inf")}}, "finite number"),
        ({"learner": {"gpus": float("nan")}}, "finite number"),
    ],
)
def test_what_is_reserved_and_not_used_is_refused(pools: dict[str, dict[str, float]], told: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(told)):
        config(**pools)


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"model": {"base": "demo", "full": True}}, "model.full with cluster.generators.tensor_parallel 2"),
        ({"sync": {"mode": "merged"}}, "sync.mode merged with cluster.generators.tensor_parallel 2"),
    ],
)
def test_an_engine_of_several_processes_takes_adapters_only(sections: dict[str, object], told: str) -> None:
    split = {"cluster": {"generators": {"tensor_parallel": 2}}}
    assert config().merges and not changed(split).merges
    with pytest.raises(ValidationError, match=told):
        changed({**split, **sections})


def test_workers_do_not_share_a_gpu() -> None:
    half = {"cluster": {"learner": {"gpus": 0.5}}}
    assert changed(half).cluster.learner.gpus == 0.5
    with pytest.raises(ValidationError, match=r"cluster.learner.gpus 0.5 with training.workers 2"):
        changed({**half, "training": {"workers": 2}})


def test_an_actor_without_gpus_sees_none() -> None:
    assert runtime_env(1, gpu=False)["env_vars"]["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in runtime_env(1, gpu=True)["env_vars"]


def test_torch_of_the_cpu_profile_is_refused_where_a_gpu_is_asked_for() -> None:
    import torch

    check_torch(0, "cluster.learner.gpus")
    if torch.cuda.is_available():
        pytest.skip("torch sees a GPU here")
    with pytest.raises(PlacementError, match=r"cluster.learner.gpus is 1, and torch"):
        check_torch(1, "cluster.learner.gpus")


def on_gpus(asked: list[Wish], *gpus: int) -> list[list[list[str]]]:
    return [[[wish.actor for wish in gpu] for gpu in node] for node in lay_out(asked, gpus).nodes]


def test_parts_of_a_gpu_share_one_and_engines_stay_on_a_node() -> None:
    asked = [Wish("s", 0.25), Wish("j", 0.5), Wish("l", 1), Wish("g", 2), Wish("r", 0), Wish("t", 0.25)]
    assert on_gpus(asked, 3, 1) == [[["g"], ["g"], ["l"]], [["j", "s", "t"]]]


def test_parts_that_do_not_add_up_find_no_place() -> None:
    """Three times .6 is less than two GPUs, and one of them would lie across both."""
    thirds = [Wish(f"g{i}", 0.6) for i in range(3)]
    assert [wish.actor for wish in lay_out(thirds, [2]).unplaced] == ["g2"]
    assert lay_out(thirds, [3]).unplaced == []
    assert lay_out([Wish(f"g{i}", 0.1) for i in range(10)], [1]).unplaced == []


def test_what_no_node_has_room_for_is_refused() -> None:
    split = {"gpus": 4, "tensor_parallel": 4}
    with pytest.raises(PlacementError, match="generator-0 asks for 4 GPUs of one node, and there is none left") as told:
        place(config(generators=split), nodes(2, 2))
    assert "the nodes have 2, 2 GPUs" in told.value.why and told.value.exit_code == 2
    assert place(config(generators=split), nodes(2, 4)).generator == 4
    parts = config(generators={"gpus": 0.6, "min": 3, "max": 3})
    with pytest.raises(PlacementError, match=r"generator-2 asks for 0.6 of a GPU"):
        place(parts, nodes(2))


def test_processes_on_cpu_stay_on_a_node_too_and_count_as_actors() -> None:
    wish = config(generators={"tensor_parallel": 2})
    shares = place(wish, nodes(0, cpus=2))
    assert shares.generator == pytest.approx(2 * shares.learner)
    assert shares.generator + shares.scorer + shares.learner <= 1
    with pytest.raises(PlacementError, match="tensor_parallel is 4, and no node has more than 2 logical CPUs"):
        place(config(generators={"tensor_parallel": 4}), nodes(0, 0, cpus=2))


def test_who_gets_what_is_said_device_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("rayalign.actors.devices.gpus_here", lambda: ["A", "B", "C"])
    asked = wishes(config(generators={"gpus": 2, "tensor_parallel": 2, "memory": 0.8}, learner={"gpus": 1}))
    assert list(describe_devices(asked))[1:] == [
        "  GPU 0  A: generator-0 (0.8 of its memory)",
        "  GPU 1  B: generator-0 (0.8 of its memory)",
        "  GPU 2  C: learner-0",
        "  CPU    scorer-0",
    ]
    halves = list(describe_devices(wishes(with_judges(2, gpus=0.5))))
    assert halves[1] == "  GPU 0  A: judge-0 (0.45 of its memory), judge-1 (0.45 of its memory)"
    monkeypatch.setattr("rayalign.actors.devices.gpus_here", list)
    assert "  not here: one GPU for learner-0" in list(describe_devices(asked))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "  2 GPUs of one node  generator-0 (0.8 of its memory)" in list(describe_devices(asked))


def test_a_run_on_cpu_asks_for_no_device() -> None:
    [line] = describe_devices(wishes(config()))
    assert line == "devices: generator-0, learner-0, scorer-0 on CPU, where no GPU is visible to them"


def test_processes_are_described() -> None:
    assert "1 x vLLM in 2 processes, 2 GPU" in describe_placement(config(generators={"gpus": 2, "tensor_parallel": 2}))
