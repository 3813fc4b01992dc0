"""What `rayalign plan` counts is what the learner does: packing, attention, steps, products and kept activations."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from rayalign.config.model import ModelSection
from rayalign.config.run import RunConfig
from rayalign.learning.attention import register, tree_mask
from rayalign.learning.folders import load_config
from rayalign.learning.model import Policy, policy_on
from rayalign.learning.packing import Row, collate_packed, packed_tokens
from rayalign.learning.plan import plan_steps
from rayalign.learning.shape import ModelShape
from rayalign.planning.devices import cpu_core
from rayalign.planning.load import Group, Lengths, forward_flops, round_load, training_flops
from rayalign.planning.memory import activation_bytes, micro_batch_tokens

torch.set_num_threads(1)
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 160,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
    "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip
LENGTHS, ANSWERS = Lengths(40, 25), 4
GROUP = Group(LENGTHS, ANSWERS)


def config_with(**changes: Any) -> RunConfig:
    """`changes`: section__key=value."""
    data: dict[str, Any] = {
        "model": {"base": "x"},
        "prompts": {"source": "demo", "per_round": 50, "max_tokens": 40},
        "sampling": {"responses": ANSWERS, "max_tokens": 25},
        "scoring": [{"type": "rule", "function": "demo"}],
        "objective": {"type": "nca"},
        "training": {"group_batch": 8, "tokens_per_micro_batch": 300},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        data.setdefault(section, {})[name] = value
    return RunConfig.model_validate(data)


def rows(groups: int) -> list[Row]:
    """Groups of the lengths above, each with a prompt of its own."""
    return [([number] * 40, [k + 1] * 25) for number in range(groups) for k in range(ANSWERS)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return folder


def policy_of(folder: Path, *, checkpointing: bool | int = False) -> Policy:
    register()
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(load_config(folder))
    return policy_on(base, folder, ModelSection(base=str(folder)), checkpointing=checkpointing)


def test_a_group_has_the_tokens_and_pairs_of_its_packed_sequence() -> None:
    batch = collate_packed(rows(1))
    assert GROUP.tokens == packed_tokens(rows(1)) == batch.tokens
    assert GROUP.targets == len(batch.targets_N)
    assert GROUP.pairs() == int(tree_mask(batch.trees[0]).sum())


@pytest.mark.parametrize("window", [1, 30, 45, 64])
def test_a_window_leaves_the_pairs_of_its_mask(window: int) -> None:
    """Within the prompt, over its end, and longer than every path."""
    assert GROUP.pairs(window) == int(tree_mask(collate_packed(rows(1)).trees[0], window).sum())
    assert (GROUP.pairs(window) < GROUP.pairs()) == (window < 64)


def test_layers_with_a_window_are_counted_with_its_pairs() -> None:
    shape = dataclasses.replace(_shape(), layers=6, heads=2, head_dim=8)
    some = dataclasses.replace(shape, window=30, windowed=5)
    saved = 4 * 2 * 8 * 5 * (GROUP.pairs() - GROUP.pairs(30))
    assert forward_flops(shape, GROUP) - forward_flops(some, GROUP) == saved
    assert training_flops(shape, GROUP, full=False) - training_flops(some, GROUP, full=False) == 3 * saved


def test_remade_layers_go_forward_once_more() -> None:
    shape = dataclasses.replace(_shape(), layers=4)
    none, one, all_layers = (training_flops(shape, GROUP, full=False, remade=count) for count in (0, 1, 4))
    assert all_layers - none == forward_flops(shape, GROUP) - 2 * GROUP.targets
    assert 4 * (one - none) == all_layers - none


@pytest.mark.parametrize(("workers", "budget", "epochs"), [(1, 300, 1), (2, 300, 2), (3, 1, 1), (1, 4096, 1)])
def test_steps_and_micro_batches_are_those_of_the_learners_plan(workers: int, budget: int, epochs: int) -> None:
    config = config_with(training__workers=workers, training__tokens_per_micro_batch=budget, training__epochs=epochs,
                         prompts__per_round=48)  # fmt: skip
    load = round_load(config, _shape(), LENGTHS)
    tokens = [int(GROUP.tokens)] * 48
    steps = plan_steps(tokens, seed=0, round_index=1, epochs=epochs, group_batch=8, tokens_per_micro_batch=budget,
                       workers=workers)  # fmt: skip
    assert load.steps == len(steps)
    assert load.micro_batches == sum(len(step.ranks[0]) for step in steps)
    largest = max(len(batch) for step in steps for rank in step.ranks for batch in rank)
    assert micro_batch_tokens(config, LENGTHS) == largest * GROUP.tokens


def _shape() -> ModelShape:
    sizes = {"total": 1, "linear": 1, "quantised": 1, "head": 1, "lora": 1, "lora_rank": 1, "lora_inputs": 1,
             "lora_modules": 1, "layers": 1, "hidden": 1, "heads": 1, "kv_heads": 1, "head_dim": 1, "feed_forward": 1,
             "vocabulary": 1}  # fmt: skip
    return ModelShape("x", **sizes, gated=True, window=None)


def test_flops_are_those_that_torch_counts(llama: Path) -> None:
    """Attention aside, which torch counts as if every token of a small tree saw every other."""
    shape = ModelShape.of(llama, ModelSection(base="x"))
    policy, batch = policy_of(llama), collate_packed(rows(2))
    attention = 2 * 4 * GROUP.pairs() * shape.heads * shape.head_dim * shape.layers
    in_place = {torch.ops.aten.addmm_: lambda out, a, b, **_: 2 * a[0] * a[1] * b[1]}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter, torch.no_grad():
        policy(batch)
    found = _products(counter)
    assert 2 * forward_flops(shape, GROUP) - attention == pytest.approx(found, rel=0.01)
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        policy(batch).sum().backward()
    found = _products(counter)
    planned = 2 * training_flops(shape, GROUP, full=False) - 3 * attention
    # The first layer's backward pass makes no gradient for the embedding, which is frozen.
    assert planned == pytest.approx(found, rel=0.06)
    assert planned > found


def _products(counter: FlopCounterMode) -> float:
    counts = counter.get_flop_counts()["Global"]
    return sum(flops for op, flops in counts.items() if "mm" in str(op))


@pytest.mark.parametrize("checkpointing", [False, 1, 2, True])
def test_activations_are_those_that_autograd_keeps(llama: Path, checkpointing: bool | int) -> None:
    """All tensors that a forward pass leaves for the backward pass, but for weights and what the head keeps."""
    shape = ModelShape.of(llama, ModelSection(base="x"))
    policy, batch = policy_of(llama, checkpointing=checkpointing), collate_packed(rows(8))
    weights = {p.untyped_storage().data_ptr() for p in policy.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            alive.append(tensor)
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy(batch)
    config = config_with(training__gradient_checkpointing=checkpointing)
    tokens = 8 * GROUP.tokens
    head = 8 * GROUP.targets * shape.hidden * 4
    backward = (2 * shape.heads * shape.head_dim + 3 * shape.feed_forward) * 4 * tokens
    planned = activation_bytes(config, shape, cpu_core(0), tokens, GROUP.tokens) - backward
    if checkpointing is True:
        # One layer is made again at a time, in the backward pass.
        whole = activation_bytes(config_with(), shape, cpu_core(0), tokens, GROUP.tokens) - backward
        planned -= (whole - tokens * shape.hidden * 4) / shape.layers
    assert planned + head == pytest.approx(sum(kept.values()), rel=0.05)


def test_a_dataset_is_not_sampled_and_a_reference_from_the_generator_costs_no_pass() -> None:
    online = round_load(config_with(training__reference_logps="learner"), _shape(), LENGTHS)
    assert (online.sampled, online.sampled_tokens, online.reference_flops > 0) == (200, 5000, True)
    theirs = round_load(config_with(training__reference_logps="generator"), _shape(), LENGTHS)
    assert (theirs.reference_flops, theirs.update_flops) == (0, online.update_flops)
    assert round_load(config_with(), _shape(), LENGTHS) == theirs, "which auto finds to be as good in float32"
    assert round_load(config_with(model__dtype="bfloat16"), _shape(), LENGTHS) == online
    held_out = round_load(config_with(prompts__holdout=10, evaluation__responses=3, evaluation__greedy=True), _shape(),
                          LENGTHS)  # fmt: skip
    assert (held_out.evaluated, held_out.evaluated_tokens) == (40, 1000)
