"""What a run refuses of its base by config.json alone, `rayalign plan` refuses with the same error and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayalign import cli
from rayalign.config.run import RunConfig
from rayalign.launch.base_checks import check_base
from rayalign.planning.text import number

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 160,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
}  # fmt: skip
BERT = {"architectures": ["BertForMaskedLM"], "model_type": "bert", "vocab_size": 100}
MAMBA = {"architectures": ["MambaForCausalLM"], "model_type": "mamba", "hidden_size": 64, "vocab_size": 100}
GEMMA = LLAMA | {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "head_dim": 16}
COHERE = LLAMA | {"architectures": ["CohereForCausalLM"], "model_type": "cohere"}
GRANITE = LLAMA | {"architectures": ["GraniteForCausalLM"], "model_type": "granite"}
MIXTRAL = LLAMA | {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 4}
TWO_PARTS = {"cluster": {"generators": {"gpus": 2, "tensor_parallel": 2}, "learner": {"gpus": 1}}}


def written(folder: Path, model: dict[str, Any], changes: dict[str, Any]) -> str:
    """A config of a run whose base is a folder with nothing but a config.json."""
    base = folder / "model"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(model))
    data: dict[str, Any] = {
        "model": {"base": str(base), "dtype": "bfloat16", "lora": {"targets": ["q_proj"]}},
        "prompts": {"source": "demo"},
        "sampling": {"max_tokens": 512},
        "scoring": [{"type": "rule", "function": "demo"}],
        "objective": {"type": "nca"},
        "cluster": {"generators": {"gpus": 1}, "learner": {"gpus": 1}},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(data | changes))
    return str(path)


@pytest.mark.parametrize(
    ("model", "changes", "told"),
    [
        (BERT, {}, "is a BertForMaskedLM"),
        ({**BERT, "architectures": ["BertLMHeadModel"]}, {}, "is a BertLMHeadModel"),
        (GEMMA, {}, "Gemma2ForCausalLM (final_logit_softcapping 30.0) changes its logits after the output head"),
        (COHERE, {}, "CohereForCausalLM (logit_scale 0.0625) changes its logits"),
        (GRANITE | {"logits_scaling": 8.0}, {}, "GraniteForCausalLM (logits_scaling 8.0) changes its logits"),
        (LLAMA | {"max_position_embeddings": 1024}, {}, "prompts.max_tokens + sampling.max_tokens + 1 = 1025"),
        (LLAMA | {"num_attention_heads": 1, "num_key_value_heads": 1}, TWO_PARTS, "has 1 attention heads"),
        (LLAMA, {"training": {"gradient_checkpointing": 4}}, "training.gradient_checkpointing 4"),
        (MIXTRAL, {"sync": {"mode": "merged"}}, "has experts (model.layers.0.mlp.experts."),
        (LLAMA | {"quantization_config": {"quant_method": "fp8"}}, {}, "has fp8 weights"),
        (MAMBA, {}, "no num_attention_heads"),
        (LLAMA | {"hidden_size": -64}, {}, "cannot be loaded"),
    ],
)
def test_what_a_run_refuses_has_no_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: dict[str, Any], changes: dict[str, Any], told: str
) -> None:
    assert cli.exit_code(["plan", written(tmp_path, model, changes), "--gpu", "L4"]) == 2
    said = capsys.readouterr()
    assert told in said.err and "remedy:" in said.err and "fits" not in said.out


@pytest.mark.parametrize(
    "model",
    [GEMMA | {"final_logit_softcapping": None}, GRANITE, LLAMA | {"logit_scale": 0.5}, COHERE | {"logit_scale": 1.0}],
)
def test_logits_that_are_the_heads_are_not_refused(tmp_path: Path, model: dict[str, Any]) -> None:
    """A key that a model's class does not know does nothing."""
    check_base(config_of(written(tmp_path, model, {})), tmp_path / "model")


def config_of(path: str) -> RunConfig:
    return RunConfig.model_validate(yaml.safe_load(Path(path).read_text()))


def test_a_number_that_rounds_up_has_the_next_prefix() -> None:
    assert [number(n) for n in (999.9e6, 999.4e6, 999_500, 999.6, 1e9)] == ["1 G", "999 M", "1 M", "1 k", "1 G"]
