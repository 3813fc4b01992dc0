"""What `rayalign plan` says beside figures that others published of GPUs.

    .venv/bin/python benchmarks/plan.py

Nothing is run: each case is a model's sizes, a GPU of the table and the settings that the publication names. A line is
the plan's figure, the published one and the first over the second; the last line is JSON: how many of how many are
within a factor of 1.5.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
LIMIT = 1.5
LLAMA2_7B = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
             "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
             "tie_word_embeddings": False, "architectures": ["LlamaForCausalLM"]}  # fmt: skip
LLAMA31_8B = LLAMA2_7B | {"intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128256,
                          "max_position_embeddings": 131072}  # fmt: skip
MISTRAL_7B = LLAMA31_8B | {"model_type": "mistral", "vocab_size": 32768, "sliding_window": None,
                           "architectures": ["MistralForCausalLM"]}  # fmt: skip
BLOOMZ_7B = {"model_type": "bloom", "hidden_size": 4096, "n_layer": 30, "n_head": 32, "vocab_size": 250880,
             "architectures": ["BloomForCausalLM"]}  # fmt: skip
QWEN_7B = LLAMA2_7B | {"vocab_size": 151936, "max_position_embeddings": 8192}
"""Qwen-7B's sizes; its own code is not in transformers."""
QWEN = {"model.lora": {"r": 64}, "training.gradient_checkpointing": True}
"""Its finetune_lora_single_gpu.sh: all linear layers, activations remade; batches of one sequence, eight to a step."""
TORCHTUNE = {
    "model.lora": {"r": 8, "targets": ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]},
    "training.gradient_checkpointing": True,
}
"""Its config 8B_lora_single_device: batches of two packed sequences of 2,048 tokens, bfloat16, activations remade."""


@dataclass(frozen=True)
class Case:
    source: str
    what: str
    """`sample`, output tokens/s; `update`, tokens/s; `memory`, GiB of a learner rank."""
    published: float
    model: dict[str, Any]
    gpu: str
    prompt: int
    answer: int
    answers: int
    """Of a prompt."""
    prompts: int
    """Of a round: how many sequences can run at a time."""
    settings: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("vLLM 0.2 benchmark_throughput, neuralmagic/nm-vllm commit a55fb2b: Llama-2-7B, 256 -> 128 tokens, 3.84 "
         "prompts/s", "sample", 3.841 * 128, LLAMA2_7B, "A10G", 256, 128, 1, 1000),
    Case("vLLM serve, mushfiqrahman.dev: Mistral-7B, 256 -> 100 tokens, 48 at a time", "sample", 1190, MISTRAL_7B,
         "RTX-4090", 256, 100, 1, 48),
    Case("vLLM 0.23 serve, johnmusgrave.com: Llama-3.1-8B, 1024 -> 128 tokens, one at a time", "sample", 75, LLAMA31_8B,
         "A100-40GB", 1024, 128, 1, 1),
    Case("vLLM 0.21 serve, yobitelcomm InferenceBench: Llama-3.1-8B, one at a time", "sample", 122.2, LLAMA31_8B,
         "H100-80GB", 128, 128, 1, 1),
    Case("torchtune's README: Llama-3.1-8B LoRA", "update", 3083, LLAMA31_8B, "RTX-4090", 1, 2049, 2, 8, TORCHTUNE),
    Case("torchtune's README: Llama-3.1-8B LoRA", "update", 4699, LLAMA31_8B, "RTX-A6000", 1, 2049, 2, 8, TORCHTUNE),
    Case("torchtune's README: Llama-3.1-8B LoRA", "memory", 16.2, LLAMA31_8B, "RTX-4090", 1, 2049, 2, 8, TORCHTUNE),
    Case("torchtune's README: Llama-3.1-8B LoRA", "memory", 30.3, LLAMA31_8B, "RTX-A6000", 1, 2049, 2, 8, TORCHTUNE),
    Case("Qwen's README: LoRA, 2,048 tokens, 5.2 s for 8", "update", 8 * 2048 / 5.2, QWEN_7B, "A100-80GB", 1,
         2048, 1, 8, QWEN),
    Case("Qwen's README: LoRA, 8,192 tokens, 21.3 s for 8", "update", 8 * 8192 / 21.3, QWEN_7B, "A100-80GB", 1,
         8192, 1, 8, QWEN),
    Case("Qwen's README: LoRA, 2,048 tokens, 23.8 G", "memory", 23.8, QWEN_7B, "A100-80GB", 1, 2048, 1, 8, QWEN),
    Case("Qwen's README: LoRA, 8,192 tokens, 36.6 G", "memory", 36.6, QWEN_7B, "A100-80GB", 1, 8192, 1, 8, QWEN),
    Case("PEFT's README: bloomz-7b1 LoRA in float32, A100 of 80 GB, 32 GB", "memory", 32e9 / 2**30, BLOOMZ_7B,
         "A100-80GB", 1, 64, 8, 8,
         {"model.dtype": "float32", "model.lora": {"r": 8, "targets": ["query_key_value"]}}),
)  # fmt: skip


def predicted(case: Case) -> float:
    from rayalign.config.run import RunConfig
    from rayalign.learning.shape import ModelShape
    from rayalign.planning.cluster import machines_with
    from rayalign.planning.devices import GPUS
    from rayalign.planning.load import Lengths
    from rayalign.planning.plan import make_plan
    from rayalign.planning.times import paper_rates

    data: dict[str, Any] = {
        "model": {"base": "x", "dtype": "bfloat16"},
        "prompts": {"source": "x", "per_round": case.prompts, "max_tokens": case.prompt},
        "sampling": {"responses": case.answers, "max_tokens": case.answer},
        "scoring": [{"type": "rule", "function": "demo"}],
        # With one answer per prompt nothing can be compared by reward.
        "objective": {"type": "spin"},
        "training": {"group_batch": 1},
        "cluster": {"generators": {"gpus": 1}, "learner": {"gpus": 1}},
    }
    for key, value in case.settings.items():
        section, _, name = key.partition(".")
        data[section][name] = value
    config = RunConfig.model_validate(data)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(case.model))
        shape = ModelShape.of(Path(folder), config.model)
    plan = make_plan(config, shape, machines_with(GPUS[case.gpu], config), Lengths(case.prompt, case.answer))
    if case.what == "memory":
        return plan.learner.sum / 2**30
    if case.what == "update":
        # Theirs makes no pass for a reference.
        reference = plan.load.reference_flops / paper_rates(config, GPUS[case.gpu]).forward_flops
        return plan.load.trained_tokens / (plan.times.update - reference)
    return plan.load.sampled_tokens / plan.times.sample


def rows() -> Iterator[tuple[Case, float]]:
    for case in CASES:
        yield case, predicted(case)


def main() -> None:
    within = 0
    for case, figure in rows():
        ratio = figure / case.published
        hit = 1 / LIMIT <= ratio <= LIMIT
        within += hit
        print(f"{case.what:7} {case.gpu:10} {figure:8.1f} planned {case.published:8.1f} published  {ratio:5.2f}  "
              f"{'' if hit else 'MISSED  '}{case.source}")  # fmt: skip
    print(json.dumps({"within": within, "of": len(CASES)}))


if __name__ == "__main__":
    main()
