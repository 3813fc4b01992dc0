"""`rayalign eval` up to where actors would start: what is found, and what is refused before any model is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rayalign.cli import exit_code
from rayalign.commands import evaluate as command
from rayalign.errors import ConfigError, ModelError, RunFolderError
from rayalign.records import Adapter
from rayalign.store.run_dir import RunDir
from rayalign.store.saved_run import SavedRun
from tests.fakes import make_config

Invoke = Callable[..., tuple[int, str]]
JUDGE = {"type": "judge", "transport": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
RATING = {"type": "rating", "questions": "q.jsonl", "judge": JUDGE}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of rounds 0 and 1 whose config has a benchmark."""
    scoring = [{"type": "rule", "function": "demo"}, {**JUDGE, "template": "rating"}]
    evaluation = {"benchmarks": [{**RATING, "name": "mine", "temperature": 0.5}]}
    run_dir = RunDir(tmp_path / "run")
    run_dir.open(make_config(scoring=scoring, evaluation=evaluation).to_dict())
    run_dir.update_info(inputs={"model_sha256": "b" * 64})
    run_dir.round(0).finish(adapter_sha256=None)
    one, weights = run_dir.round(1), b"weights"
    files = one.write("adapter/adapter_model.safetensors", weights)
    digest = files["adapter/adapter_model.safetensors"]["sha256"]
    adapter = Adapter(1, "rounds/0001/adapter", digest, "b" * 64, 0)
    one.commit("adapter", files, adapter={"version": 1, "path": adapter.path, "sha256": digest,
               "base_model_sha256": "b" * 64, "parent": 0}, training={})  # fmt: skip
    one.finish(adapter_sha256=digest)
    return tmp_path / "run"


def find(run: Path, rounds: Any, benchmark: str, overrides: tuple[str, ...] = ()) -> command.Asked:
    return command.find(SavedRun.at(run), rounds, benchmark, overrides)


def test_benchmark_of_the_runs_config_by_its_name(run: Path) -> None:
    asked = find(run, "all", "mine", ("judge.model=other", "limit=3"))
    [section] = asked.config.evaluation.benchmarks
    assert section.to_dict()["judge"]["model"] == "other"
    assert (section.limit, section.temperature) == (3, 0.5)
    assert {index: adapter.record.version for index, adapter in asked.adapters.items()} == {0: 0, 1: 1}
    assert asked.adapters[0].files is None and asked.adapters[1].files is not None


def test_benchmark_by_its_type_takes_the_runs_judge(run: Path) -> None:
    asked = find(run, None, "alpaca_eval")
    [section] = asked.config.evaluation.benchmarks
    assert section.to_dict()["judge"]["template"] == "rating"
    assert list(asked.adapters) == [1]


def test_benchmark_of_a_file_looks_beside_it(run: Path, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(json.dumps({"type": "rating", "questions": "q.jsonl"}))
    asked = find(run, 0, str(tmp_path / "b.yaml"))
    assert (asked.folder, list(asked.adapters)) == (tmp_path, [0])


@pytest.mark.parametrize(
    ("rounds", "benchmark", "overrides", "found"),
    [
        (7, "mine", (), "round 7 is not there"),
        ("best", "mine", (), "no trained round has a pass rate"),
        (None, "missing.yaml", (), "cannot read config"),
        (None, "unknown", (), "benchmark.type: found 'unknown'; use one of"),
        (None, "rating", (), "benchmark.questions: missing"),
        (None, "mine", ("limt=3",), "did you mean limit"),
        (None, "mine", ("judge=judge:nobody",), "judge judge:nobody is no judge that can rate or compare"),
    ],
)
def test_what_is_refused(run: Path, rounds: Any, benchmark: str, overrides: tuple[str, ...], found: str) -> None:
    with pytest.raises((ConfigError, RunFolderError)) as error:
        find(run, rounds, benchmark, overrides)
    assert found in str(error.value)


def test_a_run_without_a_judge_is_told_what_to_write(tmp_path: Path) -> None:
    RunDir(tmp_path).open(make_config().to_dict())
    with pytest.raises(ConfigError, match="no judge that can rate or compare: write one there"):
        find(tmp_path, None, "alpaca_eval")


def test_adapters_of_another_run_are_refused(run: Path) -> None:
    RunDir(run).round(1).finish(adapter_sha256="0" * 64)
    with pytest.raises(RunFolderError, match="its commits name different adapters"):
        find(run, 1, "mine")


@pytest.fixture
def invoke(run: Path, capfd: pytest.CaptureFixture[str]) -> Invoke:
    def run_eval(*arguments: str) -> tuple[int, str]:
        code = exit_code(["eval", str(run), *arguments])
        captured = capfd.readouterr()
        return code, captured.out + captured.err

    return run_eval


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--benchmark", "mine"), "q.jsonl"),
        (("--benchmark", "alpaca_eval", "--set", "reference=none.json"), "none.json"),
        (("--benchmark", "alpaca_eval"), "cannot be had from the hub"),
        (("--benchmark", "mine", "--round", "3"), "round 3 is not there"),
        (("--benchmark", "mine", "--round", "x"), "not a valid integer"),
    ],
)
def test_exit_code_2_before_any_model(
    invoke: Invoke, arguments: tuple[str, ...], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(command, "base_of", _never)
    code, output = invoke(*arguments)
    assert code == 2
    assert found in output


def _never(*_: object) -> None:
    raise AssertionError("a model was looked for")


def test_a_judge_that_is_not_there(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "base_of", _never)
    (tmp_path / "q.jsonl").write_text('{"prompt": "Name a fruit."}\n')
    code, output = invoke("--benchmark", "mine", "--set", f"questions={tmp_path / 'q.jsonl'}")
    assert (code, "cannot be used" in output) == (2, True)
    code, output = invoke(
        "--benchmark", "mine", "--set", f"questions={tmp_path / 'q.jsonl'}", "--set", "judge.api_key_env=NOT_SET_1"
    )
    assert (code, "NOT_SET_1" in output) == (2, True)


def test_another_base_is_refused(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "read_benchmarks", lambda *_, **__: [])
    code, output = invoke("--benchmark", "mine", "--base", str(tmp_path / "nowhere"))
    assert (code, "there is no such folder" in output) == (ModelError.exit_code, True)


def test_a_context_that_is_too_short(
    run: Path, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.tiny_run import make_base

    base = make_base(tmp_path / "base")
    monkeypatch.setattr(command, "read_benchmarks", lambda *_, **__: [])
    monkeypatch.setattr(command, "base_of", lambda *_: (base, "base"))
    code, output = invoke("--benchmark", "mine", "--set", "prompt_tokens=900")
    assert (code, "benchmark mine: prompt_tokens + max_tokens + 1 = 965" in output) == (2, True)
