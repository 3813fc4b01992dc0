"""MT-Bench, arena, rating and instructions in a real run and by hand, with a hand-written judge behind HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rayalign.cli import exit_code
from rayalign.launch.run import run
from rayalign.store.run_dir import RunDir
from tests.http_server import Server
from tests.integration.conftest import small_config
from tests.judged_files import judge, sections

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_in_the_loop_and_by_hand(demo_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Server(judge) as server:
        config = small_config(
            run={"name": "test", "rounds": 1, "dir": str(tmp_path)},
            evaluation={"benchmarks": sections(tmp_path, server.url)},
        )
        root = Path(run(config))
        reports = [RunDir(root).round(index).report() for index in (0, 1)]
        first, last = (report["benchmarks"] for report in reports if report is not None)
        check_last(last)
        # Nobody to compare with yet, but the file.
        assert "win_rate/round_0" not in first["mt_bench"]["metrics"]
        assert set(first["arena"]["facts"]["opponents"]) == {"short"}
        asked = len(server.requests)
        assert exit_code(["eval", str(root), "--benchmark", "arena", "--round", "1"]) == 0, capfd.readouterr().err
        by_hand = json.loads((root / "benchmarks" / "arena" / "round-0001" / "result.json").read_text())
        assert by_hand["metrics"] == last["arena"]["metrics"]
        # The verdicts are in the cache; what failed, and the canned question of the check, are asked again.
        assert 0 < len(server.requests) - asked < 8


def check_last(found: dict[str, Any]) -> None:
    """Of four questions the judge has no verdict on the one with `five`."""
    bench = found["mt_bench"]
    assert (bench["facts"]["answered"], bench["facts"]["answers"]) == (4, 8)
    assert bench["facts"]["judge"]["failed"] >= 2 and bench["metrics"]["score"]["n"] == 6
    assert {"score/turn_1", "score/turn_2", "score/math", "score/writing", "win_rate/round_0"} <= set(bench["metrics"])
    arena = found["arena"]["metrics"]
    assert {"strength", "strength/short", "strength/round_0", "win_rate/short", "win_rate/previous"} <= set(arena)
    assert found["arena"]["facts"]["opponents"]["short"]["without_outcome"] == 1
    assert arena["win_rate/short"]["value"] > 0.5
    rating = found["rating"]
    assert rating["facts"]["scale"] == [1, 4] and 1 <= rating["metrics"]["rating"]["value"] <= 4
    assert rating["metrics"]["rating"]["n"] == 3
    kept = found["instructions"]["metrics"]
    assert kept["instruction_strict/words"]["n"] == 4 and set(kept) >= {"prompt_strict", "prompt_loose"}
