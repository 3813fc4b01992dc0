"""A training stage on two workers, in real processes over gloo: the same weights as on one, from the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rayalign.config.stages import StageConfig, StageKind
from rayalign.demo.language import write_untrained
from rayalign.launch.stage import write_rows
from rayalign.launch.stage_inputs import read_stage_inputs
from rayalign.rendering.template import UNDATED
from rayalign.store.stage_dir import StageDir
from rayalign.tracking.console import Console
from tests.processes import run_ranks

pytestmark = pytest.mark.integration


def train(kind: StageKind, root: Path, base: Path, workers: int) -> dict[str, Any]:
    training = {"batch": 4, "learning_rate": 1e-3, "workers": workers, "checkpoint_steps": 3}
    data = {"source": "demo", "rows": 18, "holdout": 8, "max_tokens": 128}
    model = {"base": str(base), "full": True}
    config = StageConfig.model_validate({"model": model, "data": data, "training": training})
    stage = StageDir(root)
    root.mkdir()
    counts = write_rows(config, stage, read_stage_inputs(kind, config, root, stage, UNDATED), Console(), root)
    assert (counts["steps"], counts["repeated"]) == (5, 2)
    job = root / "job.json"
    job.write_text(json.dumps({"kind": kind, "config": config.to_dict(), "base": str(base), "root": str(root)}))
    run_ranks("tests.integration.stage_ranks", workers, job, timeout_s=300)
    facts = stage.finished()
    assert facts is not None and facts["steps"] == [1, 2, 3, 4, 5]
    return facts


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "reward_model"])
def test_two_workers_make_the_same_model_as_one(kind: StageKind, tmp_path: Path) -> None:
    base = tmp_path / "base"
    write_untrained(base, 0, rewards=kind == "reward_model")
    one, two = (train(kind, tmp_path / f"workers-{n}", base, n) for n in (1, 2))
    weights = [load_file(tmp_path / f"workers-{n}" / "model" / "model.safetensors") for n in (1, 2)]
    start = load_file(base / "model.safetensors")
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=3e-4, rtol=0)
    moved = max(float((weights[0][name] - tensor).abs().max()) for name, tensor in start.items())
    assert moved > 2e-3
    measured = "loss" if kind == "sft" else "accuracy"
    assert two["metrics"][measured] == pytest.approx(one["metrics"][measured], abs=2e-3)
