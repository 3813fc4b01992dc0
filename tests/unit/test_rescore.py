"""`rayalign score`: stored answers scored again; what it says and writes, and what an interruption costs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayalign.cli import exit_code
from rayalign.loop.run import run_rounds
from rayalign.records import ScoredSample
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import read_parquet
from tests.fakes import Fuse, Killed, make_config, make_prompts, make_run
from tests.http_server import Request, Respond, Server, completion

LIKE = "def score(prompt, response): return 10.0 * response.startswith('t[5')\n"
"""Ten times what the run's own scorer gave."""


def make(folder: Path, fuse: Fuse | None = None, **sections: Any) -> RunDir:
    """A run of one round: 40 prompts with 4 answers, in two shards."""
    config = make_config(run={"name": "fake", "rounds": 1}, **sections)
    run = make_run(folder, config, fuse)
    try:
        run_rounds(run)
    except Killed:
        assert fuse is not None
    return run.run_dir


def scorer_file(folder: Path, *scoring: dict[str, Any], **more: Any) -> Path:
    path = folder / "again.yaml"
    path.write_text(yaml.safe_dump({"scoring": list(scoring), **more}))
    return path


def rule(folder: Path, text: str = LIKE, name: str = "like") -> dict[str, Any]:
    (folder / f"{name}.py").write_text(text)
    return {"type": "rule", "function": f"{name}.py:score"}


def score(run: Path, scorer: Path, *more: str) -> int:
    return exit_code(
        ["score", str(run), "--scorer", str(scorer), *(("--round", "1") if "--round" not in more else ()), *more]
    )


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_scores_are_written_beside_the_round_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The new scorer orders all pairs as the old one; the run's own files stay as they are, to the byte."""
    run = tmp_path / "run"
    run_dir = make(run)
    before = hashes(run)
    assert score(run, scorer_file(tmp_path, rule(tmp_path))) == 0
    after = hashes(run)
    assert {path: after[path] for path in before} == before
    folder = run / "rescored" / "again" / "round-0001"
    assert sorted(path.name for path in folder.rglob("*")) == ["00000.parquet", "00001.parquet", "train", "train.json"]
    for shard in (0, 1):
        stored = run_dir.round(1).read_shard("train", shard)
        assert stored is not None
        rows = [
            ScoredSample.from_row(row, one.sample)
            for row, one in zip(read_parquet(folder / "train" / f"{shard:05d}.parquet"), stored, strict=True)
        ]
        assert [row.reward for row in rows] == [10.0 * (one.reward or 0.0) for one in stored]
        assert {row.scores[0].scorer for row in rows} == {"rule:like.py:score"}
    facts = json.loads((folder / "train.json").read_text())
    [scorer], [agreement] = facts["scorers"], facts["agreement"]
    assert (facts["answers"], scorer["n"], scorer["statuses"]) == (160, 160, {"ok": 160})
    assert agreement["stored"] == "rule:demo"
    assert (agreement["spearman"], agreement["pearson"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert agreement["pairs_alike"] == 1.0 and 0 < agreement["pairs"] < 40 * 6
    shown = capsys.readouterr().out
    assert "ok 160" in shown and "100.0%" in shown and "rule:like.py:score" in shown and str(folder) in shown


def test_several_scorers_and_their_combined_reward(tmp_path: Path) -> None:
    """The second orders pairs the other way round and abstains on half; the demo world's judge fails on
    prompts that are not its own, which is said (exit code 3) when all else is written."""
    make(tmp_path / "run")
    other = "def score(prompt, response): return -1.0 * response.startswith('t[5') if len(response) % 2 else None\n"
    scoring = [rule(tmp_path), rule(tmp_path, other, "other"), {"type": "judge", "transport": "demo"}]
    path = scorer_file(tmp_path, *scoring, combine={"type": "min"})
    assert score(tmp_path / "run", path, "--name", "both", "--set", "scoring.0.weight=0") == 3
    facts = json.loads((tmp_path / "run/rescored/both/round-0001/train.json").read_text())
    assert [one["scorer"] for one in facts["scorers"]][:2] == ["rule:like.py:score", "rule:other.py:score"]
    found = {one["scorer"]: one for one in facts["agreement"]}
    assert found["rule:other.py:score"]["pearson"] == pytest.approx(-1.0)
    assert found["rule:other.py:score"]["pairs_alike"] == 0.0
    assert "judge:demo" not in found
    assert facts["combine"]["type"] == "min" and facts["scoring"][0]["weight"] == 0


def test_a_half_finished_round_has_the_shards_that_are_committed(tmp_path: Path) -> None:
    run_dir = next(
        made for ticks in range(40) if (made := make(tmp_path / f"run{ticks}", Fuse(ticks))).round(1).shards("train")
    )
    assert run_dir.round(1).shards("train") == [0] and not run_dir.round(1).finished
    run = run_dir.root.local_path()
    assert score(run, scorer_file(tmp_path, rule(tmp_path))) == 0
    facts = json.loads((run / "rescored/again/round-0001/train.json").read_text())
    assert facts["answers"] == 32 * 4


def test_one_scorers_keys_alone_and_overrides(tmp_path: Path) -> None:
    make(tmp_path / "run")
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump(rule(tmp_path)))
    assert score(tmp_path / "run", path, "--set", "weight=2") == 0
    assert score(tmp_path / "run", path, "--set", "wieght=2") == 2
    facts = json.loads((tmp_path / "run/rescored/one/round-0001/train.json").read_text())
    assert facts["scoring"][0]["weight"] == 2.0
    assert [one["mean"] * 2 for one in facts["scorers"][:1]] == [one["mean"] for one in facts["scorers"][1:]]


def test_held_out_answers_need_the_source_of_their_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "prompts.jsonl"
    make(tmp_path / "run", prompts={"source": str(source), "per_round": 40, "holdout": 40})
    path = scorer_file(tmp_path, rule(tmp_path, "def score(prompt, response): return float(prompt[-1])\n"))
    where = ("--samples", "evaluation", "--round", "0")
    assert score(tmp_path / "run", path, *where) == 2
    assert "held-out prompts are read from the run's prompts.source" in capsys.readouterr().err
    prompts = [prompt.text for prompt in make_prompts(40, "held out")]
    source.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts[1:]))
    assert score(tmp_path / "run", path, *where) == 2
    assert "lacks 1 prompts of the answers" in capsys.readouterr().err
    source.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts))
    assert score(tmp_path / "run", path, *where) == 0
    facts = json.loads((tmp_path / "run/rescored/again/round-0000/evaluation.json").read_text())
    assert facts["scorers"][0]["mean"] == pytest.approx(4.5)


