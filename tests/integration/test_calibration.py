"""`rayalign plan --calibrate`: a real engine and a real learner on random weights, each in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from rayalign import cli

pytestmark = pytest.mark.slow

CONFIG = {
    "model": {"base": "MODEL"},
    "prompts": {"source": "demo", "per_round": 16, "max_tokens": 24},
    "sampling": {"responses": 4, "max_tokens": 16},
    "scoring": [{"type": "rule", "function": "demo"}],
    "objective": {"type": "nca"},
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 256, "hidden_size": 128,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


@pytest.mark.parametrize("sync", ["merged", "adapter"])
def test_rates_are_measured_with_nothing_but_config_json(
    sync: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"model": {"base": str(tmp_path)}, "sync": {"mode": sync}}))
    assert cli.exit_code(["plan", str(path), "--calibrate"]) == 0
    said = capsys.readouterr().out
    assert "rates: measured on this machine" in said
    line = next(line for line in said.splitlines() if "measured at the peak" in line)
    generator, learner = (float(word.strip(",")) for word in line.split() if word[0].isdigit())
    # Python, torch and the libraries of each part, and little else.
    assert 0.4 < learner < 2 and 0.8 < generator < 4


def test_a_model_that_does_not_run_here_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # vLLM on CPU has no attention for heads of this width.
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"head_dim": 16}))
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"model": {"base": str(tmp_path)}}))
    assert cli.exit_code(["plan", str(path), "--calibrate"]) == 2
    said = capsys.readouterr().err
    assert "--calibrate: the engine does not run here" in said and "head_dim=16" in said
