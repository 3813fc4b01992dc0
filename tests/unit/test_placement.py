"""Who gets which share of the cluster, and which wishes are refused before anything is loaded."""

from __future__ import annotations

import pytest

from rayalign.actors.cluster import Cluster, Node
from rayalign.actors.placement import describe_placement, keep_off, place
from rayalign.config.run import RunConfig
from rayalign.errors import PlacementError


def config(**cluster: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"base": "demo"},
            "prompts": {"source": "demo"},
            "scoring": [{"type": "rule", "function": "demo"}],
            "objective": {"type": "nca"},
            "cluster": cluster,
        }
    )


def cluster(*cpus: float, gpus: float = 0, max_gpus: float | None = None, shared: bool = True) -> Cluster:
    nodes = tuple(Node(f"node{i}", f"10.0.0.{i}", c, gpus if i == 0 else 0) for i, c in enumerate(cpus))
    return Cluster(nodes, gpus if max_gpus is None else max_gpus, shared)


@pytest.mark.parametrize("cpus", [(2,), (2, 2), (0, 2), (64, 2), (3, 16, 16)])
def test_a_whole_cpu_stays_free_on_every_node_that_takes_actors(cpus: tuple[float, ...]) -> None:
    shares = place(config(), cluster(*cpus))
    everything = shares.generator + shares.scorer + shares.learner
    assert shares.generator > 0
    assert all(node - everything >= 1 for node in cpus if node >= 2)


def test_large_nodes_give_each_actor_one_cpu() -> None:
    assert place(config(), cluster(64)).generator == 1.0


@pytest.mark.parametrize(
    ("placement", "cpus", "apart"),
    [
        ("auto", (2,), False),
        ("auto", (2, 2), True),
        ("auto", (0, 2), False),
        ("colocated", (2, 2), False),
        ("disaggregated", (2, 2), True),
    ],
)
def test_generators_keep_off_the_learners_node_where_there_are_others(
    placement: str, cpus: tuple[float, ...], apart: bool
) -> None:
    assert place(config(placement=placement), cluster(*cpus)).apart is apart


def test_disaggregated_needs_two_nodes_on_a_shared_cluster() -> None:
    with pytest.raises(PlacementError, match="different nodes"):
        place(config(placement="disaggregated"), cluster(4))
    assert place(config(placement="disaggregated"), cluster(4, shared=False)).apart is False


def test_gpus_decide_who_goes_where() -> None:
    wish = config(placement="disaggregated", generators={"gpus": 1}, learner={"gpus": 1})
    assert place(wish, cluster(8, 8, gpus=2)).apart is False


def test_gpus_that_no_node_type_has_are_refused() -> None:
    with pytest.raises(PlacementError, match="asks for 1 GPUs and the cluster has none, and no node type"):
        place(config(generators={"gpus": 1}), cluster(8))


def test_gpus_that_the_autoscaler_may_add_count() -> None:
    assert place(config(generators={"gpus": 1}), cluster(8, max_gpus=4)).generator > 0
    with pytest.raises(PlacementError, match="asks for 8 GPUs and the cluster has 4"):
        place(config(generators={"gpus": 1, "min": 8, "max": 8}), cluster(8, max_gpus=4))


def with_judges(count: int, gpus: float = 0) -> RunConfig:
    held = [{"type": "judge", "transport": "vllm", "model": f"judge-{i}"} for i in range(count)]
    wish = config(judges={"gpus": gpus}).model_dump(mode="json")
    return RunConfig.model_validate({**wish, "scoring": [*wish["scoring"], *held]})


def test_judges_that_the_run_holds_take_their_share() -> None:
    """Three actors and two judges on the one CPU that is not kept free."""
    assert place(with_judges(2), cluster(2)).scorer == 0.2
    with pytest.raises(PlacementError, match="asks for 1 GPUs and the cluster has none"):
        place(with_judges(2, gpus=0.5), cluster(8))
    assert place(with_judges(2, gpus=0.5), cluster(8, gpus=1)).scorer == 1.0


def test_judges_are_described() -> None:
    assert "judge      judge:cut:judge-1, vLLM, 0.5 GPU" in describe_placement(with_judges(2, gpus=0.5))
    assert "judge" not in describe_placement(config())


@pytest.mark.parametrize("cpus", [(1,), (1, 1), (0,)])
def test_nodes_with_one_cpu_are_too_small(cpus: tuple[float, ...]) -> None:
    with pytest.raises(PlacementError, match="no node has two logical CPUs"):
        place(config(), cluster(*cpus))


def test_label_selector_excludes_nodes() -> None:
    assert keep_off({"b", "a"}) == {"ray.io/node-id": "!in(a,b)"}


def test_labelled_node_types_keep_the_learner_off_spot_machines() -> None:
    nodes = (Node("h", "10.0.0.1", 6, 0, role="head"), Node("l", "10.0.0.2", 8, 0, role="learner"))
    placement = place(config(), Cluster(nodes, 0, shared=True))
    assert placement.learner_labels == {"rayalign-role": "learner"}
    assert placement.generator_labels == {"rayalign-role": "generator"}
    assert not placement.apart


def test_the_learner_stays_with_the_driver_which_the_run_needs_anyway() -> None:
    nodes = (Node("here", "10.0.0.1", 2, 0), Node("there", "10.0.0.2", 2, 0))
    placement = place(config(), Cluster(nodes, 0, shared=True, driver_node="here"))
    assert placement.learner_labels == {"ray.io/node-id": "here"}
    assert placement.generator_labels == {"ray.io/node-id": "!in(here)"}
    headless = (Node("head", "10.0.0.1", 0, 0), *nodes)
    assert place(config(), Cluster(headless, 0, shared=True, driver_node="head")).apart