@pytest.mark.parametrize(
    ("arguments", "content", "words"),
    [
        (["--round", "7"], None, ["has no round 7", "its rounds: 0, 1"]),
        (["--round", "0"], None, ["has no train samples", "it has evaluation", "add --samples evaluation"]),
        (["--samples", "greedy"], None, ["has no greedy samples", "it has train and evaluation"]),
        (["--name", "../x"], None, ["--name '../x'"]),
        ([], "", ["again.yaml: the file is empty", "scoring, a list"]),
        ([], "[1]", ["the top level is [1]"]),
        ([], "scoring: []", ["scoring: found []; it must not be empty"]),
        ([], "combine: {type: min}", ["scoring: missing; add it"]),
        ([], "model: {base: demo}\nscoring: [{type: answer}]", ["the key model", "remove it"]),
        ([], "scoring: [{type: answer}, {type: answer}]", ["two scorers are called answer:answer"]),
        ([], "{type: rule, function: none.py:score}", ["none.py"]),
        ([], "{type: remote, url: 'http://127.0.0.1:9/'}", ["the reward service cannot be used"]),
    ],
)
def test_what_cannot_be_scored_is_said(
    tmp_path: Path, arguments: list[str], content: str | None, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "run")
    path = scorer_file(tmp_path, rule(tmp_path))
    if content is not None:
        path.write_text(content)
    assert score(tmp_path / "run", path, *arguments) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert not (tmp_path / "run/rescored").exists()


def test_no_run_and_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scorer_file(tmp_path, rule(tmp_path))
    assert score(tmp_path / "nothing", path) == 2
    assert f"there is no folder {tmp_path}/nothing" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()
    make(tmp_path / "run")
    assert score(tmp_path / "run", tmp_path / "nothing.yaml") == 2
    assert "cannot read config" in capsys.readouterr().err
    (tmp_path / "run/config.yaml").write_text("{future: 1}")
    assert score(tmp_path / "run", path) == 2
    assert "this version cannot read it" in capsys.readouterr().err


def service(server: Server) -> dict[str, Any]:
    limits = {"concurrency": 1, "retries": 0, "timeout_s": 60}
    return {"type": "remote", "url": f"{server.url}/score", "batch": 8, "limits": limits}


