"""A run folder of one round around a tiny random model, made in a second without Ray."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rayalign.config.model import LoraSection, ModelSection
from rayalign.data.selection import build_group
from rayalign.learning.folders import hash_model, load_tokenizer
from rayalign.learning.model import Policy, build_policy
from rayalign.records import (
    Adapter,
    EvalReport,
    Groups,
    Metric,
    Prompt,
    Sample,
    Score,
    ScoredSample,
    TrainingGroup,
    prompt_id,
    weights_file,
)
from rayalign.store.folder import Folder
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import parquet_bytes
from tests.fakes import make_config

TEMPLATE = "<bos>{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}assistant"
WORDS = ["<bos>", "<eos>", "<unk>", "user", "assistant", *(f"w{i}" for i in range(59))]


def make_base(folder: Path, dtype: torch.dtype = torch.float32, context: int = 64, head_dim: int = 8) -> Path:
    """A random Llama of 64 words with a tokenizer and a chat template; it hardly ever ends an answer.

    Args:
        head_dim: of its attention; vLLM on CPU serves 32 and more.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    words.add_special_tokens(["<bos>", "<eos>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        **shape, vocab_size=64, num_key_value_heads=2, max_position_embeddings=context, initializer_range=0.3,
        bos_token_id=0, eos_token_id=1, head_dim=head_dim,
    )  # fmt: skip
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    return folder


def adapter_files(base: Path) -> dict[str, bytes]:
    """An adapter that changes the model."""
    policy = build_policy(base, ModelSection(base=str(base), lora=LoraSection(r=8, alpha=16)))
    policy.reset_adapter(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in sorted(policy.named_parameters()):
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=generator)
    return policy.adapter_files(str(base))


def full_files(base: Path) -> dict[str, bytes]:
    """All weights, changed."""
    policy = build_policy(base, ModelSection(base=str(base), full=True))
    change_all(policy, 1)
    return policy.adapter_files(str(base))


@torch.no_grad()
def change_all(policy: Policy, seed: int) -> None:
    """Add something to every weight that is trained."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.trainable():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def make_saved_run(root: Path | Folder, base: Path, **changes: Any) -> RunDir:
    """Rounds 0 and 1, committed; four prompts with two answers each."""
    model = {"base": str(base), "lora": {"r": 8, "alpha": 16}}
    config = make_config(**{"model": model, "run": {"rounds": 1}, **changes})
    run_dir = RunDir(root)
    run_dir.open(config.to_dict())
    sha256 = hash_model(base)
    run_dir.update_info(inputs={"model_sha256": sha256})
    run_dir.round(0).finish(adapter_sha256=None)
    one = run_dir.round(1)
    prompts = [_prompt(load_tokenizer(base), f"w{i} w{i + 1}") for i in range(4)]
    one.write_prompts(prompts)
    rows = [_row(prompt, index) for prompt in prompts for index in range(2)]
    one.commit_shard("train", 0, rows)
    made = [build_group(p, [r for r in rows if r.sample.prompt_id == p.id], config.groups) for p in prompts]
    content = parquet_bytes([group.to_row() for group in made], TrainingGroup.schema())
    groups = Groups(["rounds/0001/groups/00000.parquet"], len(made), {})
    one.commit("groups", one.write("groups/00000.parquet", content), groups=dataclasses.asdict(groups))
    files = full_files(base) if config.model.full else adapter_files(base)
    digest = hashlib.sha256(files[weights_file(files)]).hexdigest()
    written = {}
    for name, file in files.items():
        written |= one.write(f"adapter/{name}", file)
    adapter = Adapter(1, "rounds/0001/adapter", digest, sha256, 0)
    one.commit("adapter", written, adapter=dataclasses.asdict(adapter), training={"loss": 0.5})
    report = EvalReport(1, 1, {"mean_reward": Metric(0.625, 32, (0.5, 0.75))})
    one.commit("report", one.write("report.json", _json(report.to_dict())))
    one.finish(adapter_sha256=digest)
    return run_dir


def _prompt(tokenizer: Any, text: str) -> Prompt:
    messages = [{"role": "user", "content": text}]
    ids = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=False)
    return Prompt(prompt_id(messages), messages, list(ids))


def _row(prompt: Prompt, index: int) -> ScoredSample:
    tokens = [10 + index, 20, 1]
    sample = Sample(prompt.id, index, f"w{5 + index} w15", tokens, [-1.0, -1.0, -1.0], "stop", 0, index)
    return ScoredSample(sample, [Score("rule:demo", "1", "ok", float(index))], float(index))


def _json(data: Any) -> bytes:
    import json

    return json.dumps(data).encode()
