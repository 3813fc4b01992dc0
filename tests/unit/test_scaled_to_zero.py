"""Clusters of the files under cluster/ when only their heads are there, and clusters that nobody makes larger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rayalign.actors import autoscaler
from rayalign.actors.autoscaler import may_grow
from rayalign.actors.cluster import Cluster, _node
from rayalign.actors.placement import place
from rayalign.config.run import RunConfig
from rayalign.errors import PlacementError
from tests.fakes import make_config

ROOT = Path(__file__).parents[2] / "cluster"
HEAD_ID = "ab" * 28


def ray_node(resources: dict[str, float], labels: dict[str, str], node_id: str = HEAD_ID) -> dict[str, Any]:
    """What `ray.nodes()` says of one."""
    return {"NodeID": node_id, "NodeManagerAddress": "10.0.0.1", "Resources": resources, "Labels": labels}


def up_head(name: str) -> dict[str, Any]:
    """The head of a `ray up` file: Ray starts it as one of its type, with its labels."""
    file = yaml.safe_load((ROOT / name).read_text())
    kind = file["available_node_types"][file["head_node_type"]]
    return ray_node(kind["resources"], {**kind["labels"], "ray.io/node-group": file["head_node_type"]})


def kuberay_head(name: str) -> dict[str, Any]:
    """The head pod: the operator starts it as one of its group."""
    spec = yaml.safe_load((ROOT / name).read_text())["spec"]
    group = spec.get("rayClusterSpec", spec)["headGroupSpec"]
    cpus = float(group["rayStartParams"]["num-cpus"])
    return ray_node({"CPU": cpus}, {**group["labels"], "ray.io/node-group": "headgroup"})


HEADS = {
    **dict.fromkeys(("aws.yaml", "gcp.yaml"), up_head),
    **dict.fromkeys(("kuberay/raycluster.yaml", "kuberay/rayjob.yaml"), kuberay_head),
}


def on_gpus(**generators: object) -> RunConfig:
    pools = {"generators": {"gpus": 1, **generators}, "learner": {"gpus": 1}}
    return make_config(cluster={"placement": "disaggregated", **pools})


def seen(head: dict[str, Any]) -> Cluster:
    return Cluster((_node(head["Resources"], head),), shared=True, grows=may_grow([head]))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("most", [1, 4])
def test_a_run_for_gpus_is_accepted(name: str, most: int) -> None:
    placement = place(on_gpus(max=most), seen(HEADS[name](name)))
    assert placement.generator_labels == {"rayalign-role": "generator"}
    assert placement.learner_labels == {"rayalign-role": "learner"}
    assert placement.generator > 0


@pytest.mark.parametrize("name", HEADS)
def test_so_is_one_whose_head_offers_no_cpus(name: str) -> None:
    head = HEADS[name](name)
    head["Resources"] = {"CPU": 0}
    assert place(on_gpus(), seen(head)).learner > 0


REPORTS = {
    "no autoscaler": ({"active_nodes": {f"node_{HEAD_ID}": 1}}, False),
    "nobody reports": ({}, False),
    "an autoscaler's head": ({"active_nodes": {"ray.head.default": 1}}, True),
}


@pytest.mark.parametrize("case", REPORTS)
def test_a_head_without_a_type_is_looked_up(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report, grows = REPORTS[case]
    monkeypatch.setattr(autoscaler, "_reported", lambda: report)
    cluster = seen(ray_node({"CPU": 8}, {}))
    assert cluster.grows is grows
    if grows:
        assert place(on_gpus(), cluster).learner > 0
    else:
        with pytest.raises(PlacementError, match="asks for 2 GPUs and the cluster has 0, and no autoscaler") as caught:
            place(on_gpus(), cluster)
        assert caught.value.exit_code == 2


def brought(name: str, config: RunConfig) -> dict[str, int]:
    """What Ray's own autoscaler brings of a `ray up` file's node types, for all that a run asks for at once."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import GangResourceRequest
    from ray.core.generated.common_pb2 import LABEL_OPERATOR_IN

    def asked(cpus: float, gpus: float, labels: dict[str, str]) -> Any:
        selector = [(key, LABEL_OPERATOR_IN, [value]) for key, value in labels.items()]
        return ResourceRequestUtil.make({"CPU": cpus, "GPU": gpus}, label_selectors=[selector])

    placement = place(config, seen(up_head(name)))
    assert placement.generator_labels and placement.learner_labels
    file = AutoscalingConfig(yaml.safe_load((ROOT / name).read_text()), skip_content_hash=True)
    generators = [asked(placement.generator, 1, placement.generator_labels)] * config.cluster.generators.max
    learner = GangResourceRequest(requests=[asked(placement.learner, 1, placement.learner_labels)])
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=file.get_node_type_configs(),
            max_num_nodes=file.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count(generators),
            gang_resource_requests=[learner],
        )
    )
    assert not reply.infeasible_resource_requests and not reply.infeasible_gang_resource_requests
    return {launch.instance_type: launch.count for launch in reply.to_launch}


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_the_autoscaler_brings_a_node_for_each_replica_that_may_join(name: str) -> None:
    """On the node types that the labels name, though both have the same GPU and CPUs."""
    assert brought(name, on_gpus(max=4)) == {"generator": 4, "learner": 1}
    assert brought(name, on_gpus()) == {"generator": 1, "learner": 1}
