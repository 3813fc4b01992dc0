"""Scorer actors and the cache in the run folder: on the driver's node it is used, on any other it is not opened."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from rayalign.actors.cluster import Cluster
from rayalign.actors.scorer import RayScorer
from rayalign.records import SampledShard, Shard
from rayalign.scoring.services.cache import FILE
from rayalign.scoring.sources import ScorerSource
from rayalign.store.run_dir import RunDir
from tests.fakes import make_config
from tests.http_server import Request, Respond, Server
from tests.unit.judge_cases import prompt, samples

pytestmark = pytest.mark.integration


def lengths(request: Request) -> Respond:
    return Respond({"scores": [{"id": item["id"], "reward": len(item["response"])} for item in request.body["items"]]})


def score(server: Server, run_dir: RunDir, driver_node: str, logs: Path) -> list[float | None]:
    """By an actor of its own."""
    config = make_config(scoring=[{"type": "remote", "url": f"{server.url}/score"}])
    cluster = Cluster((), False, driver_node)
    scorer = RayScorer(config, [ScorerSource()], str(logs), cluster, run_dir.cache, cpus=0.5, say=print)
    owner = prompt()
    shard = SampledShard(Shard(0, (owner,)), samples(owner, "a", "bb"))
    try:
        [scored] = scorer.score([shard])
    finally:
        scorer.pool.close()
    return [row.reward for row in scored.rows]


def test_the_next_actor_finds_what_the_last_one_was_given(local_ray: None, tmp_path: Path) -> None:
    here = ray.get_runtime_context().get_node_id()
    with Server(lengths) as server:
        assert score(server, RunDir(tmp_path / "elsewhere"), "another node", tmp_path) == [1.0, 2.0]
        assert not (tmp_path / "elsewhere").exists()
        assert [score(server, RunDir(tmp_path / "run"), here, tmp_path) for _ in range(2)] == [[1.0, 2.0]] * 2
        assert len(server.requests) == 2
    assert (tmp_path / "run" / "cache" / FILE).is_file()
