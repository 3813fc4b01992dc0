"""Who may share GPUs and take turns, how they are counted, and where they sit."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from rayalign.actors.cluster import Cluster, Node
from rayalign.actors.devices import describe_devices, wishes
from rayalign.actors.placement import describe_placement, place, settled, settled_here
from rayalign.actors.process import use_own_gpu
from rayalign.actors.seats import check_kept, seats_of
from rayalign.config.run import RunConfig
from rayalign.errors import ActorFailedError, PlacementError

ONE_GPU: dict[str, Any] = {"generators": {"gpus": 1}, "learner": {"gpus": 1}}
SHARED: dict[str, Any] = {"placement": "colocated", **ONE_GPU}


def config(cluster: dict[str, Any], **sections: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"base": "demo"},
            "prompts": {"source": "demo"},
            "scoring": [{"type": "rule", "function": "demo"}],
            "objective": {"type": "nca"},
            "cluster": cluster,
            **sections,
        }
    )


def nodes(*gpus: int, grows: bool = False) -> Cluster:
    return Cluster(tuple(Node(f"n{i}", "", 64, count) for i, count in enumerate(gpus)), shared=True, grows=grows)


def eight(**generators: Any) -> RunConfig:
    return config({**SHARED, "generators": {"gpus": 1, **generators}}, training={"workers": 8})


def test_turns_are_taken_on_shared_gpus_and_elsewhere_where_asked_for() -> None:
    assert config(SHARED).cluster.takes_turns
    assert config({"placement": "colocated", "turns": True}).cluster.takes_turns
    for cluster in ({}, {"placement": "colocated"}, ONE_GPU, {"placement": "colocated", "generators": {"gpus": 1}}):
        assert not config(cluster).cluster.takes_turns


@pytest.mark.parametrize(
    ("cluster", "sections", "told"),
    [
        ({"turns": True}, {}, "turns: true with placement auto"),
        ({**SHARED, "generators": {"gpus": 1, "max": 2}}, {"training": {"workers": 2}}, "set both to the same"),
        ({**SHARED, "learner": {"gpus": 0.5}}, {}, "set learner.gpus to 1"),
        ({**SHARED, "generators": {"gpus": 0.5}}, {}, "set learner.gpus to 0.5"),
        (SHARED, {"model": {"base": "demo", "quantization": "nf4"}}, "model.quantization nf4 where generators and"),
        (SHARED, {"training": {"zero_stage": 3}}, "training.zero_stage 3 where generators and learner take turns"),
        (SHARED, {"training": {"workers": 2}}, "set training.workers to 1, or cluster.generators.min and max to 2"),
        ({**SHARED, "generators": {"gpus": 2, "tensor_parallel": 2}}, {}, "set training.workers to 2"),
        (SHARED, {"loop": {"max_staleness": 1}}, "loop.max_staleness 1 with cluster.placement colocated"),
        ({**SHARED, "generators": {"gpus": 1, "sleep": 3}}, {}, "sleep"),
        ({"placement": "colocated", "turns": True}, {"training": {"zero_stage": 3}}, "zero_stage 3 where"),
    ],
)
def test_what_cannot_take_turns_is_refused(cluster: dict[str, Any], sections: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(told)):
        config(cluster, **sections)


def test_shared_gpus_are_counted_once() -> None:
    judge = {"type": "judge", "transport": "vllm", "model": "judge"}
    with_judge = config({**SHARED, "judges": {"gpus": 1}}, scoring=[{"type": "rule", "function": "demo"}, judge])
    assert config(SHARED).wanted_gpus() == 1
    assert config(ONE_GPU).wanted_gpus() == 2
    assert with_judge.wanted_gpus() == 2
    assert eight(min=8, max=8).wanted_gpus() == 8
    assert place(config(SHARED), nodes(1)).generator > 0
    with pytest.raises(PlacementError, match="asks for 2 GPUs and the cluster has 1"):
        place(with_judge, nodes(1))


def test_engines_of_several_gpus_need_them_on_one_node() -> None:
    split = eight(min=2, max=2, gpus=4, tensor_parallel=4)
    assert place(split, nodes(4, 4)).generator > 0
    with pytest.raises(PlacementError, match="generator-1, learner-4, learner-5, learner-6, learner-7 in turns asks"):
        place(split, nodes(6, 2))


def test_too_few_gpus_for_both_are_shared_where_the_config_leaves_it_open() -> None:
    wish = config(ONE_GPU)
    assert settled(wish, nodes(1)).cluster.placement == "colocated"
    for cluster in (nodes(2), nodes(1, grows=True), nodes(0)):
        assert settled(wish, cluster) is wish
    apart = config({**ONE_GPU, "placement": "disaggregated"})
    assert settled(apart, nodes(1)) is apart
    unfit = config(ONE_GPU, training={"zero_stage": 3})
    assert settled(unfit, nodes(1)) is unfit
    with pytest.raises(PlacementError) as told:
        place(unfit, nodes(1))
    assert "cluster.placement: colocated" in told.value.remedy and told.value.exit_code == 2
    assert settled(config({}), nodes(1)).cluster.placement == "auto"


def test_an_engine_leaves_room_for_the_learners_context() -> None:
    assert config(SHARED).cluster.engine.memory == 0.85
    half = {"placement": "colocated", "generators": {"gpus": 0.5}, "learner": {"gpus": 0.5}}
    assert config(half).cluster.engine.memory == 0.425
    assert config({**SHARED, "generators": {"gpus": 1, "memory": 0.5}}).cluster.engine.memory == 0.5
    assert config(ONE_GPU).cluster.engine.memory == "auto"


def test_who_shares_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for module in ("devices", "placement"):
        monkeypatch.setattr(f"rayalign.actors.{module}.gpus_here", lambda: ["A"])
    here = settled_here(config(ONE_GPU))
    assert describe_placement(here).splitlines()[0] == (
        "placement: colocated: generators and learner take turns on the same GPUs"
    )
    assert list(describe_devices(wishes(here)))[1:] == [
        "  GPU 0  A: generator-0, learner-0 in turns (0.85 of its memory)",
        "  CPU    scorer-0",
    ]
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert settled_here(config(ONE_GPU)).cluster.placement == "auto"


A, B = "a" * 56, "b" * 56
"""Ids of nodes."""


def worker(node: str, *gpus: str) -> dict[str, Any]:
    return {"node_id": node, "gpus": list(gpus)}


def test_generators_sit_on_the_workers_gpus() -> None:
    workers = [worker(A, "0"), worker(B, "3"), worker(A, "1"), worker(B, "2")]
    assert [(seat.node_id, seat.gpus) for seat in seats_of(workers, 1)] == [
        (A, ("0",)), (A, ("1",)), (B, ("3",)), (B, ("2",)),
    ]  # fmt: skip
    [first, second] = seats_of(workers, 2)
    assert (first.gpus, second.gpus) == (("0", "1"), ("3", "2"))
    options = second.options()
    assert options["num_gpus"] == 0 and options["scheduling_strategy"].node_id == B
    assert options["runtime_env"]["env_vars"]["CUDA_VISIBLE_DEVICES"] == "3,2"
    assert "DS_ACCELERATOR" not in options["runtime_env"]["env_vars"]


def test_workers_that_make_no_whole_seats_are_refused() -> None:
    with pytest.raises(PlacementError, match="3 of the learner's GPUs are on one node, and engines of 2"):
        seats_of([worker(A, str(i)) for i in range(3)] + [worker(B, "0")], 2)
    with pytest.raises(PlacementError, match="0 of the learner's GPUs"):
        seats_of([{"node_id": A}], 1)


def test_workers_on_other_gpus_than_before_end_the_attempt() -> None:
    before = [worker(A, "0"), worker(B, "1")]
    check_kept(before, before[::-1])
    for now in ([worker(A, "0"), worker(B, "0")], [worker(A, "0"), worker(A, "1")], before[:1]):
        with pytest.raises(ActorFailedError, match="started again on other GPUs") as told:
            check_kept(before, now)
        assert told.value.exit_code == 3


def test_a_worker_uses_the_gpu_that_ray_gave_it_of_those_that_it_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.train.torch
    import torch

    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for device in (torch.device("cuda", 2), torch.device("cpu")):
        monkeypatch.setattr(ray.train.torch, "get_device", lambda device=device: device)
        use_own_gpu()
    assert chosen == [torch.device("cuda", 2)]
