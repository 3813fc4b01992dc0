"""TRL's trainers as the stages use them, in process on tiny models: what is learned, resumed and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from rayalign.config.rewards import RewardModelScoring
from rayalign.config.stages import StageConfig
from rayalign.data.stage_rows import answer_rows, pair_rows
from rayalign.demo import training_rows as stages
from rayalign.demo.language import SPECIAL_TOKENS, build_tokenizer
from rayalign.learning.folders import load_tokenizer
from rayalign.learning.model import load_options
from rayalign.learning.reward_modelling import train_reward_model
from rayalign.learning.row_order import plan_order, row_length
from rayalign.learning.sft import train_sft
from rayalign.learning.stage_training import StageJob
from rayalign.records import Prompt, Sample
from rayalign.scoring.models.reward_model import RewardModelScorer, check_reward_model
from tests.renderers import renderer

pytestmark = pytest.mark.integration
STEPS, BATCH, SAVED = 6, 4, 4
FULL: dict[str, Any] = {"full": True}
LORA: dict[str, Any] = {"lora": {"r": 8}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama that speaks the demo world's tokens."""
    torch.set_num_threads(1)
    folder, tokenizer = tmp_path_factory.mktemp("base"), build_tokenizer()
    ids = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in SPECIAL_TOKENS}
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(
        LlamaConfig(**shape, vocab_size=len(tokenizer), max_position_embeddings=256, **ids)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def answers(tokenizer: Any, n: int = STEPS * BATCH) -> list[dict[str, list[int]]]:
    return answer_rows(stages.sft_dataset(0, n), renderer(tokenizer, given=True), 256).rows


def pairs(tokenizer: Any, n: int = STEPS * BATCH) -> list[dict[str, list[int]]]:
    return pair_rows(stages.pair_dataset(0, n), renderer(tokenizer, given=True), 256).rows


def train(kind: str, base: Path, out: Path, model: dict[str, Any], resume_from: Path | None = None) -> dict[str, Any]:
    tokenizer: Any = load_tokenizer(base)
    training = {"batch": BATCH, "learning_rate": 1e-3, "checkpoint_steps": SAVED}
    config = StageConfig.model_validate(
        {"model": {"base": str(base), **model}, "data": {"source": "demo"}, "training": training}
    )
    steps: list[int] = []
    saved: list[Path] = []
    rows = answers(tokenizer) if kind == "sft" else pairs(tokenizer)
    job = StageJob(config, base, rows, out / "checkpoints", steps.append, saved.append, resume_from)
    facts = (
        train_sft(job, answers(tokenizer, 8), tokenizer, out)
        if kind == "sft"
        else train_reward_model(job, tokenizer, out)
    )
    return {**facts, "seen": steps, "saved": [path.name for path in saved]}


@pytest.mark.parametrize("model", [FULL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["sft", "reward_model"])
def test_a_resumed_stage_ends_in_the_same_bytes(kind: str, model: dict[str, Any], base: Path, tmp_path: Path) -> None:
    whole = train(kind, base, tmp_path / "whole", model)
    assert whole["seen"] == list(range(1, STEPS + 1))
    assert whole["saved"] == [f"checkpoint-{SAVED}", f"checkpoint-{STEPS}"]
    resumed = train(kind, base, tmp_path / "resumed", model, tmp_path / "whole" / "checkpoints" / f"checkpoint-{SAVED}")
    assert resumed["seen"] == [5, 6] and resumed["steps"] == STEPS
    names = ["model/model.safetensors", *([] if model is FULL else ["adapter/adapter_model.safetensors"])]
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()
    start = load_file(base / "model.safetensors")
    end = load_file(tmp_path / "whole" / "model" / "model.safetensors")
    moved = [name for name in start if name in end and not torch.equal(start[name], end[name])]
    assert any("q_proj" in name for name in moved)
    assert any("norm" in name for name in moved) == (model is FULL)


def test_sft_is_adamw_on_the_answers_tokens(base: Path, tmp_path: Path) -> None:
    """The same steps in plain torch: mean cross-entropy over the answers' tokens of a step, AdamW, cosine with warm-up.

    Warm-up is round(0.05 * 6) = 0 steps, so step t of 6 has the rate 1e-3 (1 + cos(pi t / 6)) / 2.
    """
    facts = train("sft", base, tmp_path, FULL)
    tokenizer: Any = load_tokenizer(base)
    rows = answers(tokenizer)
    order = plan_order([row_length(row) for row in rows], batch=BATCH, epochs=1, seed=0, shuffled=True)
    model = AutoModelForCausalLM.from_pretrained(base, **load_options("none", torch.float32, "cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    losses = []
    for step in range(STEPS):
        batch = [rows[row] for row in order[step * BATCH : (step + 1) * BATCH]]
        sums, count = torch.zeros(()), 0
        for row in batch:
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
            logits = model(input_ids=ids).logits[0, :-1]
            sums = sums + torch.nn.functional.cross_entropy(logits, labels, reduction="sum", ignore_index=-100)
            count += int((labels != -100).sum())
        optimizer.zero_grad()
        (sums / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + torch.cos(torch.tensor(torch.pi * step / STEPS)).item()) / 2
        optimizer.step()
        losses.append(float(sums.detach() / count))
    assert [row["loss"] for row in facts["curve"]] == pytest.approx(losses, abs=2e-4)
    trained = load_file(tmp_path / "model" / "model.safetensors")
    for name, tensor in model.state_dict().items():
        if name in trained:
            torch.testing.assert_close(trained[name], tensor, atol=2e-4, rtol=1e-3)


def test_the_merged_model_is_base_and_adapter(base: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    train("sft", base, tmp_path, LORA)
    ids = torch.tensor([[5, 6, 7, 8]])
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "adapter"))
    bare = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        torch.testing.assert_close(merged(input_ids=ids).logits, adapted(input_ids=ids).logits, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(merged(input_ids=ids).logits, bare(input_ids=ids).logits, atol=1e-4)


@pytest.mark.parametrize("model", [FULL, LORA], ids=["full", "lora"])
def test_a_reward_model_is_one_that_scores(model: dict[str, Any], base: Path, tmp_path: Path) -> None:
    """The scorer loads it, and gives its tokens the form in which they were trained on."""
    train("reward_model", base, tmp_path, model)
    check_reward_model(tmp_path / "model")
    section = RewardModelScoring(type="reward_model", model=str(tmp_path / "model"))
    scorer = RewardModelScorer(section, tmp_path / "model", "")
    (row,) = stages.pair_dataset(3, 1)
    prompt = Prompt("p", row.messages, [])
    samples = [Sample("p", i, c.text, [], [], "stop", 0, 0) for i, c in enumerate(row.completions)]
    (pair,) = pair_rows([row], renderer(load_tokenizer(tmp_path / "model")), 256).rows
    assert scorer.tokens([prompt, prompt], samples) == [pair["chosen_ids"], pair["rejected_ids"]]
    (plain,) = pair_rows([row], renderer(load_tokenizer(tmp_path / "model"), "none"), 256).rows
    bare = RewardModelScorer(section.model_copy(update={"template": "none"}), tmp_path / "model", "")
    assert bare.tokens([prompt], samples[:1]) == [plain["chosen_ids"]]
    assert all(score.status == "ok" for score in scorer.score([prompt, prompt], samples))


def test_a_gradient_that_is_not_finite_stops_the_stage(base: Path, tmp_path: Path) -> None:
    from rayalign.errors import GuardError

    broken = tmp_path / "broken"
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    model.save_pretrained(broken)
    load_tokenizer(base).save_pretrained(broken)
    with pytest.raises(GuardError, match="not finite"):
        train("sft", broken, tmp_path / "out", FULL)
