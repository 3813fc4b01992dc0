"""Models that fail only where they are loaded tell why and start once; models with experts are served with adapters."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from rayalign.errors import ModelError
from rayalign.records import ADAPTER_WEIGHTS, Adapter, AdapterFiles, TokenSequence
from tests.integration.conftest import model_source, small_config

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ROWS = [([0, 5, 6, 7], [8, 9, 10, 11]), ([0, 20, 21], [30, 31, 32])]
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
    return small_config(model=model, prompts=prompts, sampling={"responses": 2, "max_tokens": 8}, **changes)


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
    from transformers import CTRLConfig, CTRLLMHeadModel

    from rayalign.actors.generator import RayGenerator

    config = CTRLConfig(vocab_size=64, n_positions=512, n_embd=128, dff=96, n_layer=2, n_head=4)
    folder = of_kind(tmp_path / "model", CTRLLMHeadModel(config))
    said: list[str] = []
    generator = RayGenerator(model_source(folder), config_of(folder), str(tmp_path), cpus=0.5, say=said.append)
    with pytest.raises(ModelError, match="vLLM cannot serve") as caught:
        generator.pool.ready()
    assert "CTRL" in caught.value.why and caught.value.remedy and caught.value.exit_code == 2
    assert said == []
    generator.pool.close()


def mixtral() -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(MixtralConfig(**SHAPE, num_local_experts=4))


def qwen() -> Any:
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
    return Qwen2MoeForCausalLM(Qwen2MoeConfig(**SHAPE, **experts, shared_expert_intermediate_size=96))


@pytest.mark.parametrize("kind", [mixtral, qwen])
def test_adapters_of_attention_are_served_beside_experts(local_ray: None, tmp_path: Path, kind: Any) -> None:
    """vLLM's log-probabilities are the learner's, without the adapter and with it."""
    import torch

    from rayalign.actors.generator import RayGenerator
    from rayalign.learning.folder_checks import check_policy
    from rayalign.learning.model import build_policy
    from rayalign.learning.packing import collate_padded

    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = of_kind(tmp_path / "model", kind())
    config = config_of(folder, sync={"mode": "adapter"})
    check_policy(folder, config.model, merges=config.merges)
    policy = build_policy(folder, config.model).eval()
    policy.reset_adapter(0)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in sorted(policy.named_parameters()):
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=random)
        adapted = policy(collate_padded(ROWS))
        with policy.base_only():
            base = policy(collate_padded(ROWS))
    assert float((adapted - base).abs().mean()) > 0.05
    files = policy.adapter_files("x")
    digest = hashlib.sha256(files[ADAPTER_WEIGHTS]).hexdigest()
    generator = RayGenerator(model_source(folder), config, str(tmp_path), cpus=0.5, say=print)
    generator.pool.ready()
    zero, one = Adapter.base("b" * 64), Adapter(1, "adapter", digest, "b" * 64, 0)
    asked = [TokenSequence(*row) for row in ROWS]
    generator.load(zero, None)
    torch.testing.assert_close(flat(generator.logps(asked, zero)), base, rtol=0, atol=2e-3)
    generator.load(one, AdapterFiles(1, digest, files))
    torch.testing.assert_close(flat(generator.logps(asked, one)), adapted, rtol=0, atol=2e-3)
    generator.pool.close()


def flat(answers: dict[str, list[list[float]]]) -> Any:
    import torch

    return torch.tensor([logp for row in answers["generator-0"] for logp in row])
