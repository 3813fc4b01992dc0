"""A judge that the run holds itself: a real vLLM engine (CPU, the demo policy) in an actor, asked by a real scorer."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.run import RunConfig
from rayalign.launch.models import read_scorers
from rayalign.records import SampledShard, ScoredSample, Shard
from rayalign.rendering.template import UNDATED
from rayalign.scoring.judges.templates import make_template
from tests.integration.conftest import small_config
from tests.unit.judge_cases import prompt, samples

pytestmark = [pytest.mark.integration, pytest.mark.slow]
CONFIG = small_config(
    scoring=[
        {
            "type": "judge", "transport": "vllm", "model": "demo", "template": "rating", "reasons": False,
            "max_tokens": 32, "temperature": 1.0, "context": 1024, "limits": {"timeout_s": 200},
        }
    ],
    limits={"score_timeout_s": 400},
    cluster={"judges": {"min": 1, "max": 2}},
)  # fmt: skip


def started(config: RunConfig, logs: Path) -> Any:
    from rayalign.actors.cluster import Cluster
    from rayalign.actors.scorer import RayScorer

    sources = read_scorers(config.scoring, config, Path(), UNDATED)
    return RayScorer(config, sources, str(logs), Cluster(nodes=(), shared=False), None, cpus=0.3, say=print)


@pytest.fixture(scope="module")
def scorer(local_ray: None, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    scorer = started(CONFIG, tmp_path_factory.mktemp("logs"))
    judge, own = scorer.ready()
    assert judge["name"] in ("judge-0-0", "judge-0-1") and own["name"] == "scorer-0"
    yield scorer
    scorer.close()


def asked(count: int) -> tuple[list[Any], list[Any]]:
    owner = prompt("List two animals.")
    return [owner], samples(owner, *(f"cat, dog {i}." for i in range(count)))


def scored(scorer: Any, count: int) -> list[ScoredSample]:
    prompts, own = asked(count)
    shard = SampledShard(Shard(0, tuple(prompts)), own)
    [done] = scorer.score([shard])
    return done.rows


def test_replies_are_really_constrained(scorer: Any) -> None:
    """The demo policy knows lists of animals and no JSON; its ratings mean nothing, but each is one."""
    rows = scored(scorer, 24)
    assert [row.scores[0].status for row in rows] == ["ok"] * 24
    assert {row.reward for row in rows} <= set(map(float, range(1, 11)))
    assert all(row.scores[0].latency_s > 0 for row in rows)
    assert [row.reward for row in scored(scorer, 24)] == [row.reward for row in rows]


@pytest.mark.parametrize("template", ["cut", "pairwise"])
def test_every_reply_fits_the_schema_or_was_cut(scorer: Any, template: Any) -> None:
    from rayalign.actors.judge import ActorTransport

    form = make_template(template, None, reasons=False, structured=True)
    responses = ["cat, dog.", "blue"][: 2 if template == "pairwise" else 1]
    messages = form.messages(prompt("List two animals."), responses, "0" * 32)
    transport = ActorTransport(scorer.judges.actors["judge:rating:demo"])

    async def ask() -> list[Any]:
        return await asyncio.gather(*(transport.complete(messages, form.schema, seed) for seed in range(12)))

    replies = asyncio.run(ask())
    whole = [json.loads(reply.text) for reply in replies if not reply.truncated]
    if template == "pairwise":
        assert len(whole) == 12
        assert {tuple(verdict) for verdict in whole} == {("better",)}
        assert {verdict["better"] for verdict in whole} <= {"A", "B", "tie"}
    else:
        # A model this small does not end what it may write freely.
        assert all(re.match(r'\{\s*"judgment":\s*"', reply.text) for reply in replies)
        assert all(list(verdict) == ["judgment"] for verdict in whole)
    assert all(0 < reply.output_tokens <= 32 < reply.input_tokens for reply in replies)


def test_a_judge_that_dies_is_started_again_and_no_answer_is_lost(scorer: Any) -> None:
    import ray

    actors = scorer.judges.actors["judge:rating:demo"]

    def pids() -> list[int]:
        return [described["pid"] for described in ray.get([actor.describe.remote() for actor in actors], timeout=400)]

    before = pids()
    expected = [row.reward for row in scored(scorer, 48)]
    ref = scorer.pool.replicas[0].score.remote(*asked(48))
    time.sleep(0.3)  # so that questions are under way; nothing hangs on it
    os.kill(before[0], signal.SIGKILL)
    rows = ray.get(ref, timeout=400)
    assert [now == then for now, then in zip(pids(), before, strict=True)] == [False, True]
    assert [row.scores[0].status for row in rows] == ["ok"] * 48
    assert [row.reward for row in rows] == expected
    # For good: the other one answers all.
    ray.kill(actors[0])
    assert [row.reward for row in scored(scorer, 48)] == expected


def test_a_judge_in_two_processes_replies_as_one_in_one(scorer: Any, tmp_path: Path) -> None:
    expected = [row.reward for row in scored(scorer, 24)]
    scorer.close()
    two = started(
        RunConfig.model_validate({**CONFIG.to_dict(), "cluster": {"judges": {"tensor_parallel": 2}}}), tmp_path
    )
    try:
        judge, _ = two.ready()
        assert judge["name"] == "judge-0"
        assert [row.reward for row in scored(two, 24)] == expected
    finally:
        two.close()
