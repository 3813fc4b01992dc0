"""`run --dry-run` of a config that is right: what it says, and that it writes and starts nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rayalign import cli
from tests.tiny_run import make_base, make_saved_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, 40 prompts, a rule, a config, and a run of one round."""
    folder = tmp_path_factory.mktemp("place")
    base = make_base(folder / "base", context=1024, head_dim=32)
    rows = [{"prompt": f"w{i} w{i + 1} w{i + 2}"} for i in range(40)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "rule.py").write_text("def score(prompt, response):\n    return float(len(response))\n")
    config = {
        "run": {"name": "tiny", "dir": str(folder / "runs"), "rounds": 3},
        "model": {"base": str(base), "lora": {"r": 8, "alpha": 16}},
        "prompts": {"source": "prompts.jsonl", "per_round": 16, "holdout": 8},
        "sampling": {"responses": 2, "max_tokens": 8},
        "scoring": [{"type": "rule", "function": "rule.py:score"}],
        "objective": {"type": "nca"},
        "training": {"group_batch": 4, "epochs": 2},
    }
    (folder / "run.yaml").write_text(json.dumps(config))
    make_saved_run(folder / "runs" / "tiny", base)
    return folder


def files(folder: Path) -> dict[str, int]:
    """All files with their times of change."""
    return {os.path.join(at, name): os.stat(os.path.join(at, name)).st_mtime_ns for at, _, names in os.walk(folder)
            for name in names}  # fmt: skip


def dry(place: Path, capfd: pytest.CaptureFixture[str], *options: str) -> str:
    before = files(place)
    assert cli.exit_code(["run", str(place / "run.yaml"), "--dry-run", *options]) == 0
    assert files(place) == before
    return capfd.readouterr().out


def test_a_new_run(place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its generator answers 16 prompts twice or 8 held-out ones four times: 32 sequences of 512 + 8 + 1 tokens."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("rayalign.launch.shares.cpus_here", lambda: 4)
    said = dry(place, capfd, "--set", "run.name=new")
    assert "key-value cache of each generator: 0.25 GiB, for 32 sequences of 521 tokens\n" in said
    assert "threads on 4 cores: each generator at most 4, fewer where fewer are faster; each scorer 1; " in said
    assert "per_round: 16" in said and "reference: round_start" in said  # the whole config, defaults too
    assert "32 to train on, 8 held out" in said
    assert "a round: 16 prompts (2 answers each), evaluated on 8 held-out prompts" in said
    assert "at most 8 optimizer steps" in said and "all 3 rounds: at most 24 optimizer steps" in said
    assert "new" in said.splitlines()[-1] and str(place / "runs" / "new") in said.splitlines()[-1]
    assert not (place / "runs" / "new").exists()


def test_what_is_chosen_is_said(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = dry(place, capfd, "--set", "model.dtype=auto", "--set", "run.name=new")
    assert "model.dtype auto: " in said and "this processor multiplies bfloat16" in said


def test_a_fork(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = dry(place, capfd, "--fork", "again")
    assert str(place / "runs" / "again") in said.splitlines()[-1]
    assert not (place / "runs" / "again").exists()
    assert (
        cli.exit_code(["run", str(place / "run.yaml"), "--dry-run", "--fork", "again", "--set", "run.name=none"]) == 2
    )
    assert "there is nothing to go on from" in capfd.readouterr().err
