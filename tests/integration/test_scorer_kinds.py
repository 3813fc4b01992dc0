"""A whole run with each kind of scorer alone, from the command line to the report."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rayalign.demo import world
from rayalign.store.run_dir import RunDir
from tests.integration.conftest import statuses
from tests.integration.judge_server import KEY, MODEL, judge_server
from tests.integration.test_run import finish, start
from tests.processes import free_port

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROUND = ("run.rounds=1", "prompts.per_round=24", "prompts.holdout=16", "evaluation.responses=1")
ANSWERS, HELD_OUT = 24 * 4, 16
TWO_JUDGMENTS = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "schema": {
            "type": "object",
            "properties": {"judgment": {"type": "string", "enum": ["perfect", "Too few animals."]}},
            "required": ["judgment"],
            "additionalProperties": False,
        },
    },
}


def run(folder: Path, section: dict[str, Any], *settings: str) -> tuple[dict[str, Counter[str]], dict[str, Any]]:
    """Statuses of the scores of round 1's training answers, and the round's report."""
    output = finish(start(folder, *ROUND, f"scoring={json.dumps([section])}", *settings))
    assert "report:" in output and "Traceback" not in output
    run_dir = RunDir(folder / "quickstart")
    report = run_dir.round(1).report() or {}
    told = {name: Counter(one["status"]) for name, one in report["trust"]["scorers"].items()}
    found = statuses(run_dir, 1)
    assert found.keys() == told.keys()
    assert all(counts.total() == ANSWERS for counts in found.values())
    assert all(counts.total() == ANSWERS + HELD_OUT for counts in told.values())
    return found, report


def world_prompts(folder: Path, **fields: Any) -> str:
    """The demo world's prompts as a file, with more metadata; `prompts.source` of it."""
    rows = [{"messages": row["messages"], **fields} for row in world.prompts()[:200]]
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"prompts.source={path}"


def test_similarity_to_the_reference_answer(demo_folder: Path, tmp_path: Path) -> None:
    found, report = run(tmp_path, {"type": "similarity", "model": "demo"})
    assert [counts["ok"] for counts in found.values()] == [ANSWERS]
    assert 0.3 < report["metrics"]["mean_reward"]["value"] < 1


def test_code_against_tests(demo_folder: Path, tmp_path: Path) -> None:
    """Lists are no Python: they fail their tests, which is a reward and no failed score."""
    source = world_prompts(tmp_path, tests=["pass", "assert sort([2, 1]) == [1, 2]"])
    found, report = run(tmp_path, {"type": "unit_test", "workers": 2}, source)
    assert found == {"unit_test:tests": {"ok": ANSWERS}}
    assert report["metrics"]["mean_reward"]["value"] in (0.0, 0.5)


def test_an_answer_to_match(demo_folder: Path, tmp_path: Path) -> None:
    """A list holds no number: no answer is found, which is a reward of 0."""
    found, report = run(tmp_path, {"type": "answer"}, world_prompts(tmp_path, answer="... so it is\n#### 3"))
    assert found == {"answer:answer": {"ok": ANSWERS}}
    assert report["trust"]["scorers"]["answer:answer"]["aspects"]["no_answer"] == ANSWERS + HELD_OUT


def test_a_judge_in_an_actor_of_the_run(demo_folder: Path, tmp_path: Path) -> None:
    judge = {
        "type": "judge", "transport": "vllm", "model": "demo", "template": "rating", "reasons": False,
        "max_tokens": 32, "temperature": 1.0, "context": 1024,
    }  # fmt: skip
    found, report = run(tmp_path, judge, "limits.score_timeout_s=400", "prompts.max_tokens=128")
    assert found == {"judge:rating:demo": {"ok": ANSWERS}}
    assert 1 <= report["metrics"]["mean_reward"]["value"] <= 10


@pytest.mark.parametrize("template", ["rating", "pairwise", "cut"])
def test_a_judge_behind_an_endpoint(
    demo_folder: Path, tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cut` asks for free text, which the demo policy ends now and then where it babbles: it gets a choice of two."""
    monkeypatch.setenv("TEST_JUDGE_KEY", KEY)
    port = free_port()
    judge = {
        "type": "judge", "transport": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "model": MODEL,
        "template": template, "reasons": False, "api_key_env": "TEST_JUDGE_KEY", "max_tokens": 48, "temperature": 1.0,
        "limits": {"concurrency": 12, "retries": 1},
    }  # fmt: skip
    objective: tuple[str, ...] = ()
    if template == "cut":
        judge["request"] = {"response_format": TWO_JUDGMENTS}
        objective = ("objective={type: cut}",)
    with judge_server(demo_folder, tmp_path / "server.log", port):
        found, report = run(tmp_path, judge, *objective)
    name = f"judge:{template}:{MODEL}"
    assert found == {name: {"ok": ANSWERS}}
    if template == "pairwise":
        assert 0 <= report["trust"]["scorers"][name]["flip_rate"]["value"] <= 1
    assert not [f for f in (tmp_path / "quickstart").rglob("*") if f.is_file() and KEY.encode() in f.read_bytes()]
