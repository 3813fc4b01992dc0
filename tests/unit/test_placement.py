"""Who gets which share of the cluster, and which wishes are refused before anything is loaded."""

from __future__ import annotations

import pytest

from rayalign.actors.cluster import Cluster, Node
from rayalign.actors.devices import wishes
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


def cluster(*cpus: float, gpus: float = 0, shared: bool = True, grows: bool = False) -> Cluster:
    nodes = tuple(Node(f"node{i}", f"10.0.0.{i}", c, gpus if i == 0 else 0) for i, c in enumerate(cpus))
    return Cluster(nodes, shared, grows=grows)


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


def test_gpus_that_nobody_brings_are_refused() -> None:
    with pytest.raises(PlacementError, match="asks for 1 GPUs and the cluster has 0, and no autoscaler"):
        place(config(generators={"gpus": 1}), cluster(8))


def test_what_an_autoscaler_may_bring_is_waited_for() -> None:
    """GPUs, nodes with CPUs to offer, and a second node."""
    assert place(config(generators={"gpus": 1, "min": 8, "max": 8}), cluster(8, grows=True)).generator > 0
    shares = place(config(), cluster(0, grows=True))
    assert 0 < shares.generator + shares.scorer + shares.learner <= 1
    assert place(config(placement="disaggregated"), cluster(4, grows=True)).apart


def test_replicas_that_may_join_later_have_their_share_from_the_start() -> None:
    """Where all of them may land on one node, a whole CPU stays free there; on nodes of their own each takes one."""
    shares = place(config(generators={"min": 1, "max": 4}), cluster(2))
    assert 4 * shares.generator + shares.scorer + shares.learner <= 1
    labelled = Cluster((Node("h", "10.0.0.1", 2, 0, role="head"),), shared=True, grows=True)
    assert place(config(generators={"min": 1, "max": 4}), labelled).generator == 1
    assert place(config(generators={"min": 4, "max": 4}), labelled).generator < 1


@pytest.mark.parametrize("cpus", [3, 4, 5, 6, 7, 8, 16])
def test_an_engine_in_several_processes_has_parts_of_one_cpu_or_whole_ones(cpus: int) -> None:
    """Ray refuses 1.2 CPUs."""
    found = place(config(generators={"tensor_parallel": 3}), cluster(cpus)).generator
    assert 0 < found <= 3 and (found <= 1 or found.is_integer())


def with_judges(count: int, gpus: float = 0, most: int = 1) -> RunConfig:
    held = [{"type": "judge", "transport": "vllm", "model": f"judge-{i}"} for i in range(count)]
    wish = config(judges={"gpus": gpus, "max": most}).model_dump(mode="json")
    return RunConfig.model_validate({**wish, "scoring": [*wish["scoring"], *held]})


def test_judges_that_the_run_holds_take_their_share() -> None:
    """Three actors and two judges on the one CPU that is not kept free."""
    assert place(with_judges(2), cluster(2)).scorer == 0.2
    with pytest.raises(PlacementError, match="asks for 1 GPUs and the cluster has 0"):
        place(with_judges(2, gpus=0.5), cluster(8))
    assert place(with_judges(2, gpus=0.5), cluster(8, gpus=1)).scorer == 1.0


def test_actors_of_a_judge_that_may_join_later_have_their_share_from_the_start() -> None:
    """Three actors, and two judges of three each; a run begins with one of each judge."""
    several = with_judges(2, gpus=0.5, most=3)
    assert place(several, cluster(2, gpus=1)).scorer == 0.11
    assert (several.wanted_gpus(least=True), several.wanted_gpus()) == (1, 3)
    asked = [wish.actor for wish in wishes(several) if wish.gpus]
    assert asked == [f"judge-{judge}-{replica}" for judge in range(2) for replica in range(3)]
    assert [wish.actor for wish in wishes(several, least=True) if wish.gpus] == ["judge-0-0", "judge-1-0"]


def test_judges_are_described() -> None:
    assert "judge      1 x judge:cut:judge-1, vLLM, 0.5 GPU each" in describe_placement(with_judges(2, gpus=0.5))
    assert "judge      1 to 3 x judge:cut:judge-0" in describe_placement(with_judges(1, most=3))
    assert "judge" not in describe_placement(config())


def test_pools_that_grow_are_described() -> None:
    assert "generator  1 to 8 x vLLM" in describe_placement(config(generators={"min": 1, "max": 8}))


@pytest.mark.parametrize("cpus", [(1,), (1, 1), (0,)])
def test_nodes_with_one_cpu_are_too_small(cpus: tuple[float, ...]) -> None:
    with pytest.raises(PlacementError, match="no node has two logical CPUs"):
        place(config(), cluster(*cpus))


def test_label_selector_excludes_nodes() -> None:
    assert keep_off({"b", "a"}) == {"ray.io/node-id": "!in(a,b)"}


def test_labelled_node_types_keep_the_learner_off_spot_machines() -> None:
    nodes = (Node("h", "10.0.0.1", 6, 0, role="head"), Node("l", "10.0.0.2", 8, 0, role="learner"))
    placement = place(config(), Cluster(nodes, shared=True))
    assert placement.learner_labels == {"rayalign-role": "learner"}
    assert placement.generator_labels == {"rayalign-role": "generator"}
    assert not placement.apart


def test_the_learner_stays_with_the_driver_which_the_run_needs_anyway() -> None:
    nodes = (Node("here", "10.0.0.1", 2, 0), Node("there", "10.0.0.2", 2, 0))
    placement = place(config(), Cluster(nodes, shared=True, driver_node="here"))
    assert placement.learner_labels == {"ray.io/node-id": "here"}
    assert placement.generator_labels == {"ray.io/node-id": "!in(here)"}
    headless = (Node("head", "10.0.0.1", 0, 0), *nodes)
    assert place(config(), Cluster(headless, shared=True, driver_node="head")).apart
