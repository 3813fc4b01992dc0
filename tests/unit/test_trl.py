"""Our pairwise losses against TRL's own trainer: the same pairs, model, LoRA weights and beta, one step's gradients."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from pydantic import TypeAdapter
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from rayalign.config.model import LoraSection, ModelSection
from rayalign.config.objective import Objective
from rayalign.learning.model import Policy, build_policy
from rayalign.learning.objective import count_units
from rayalign.learning.step import StepContext, micro_batch_loss, reference_sums, token_logps_of
from rayalign.records import TrainingGroup

pytestmark = pytest.mark.integration
torch.set_num_threads(1)

PAD, EOS = 1, 2
PAIRS: list[tuple[list[int], list[int], list[int]]] = [
    ([5, 9, 11], [20, 21, EOS], [30, EOS]),
    ([6], [22, 23, 24, 25, 26, EOS], [31, 32, 33, EOS]),
    ([7, 7, 8, 40, 41], [EOS], [34, 35, 36, 37, EOS]),
    ([10, 12], [27, 28, EOS], [28, 27, EOS]),
]
"""(prompt, chosen, rejected), ragged on every side; the third chosen one is empty."""


def words(ids: list[int]) -> str:
    return "".join("</s>" if i == EOS else f" w{i}" for i in ids)


def tokenizer() -> Any:
    """One word, one token, of the test model's 64: what TRL tokenises is what we have."""
    vocabulary = {"<unk>": 0, "<pad>": PAD, "</s>": EOS, **{f"w{i}": i for i in range(3, 64)}}
    level = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=level, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")


def perturbed_policy(folder: Path) -> Policy:
    """An adapter whose B is not zero, so that policy and reference differ and no loss is ln 2 by chance."""
    policy = build_policy(folder, ModelSection(base=str(folder), lora=LoraSection(r=8, alpha=16)))
    policy.reset_adapter(0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in sorted(policy.named_parameters()):
            if "lora_B" in name:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return policy


def ours(policy: Policy, kind: str, beta: float) -> tuple[float, dict[str, torch.Tensor]]:
    """(loss, LoRA gradients) of one step; the reference is the base model."""
    objective = TypeAdapter(Objective).validate_python({"type": kind, "beta": beta, "reference": "base"})
    groups = [
        TrainingGroup(str(i), prompt, [0, 1], [rejected, chosen], [[], []], [0.0, 1.0])
        for i, (prompt, chosen, rejected) in enumerate(PAIRS)
    ]
    with policy.base_only():
        references = list(
            reference_sums(
                lambda rows: token_logps_of(policy, rows, "cpu", 40), dict(enumerate(groups)), [objective]
            ).values()
        )
    units = count_units([objective], groups)
    total = 0.0
    for part in (slice(0, 1), slice(1, 4)):
        loss, _ = micro_batch_loss(policy, groups[part], references[part], StepContext([objective], 1), units)
        loss.backward()
        total += float(loss.detach())
    return total, gradients(policy.model)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if "lora_" in name and p.grad is not None}


def theirs(
    folder: Path, weights: dict[str, torch.Tensor], kind: str, beta: float, out: Path
) -> tuple[float, dict[str, torch.Tensor]]:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [{"prompt": words(x).strip(), "chosen": words(w), "rejected": words(l)} for x, w, l in PAIRS]  # noqa: E741
    quiet: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": [], "disable_tqdm": True}
    quiet |= {"dataloader_pin_memory": False, "gradient_checkpointing": False, "max_length": None}
    args = DPOConfig(output_dir=str(out), loss_type=kind, beta=beta, per_device_train_batch_size=len(PAIRS), **quiet)
    lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    trainer = DPOTrainer(
        model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer(), peft_config=lora
    )
    assert trainer.ref_model is None
    set_peft_model_state_dict(trainer.model, weights)
    ids = trainer.train_dataset
    found = list(zip(ids["prompt_ids"], ids["chosen_ids"], ids["rejected_ids"], strict=True))
    assert [tuple(map(list, row)) for row in found] == PAIRS, "TRL scores other tokens"
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return float(loss.detach()), gradients(trainer.model)


@pytest.mark.parametrize("beta", [0.1, 0.7])
@pytest.mark.parametrize(("kind", "theirs_kind"), [("dpo", "sigmoid"), ("pairwise_nca", "nca_pair")])
def test_one_step_is_trls(llama_folder: Path, tmp_path: Path, kind: str, theirs_kind: str, beta: float) -> None:
    policy = perturbed_policy(llama_folder)
    weights = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(policy.model).items()}
    loss, grads = ours(policy, kind, beta)
    wanted, wanted_grads = theirs(llama_folder, weights, theirs_kind, beta, tmp_path)
    assert abs(loss - (math.log(2) if kind == "dpo" else 2 * math.log(2))) > 1e-2, "policy and reference do not differ"
    assert loss == pytest.approx(wanted, rel=1e-5)
    assert grads.keys() == wanted_grads.keys()
    assert max(float(grad.abs().max()) for grad in grads.values()) > 1e-2
    for name, grad in grads.items():
        torch.testing.assert_close(grad, wanted_grads[name], rtol=1e-5, atol=3e-6)
