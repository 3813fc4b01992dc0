"""A benchmark in a real run and by hand: real generators, learner and judge in actors, and the real package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rayalign.cli import exit_code
from rayalign.launch.run import run
from rayalign.store.run_dir import RunDir
from tests.integration.conftest import small_config

pytestmark = [pytest.mark.integration, pytest.mark.slow]
JUDGE = {
    "type": "judge", "transport": "vllm", "model": "demo", "reasons": False, "max_tokens": 32, "context": 1024,
    "limits": {"timeout_s": 300},
}  # fmt: skip


def reference(folder: Path) -> Path:
    rows = [
        {"instruction": f"List {n} animals.", "output": "cat, dog.", "generator": "ref", "dataset": "d"}
        for n in ("two", "three", "four", "five")
    ]
    (folder / "reference.json").write_text(json.dumps(rows))
    return folder / "reference.json"


def result(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text())


def test_in_the_loop_and_by_hand(demo_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    section = {"type": "alpaca_eval", "reference": str(reference(tmp_path)), "judge": JUDGE, "temperature": 1.0}
    config = small_config(
        run={"name": "test", "rounds": 1, "dir": str(tmp_path)},
        evaluation={"benchmarks": [section]},
    )
    root = Path(run(config))
    rounds = [RunDir(root).round(index).report() for index in (0, 1)]
    for report in rounds:
        assert report is not None
        facts = report["benchmarks"]["alpaca_eval"]["facts"]
        # The demo policy knows no JSON: that each reply is a verdict shows that the schema reached vLLM.
        assert (facts["answered"], facts["judge"]["asked"], facts["judge"]["failed"]) == (4, 4, 0)
    # By hand the same adapter is asked with the same seeds, and the judge's verdicts are in the package's cache.
    code = exit_code(["eval", str(root), "--benchmark", "alpaca_eval", "--round", "all"])
    assert code == 0, capfd.readouterr().err
    for index, report in enumerate(rounds):
        folder = root / "benchmarks" / "alpaca_eval" / f"round-{index:04d}"
        assert report is not None
        assert result(folder)["metrics"] == report["benchmarks"]["alpaca_eval"]["metrics"]
        assert result(folder)["facts"]["judge"]["requests"] == 0
    answers = [
        json.loads((root / "benchmarks" / "alpaca_eval" / f"round-000{i}" / "alpaca_eval.json").read_text())
        for i in (0, 1)
    ]
    assert [row["output"] for row in answers[0]] != [row["output"] for row in answers[1]]
