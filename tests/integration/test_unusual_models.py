"""Models that fail only where they are loaded tell why, and are loaded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayalign.errors import ModelError
from tests.integration.conftest import model_source, small_config

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
SHAPE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.2, "bos_token_id": 0,
    "eos_token_id": 1,
}  # fmt: skip


def of_kind(folder: Path, model: Any) -> Path:
    """A folder of such a model, with the tokenizer of the tiny runs."""
    from tests.tiny_run import make_base

    make_base(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    return folder


def config_of(folder: Path, **changes: Any) -> Any:
    prompts = {"source": "demo", "per_round": 2, "holdout": 2, "max_tokens": 32}
    lora = {"r": 8, "alpha": 16, "targets": ATTENTION}
    model = {"base": str(folder), "lora": lora}
    return small_config(model=model, prompts=prompts, **{"sampling": {"responses": 2, "max_tokens": 8}, **changes})


def test_a_learner_that_cannot_start_starts_once_and_tells_why(local_ray: None, tmp_path: Path) -> None:
    """A model that caps its logits is known only when it is loaded."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from rayalign.actors.learner import RayLearner

    torch.manual_seed(0)
    config = Gemma2Config(**{**SHAPE, "initializer_range": 0.7}, head_dim=32, final_logit_softcapping=30.0)
    folder = of_kind(tmp_path / "model", Gemma2ForCausalLM(config))
    learner = RayLearner(model_source(folder), config_of(folder), tmp_path, tmp_path / "train", str(tmp_path), cpus=0.5)
    with pytest.raises(ModelError, match="changes its logits after the output head") as caught:
        learner.ready()
    assert caught.value.exit_code == 2 and caught.value.remedy
    learner.close()
    assert (tmp_path / "learner-0.log").read_text().count("this worker cannot start") == 1


def test_a_model_that_vllm_does_not_serve_tells_so(local_ray: None, tmp_path: Path) -> None:
    """A context that is too short, which the check of the inputs refuses before."""
    from rayalign.actors.generator import RayGenerator
    from tests.tiny_run import make_base

    folder = make_base(tmp_path / "model", context=64)
    said: list[str] = []
    config = config_of(folder, sampling={"responses": 2, "max_tokens": 100})
    generator = RayGenerator(model_source(folder), config, str(tmp_path), cpus=0.5, say=said.append)
    with pytest.raises(ModelError, match="vLLM cannot serve") as caught:
        generator.pool.ready()
    assert "max_model_len" in caught.value.why and caught.value.remedy and caught.value.exit_code == 2
    assert said == []
    generator.pool.close()
