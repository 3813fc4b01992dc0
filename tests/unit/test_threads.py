"""How many threads each process gets: never more at a time than the node has cores, and none of these idle."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest

from rayalign.actors.cluster import Cluster, Node
from rayalign.actors.placement import place
from rayalign.actors.thread_trial import fastest, threads_for
from rayalign.actors.threads import Threads
from rayalign.config.run import RunConfig

RULE = {"type": "rule", "function": "demo"}
REWARD_MODEL = {"type": "reward_model", "model": "demo"}
JUDGE = {"type": "judge", "transport": "vllm", "model": "demo"}

STALE: dict[str, object] = {"max_staleness": 1}


def planned(
    cluster: Cluster,
    replicas: int = 1,
    ranks: int = 1,
    scoring: tuple[dict[str, object], ...] = (RULE,),
    loop: dict[str, object] | None = None,
    **pools: dict[str, object],
) -> Threads:
    config = RunConfig.model_validate(
        {
            "model": {"base": "demo"},
            "prompts": {"source": "demo"},
            "scoring": list(scoring),
            "objective": {"type": "nca"},
            "training": {"workers": ranks},
            "loop": loop or {},
            "cluster": {"generators": {"min": replicas, "max": replicas, **pools.pop("generators", {})}, **pools},
        }
    )
    return place(config, cluster).threads


def machines(*cores: float, roles: tuple[str | None, ...] = (), grows: bool = False) -> Cluster:
    named = roles or (None,) * len(cores)
    nodes = tuple(Node(f"n{i}", f"10.0.0.{i}", c, 0, named[i]) for i, c in enumerate(cores))
    return Cluster(nodes, shared=len(cores) > 1, driver_node="n0", grows=grows)


@pytest.mark.parametrize(("replicas", "each"), [(1, 64), (4, 16), (16, 4), (64, 1), (100, 1)])
def test_replicas_on_one_machine_share_its_cores(replicas: int, each: int) -> None:
    assert planned(machines(64), replicas).generator == each


@pytest.mark.parametrize(("ranks", "each"), [(1, 64), (4, 16), (5, 12)])
def test_the_learner_has_them_all_in_its_phase(ranks: int, each: int) -> None:
    assert planned(machines(64), ranks=ranks).learner == each


@pytest.mark.parametrize("loop", [STALE, {"evaluate_beside": True}])
@pytest.mark.parametrize(("replicas", "ranks", "each"), [(1, 1, 32), (4, 1, 12), (4, 4, 8), (64, 64, 1)])
def test_those_that_work_beside_each_other_share_them(
    replicas: int, ranks: int, each: int, loop: dict[str, object]
) -> None:
    found = planned(machines(64), replicas, ranks, loop=loop)
    assert found.learner == each
    assert found.generator == max(1, (64 - ranks * each) // replicas)


def test_those_that_work_beside_each_other_on_other_nodes_do_not() -> None:
    assert planned(machines(8, 32), loop=STALE) == planned(machines(8, 32)) == Threads(generator=32, learner=8)


def test_two_cores_for_a_generator_and_a_learner_at_once() -> None:
    assert planned(machines(2), loop=STALE) == Threads()


@pytest.mark.parametrize(("cores", "each"), [(2, 2), (3, 3), (1, 1)])
def test_small_machines(cores: int, each: int) -> None:
    found = planned(machines(cores, grows=True))
    assert (found.generator, found.learner, found.scorer, found.judge) == (each, each, 1, 1)


def test_whoever_computes_beside_the_generators_takes_a_share() -> None:
    found = planned(machines(64), 2, scoring=(REWARD_MODEL, JUDGE), judges={"min": 2, "max": 2})
    assert (found.scorer, found.judge) == (12, 12)
    assert 2 * found.generator + found.scorer + 2 * found.judge == 64


def test_machines_that_are_only_planned_with() -> None:
    """`rayalign plan` counts GPUs and gives its machines all the cores that anybody may want."""
    assert planned(machines(math.inf)).generator == 1024


def test_processes_of_an_engine_count_each() -> None:
    assert planned(machines(16), 2, generators={"tensor_parallel": 4}).generator == 2


def test_generators_apart_from_the_learner() -> None:
    """On the nodes that are not the driver's, spread over them."""
    found = planned(machines(8, 32, 32), 4)
    assert (found.generator, found.learner) == (16, 8)


def test_roles_and_nodes_that_are_still_to_come() -> None:
    nodes = machines(4, 16, 32, roles=(None, "generator", "learner"))
    assert planned(nodes).generator == 16 and planned(nodes).learner == 32
    coming = planned(machines(4, roles=("head",), grows=True), 3)
    assert (coming.generator, coming.learner) == (1, 1)


def test_what_is_asked_for_is_what_they_get() -> None:
    pools = {
        "generators": {"threads": 5},
        "learner": {"threads": 7},
        "scorers": {"threads": 2},
        "judges": {"threads": 3},
    }
    assert planned(machines(4), **pools) == Threads(generator=5, scorer=2, judge=3, learner=7)


# -- the trial


def test_the_fastest_is_taken_and_of_equals_the_fewest() -> None:
    assert fastest(8, lambda threads: (abs(threads - 4) + 1.0) / 100) == 4
    assert fastest(8, lambda threads: 0.1 if threads > 1 else 0.104) == 1
    assert fastest(6, lambda threads: 0.1 / threads) == 6


def test_a_core_that_is_taken_for_a_moment_changes_nothing() -> None:
    """Half of the tries with both threads are held up."""
    held_up = itertools.cycle([0.0, 0.0, 0.3, 0.3])
    assert fastest(2, lambda threads: 0.1 / threads + (next(held_up) if threads == 2 else 0.0)) == 2


def test_work_that_takes_long_gets_all_threads() -> None:
    tried: list[int] = []

    def seconds(threads: int) -> float:
        tried.append(threads)
        return 0.5

    assert fastest(4, seconds) == 4 and tried == [4, 4]


def test_it_is_tried_once_for_models_of_one_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYALIGN_CACHE", str(tmp_path / "cache"))
    tried: list[int] = []

    def seconds(threads: int) -> float:
        tried.append(threads)
        return 0.1 / threads

    for name, hidden in (("a", 64), ("b", 64), ("c", 128)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"hidden_size": hidden}))
    assert threads_for("decoding", tmp_path / "a", "float32", 2, seconds) == 2 and tried
    tried.clear()
    assert threads_for("decoding", tmp_path / "b", "float32", 2, seconds) == 2 and not tried
    assert threads_for("decoding", tmp_path / "a", "float32", 1, seconds) == 1 and not tried
    assert threads_for("training", tmp_path / "a", "float32", 2, seconds) == 2 and tried
    tried.clear()
    assert threads_for("decoding", tmp_path / "c", "float32", 2, seconds) == 2 and tried


def test_without_a_cache_it_is_tried_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RAYALIGN_CACHE", str(tmp_path / "file" / "cache"))
    (tmp_path / "config.json").write_text("{}")
    assert threads_for("decoding", tmp_path, "float32", 4, lambda threads: 1.0 / threads) == 4
