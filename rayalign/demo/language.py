"""The demo world's language: its tokenizer, and its models before any training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayalign.demo import world

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ '<|' + message['role'] + '|>' }}{{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL_TOKENS = {"pad_token": "<|pad|>", "bos_token": "<|bos|>", "eos_token": "<|eos|>"}
ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")
CONTEXT = 2048
POLICY: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
    # With the default of 0.02 so narrow a model learns to order and to count far more slowly.
    "initializer_range": 0.06,
}
# Narrower than the policy: more pairs in the same time teach more.
REWARD_MODEL: dict[str, Any] = {**POLICY, "hidden_size": 64, "intermediate_size": 128, "num_labels": 1}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer in which every word of the world is one token and any text round-trips."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        # Far above what the corpus needs: merging ends only when every word is one token.
        vocab_size=10_000,
        special_tokens=[*SPECIAL_TOKENS.values(), *ROLE_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_corpus(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **SPECIAL_TOKENS,
        additional_special_tokens=list(ROLE_TOKENS),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _corpus() -> Iterator[str]:
    for row in world.prompts(0):
        yield row["messages"][0]["content"]
    for row in world.sft_rows(0, 4_000):
        yield row["prompt"][0]["content"]
        yield row["completion"][0]["content"]
    # At the start of an answer and after a space, often enough to be merged early.
    for word in world.WORDS:
        yield from (word, f" {word}") * 2


def write_untrained(folder: Path, seed: int, *, rewards: bool) -> None:
    """Write the policy (or the reward model) as it is before any training, with its tokenizer."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    tokenizer = build_tokenizer()
    ids = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in SPECIAL_TOKENS}
    torch.manual_seed(seed)
    if rewards:
        model = LlamaForSequenceClassification(LlamaConfig(vocab_size=len(tokenizer), **REWARD_MODEL, **ids))
    else:
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **POLICY, **ids))
        model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
