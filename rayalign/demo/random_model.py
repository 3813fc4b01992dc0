"""Models of random weights, made in seconds: for trying an engine and a learner, not for reading what they say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rayalign.config.model import ModelSection
from rayalign.learning.model import build_policy

SPECIAL = ("<bos>", "<eos>", "<unk>")
SPREAD = 0.1
"""Of the small model's weights: log-probabilities then differ from a uniform distribution's, and errors show."""


@dataclass(frozen=True, slots=True)
class Sizes:
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    spread: float


SMALL = Sizes(128, 256, 2, 2, 1, 256, SPREAD)
"""0.4M parameters; heads of 64, which every engine takes."""
LARGE = Sizes(1536, 4096, 16, 12, 4, 32000, 0.02)
"""0.5B parameters: a billion bytes in bfloat16, which a GPU of 8 GiB holds with an engine's or a learner's rest."""


def make_random_model(folder: Path, sizes: Sizes, context: int, dtype: str) -> Path:
    """A Llama with a tokenizer of as many words and a chat template.

    Args:
        dtype: `float32` or `bfloat16`, of the files.
    """
    words = [*SPECIAL, *(f"w{i}" for i in range(sizes.vocabulary - len(SPECIAL)))]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.add_special_tokens(list(SPECIAL))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.chat_template = "<bos> {% for m in messages %}{{ m['content'] }} <eos> {% endfor %}"
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.key_value_heads,
        vocab_size=sizes.vocabulary,
        max_position_embeddings=context,
        initializer_range=sizes.spread,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    # transformers' own `to` is wrapped in a way that type checkers cannot call.
    torch.nn.Module.to(model, getattr(torch, dtype))
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def random_adapter(folder: Path, section: ModelSection) -> dict[str, bytes]:
    """An adapter's files that move what the model says."""
    policy = build_policy(folder, section)
    policy.reset_adapter(0)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in sorted(policy.named_parameters()):
        if "lora_B" in name:
            parameter.normal_(0, SPREAD, generator=generator)
    return policy.adapter_files(section.base)