def lengths(request: Request) -> Respond:
    return Respond({"scores": [{"id": item["id"], "reward": len(item["response"])} for item in request.body["items"]]})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_goes_on_where_it_was(tmp_path: Path, number: signal.Signals) -> None:
    """The signal comes with the 19th batch of 20: of the answers only that one and the last are asked about again, and
    a further call asks about none."""
    stopped: list[int] = []

    def behave(request: Request) -> Respond:
        if len(request.body["items"]) and not stopped and len(server.requests) == 20:
            stopped.append(len(server.requests))
            os.kill(os.getpid(), number)
        return lengths(request)

    make(tmp_path / "run")
    with Server(behave) as server:
        path = scorer_file(tmp_path, service(server))
        assert score(tmp_path / "run", path) == 3
        assert stopped == [20]
        assert not (tmp_path / "run/rescored/again/round-0001/train.json").exists()
        assert score(tmp_path / "run", path) == 0
        asked = [item["messages"][0]["content"] + item["response"] for r in server.requests for item in r.body["items"]]
        assert len(asked) <= 160 + 16
        calls = len(server.requests)
        assert score(tmp_path / "run", path) == 0
        # The check before scoring, which sends no items.
        assert len(server.requests) == calls + 1


def test_what_failed_is_asked_for_again_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "run")
    broken = [True]

    def behave(request: Request) -> Respond:
        return Respond({"error": "boom"}, 500) if broken[0] and len(server.requests) == 4 else lengths(request)

    with Server(behave) as server:
        path = scorer_file(tmp_path, service(server))
        assert score(tmp_path / "run", path) == 3
        said = capsys.readouterr()
        assert re.search(r"8 of 160 scores of remote:\S+ failed", said.err) and "HTTP 500" in said.err
        assert "error 8 ok 152" in said.out
        broken[0], calls = False, len(server.requests)
        assert score(tmp_path / "run", path) == 0
        again = [request.body["items"] for request in server.requests[calls:]]
        assert sum(map(len, again)) == 8


def test_a_judge_that_refuses_is_said_before_an_answer_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "run")
    said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."

    def behave(request: Request) -> Respond:
        if "max_tokens" in request.body:
            return Respond({"error": {"message": said}}, 400)
        return completion('{"rating": 3}')

    with Server(behave) as server:
        judge = {"type": "judge", "transport": "openai", "base_url": f"{server.url}/v1", "model": "judge"}
        path = scorer_file(tmp_path, {**judge, "template": "rating", "reasons": False})
        assert score(tmp_path / "run", path) == 2
        told = capsys.readouterr().err
        assert said in told and "request: {max_tokens: null, max_completion_tokens: 512}" in told
        assert len(server.requests) == 1
        renamed = "scoring.0.request={max_tokens: null, max_completion_tokens: 512}"
        assert score(tmp_path / "run", path, "--set", renamed) == 0
    facts = json.loads((tmp_path / "run/rescored/again/round-0001/train.json").read_text())
    assert facts["scorers"][0]["statuses"] == {"ok": 160}
    assert facts["scoring"][0]["request"] == {"max_tokens": None, "max_completion_tokens": 512}


def test_another_scorer_under_the_same_name_replaces_the_scores(tmp_path: Path) -> None:
    make(tmp_path / "run")
    assert score(tmp_path / "run", scorer_file(tmp_path, rule(tmp_path))) == 0
    changed = rule(tmp_path, "def score(prompt, response): return 3.0\n")
    assert score(tmp_path / "run", scorer_file(tmp_path, changed)) == 0
    facts = json.loads((tmp_path / "run/rescored/again/round-0001/train.json").read_text())
    assert facts["scorers"][0]["mean"] == 3.0


@pytest.mark.parametrize(
    ("given", "weight", "alarm"),
    [
        ("3.0", 1, "gives every answer the same: 3, 160 times"),
        ("None", 1, "gave none of 160 answers a score; most often abstain: the rule returned None"),
        ("3.0", -1, None),
        ("float(len(response) + len(prompt))", 1, None),
    ],
)
def test_a_scorer_that_tells_no_answer_from_another_is_an_alarm(
    tmp_path: Path, given: str, weight: int, alarm: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "run")
    text = f"def score(prompt, response): return {given} if prompt else 0.0\n"
    scorer = rule(tmp_path, text) | {"weight": weight}
    assert score(tmp_path / "run", scorer_file(tmp_path, scorer)) == 0
    told = [] if alarm is None else [f"rule:like.py:score {alarm}"]
    facts = json.loads((tmp_path / "run/rescored/again/round-0001/train.json").read_text())
    assert facts["alarms"] == told
    assert [line for line in capsys.readouterr().out.splitlines() if "ALARM" in line] == [
        f"ALARM: {one}" for one in told
    ]


def test_it_runs_without_ray(tmp_path: Path) -> None:
    make(tmp_path / "run")
    path = scorer_file(tmp_path, rule(tmp_path))
    code = "import sys; from rayalign.cli import exit_code; code = exit_code(sys.argv[1:]); "
    code += "sys.exit(9 if {'ray', 'torch', 'vllm'} & set(sys.modules) else code)"
    command = [sys.executable, "-c", code, "score", str(tmp_path / "run"), "--round", "1", "--scorer", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
