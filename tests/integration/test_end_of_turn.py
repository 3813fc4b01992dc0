"""A real engine stops where the template ends an answer, though the model's own EOS is another token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from rayalign.records import Prompt, SamplingPlan
from tests.fakes import make_config
from tests.renderers import renderer
from tests.tiny_run import make_base

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_sampling_stops_at_the_templates_end_of_turn(tmp_path: Path) -> None:
    """One of 64 random words is the end: the last token of what stopped, no other token of anything, and no text."""
    from rayalign.actors.engine import Engine
    from rayalign.learning.folders import load_tokenizer

    base = make_base(tmp_path / "base")
    # Heads as wide as vLLM wants them on a CPU.
    shape = {"hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1}
    LlamaForCausalLM(LlamaConfig(**shape, **ids, max_position_embeddings=64)).save_pretrained(base)
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} w7 {% endfor %}"
    tokenizer.save_pretrained(base)
    generation = base / "generation_config.json"
    assert json.loads(generation.read_text())["eos_token_id"] == 1
    one = renderer(tokenizer)
    (end,) = one.stop_ids
    messages = [{"role": "user", "content": "w1"}]
    prompt = Prompt("p", messages, one.prompt(messages, "p"))
    limits = {"prompts": {"source": "demo", "max_tokens": 16}, "sampling": {"responses": 64, "max_tokens": 30}}
    config = make_config(model={"base": str(base)}, **limits)
    engine = Engine("one", str(base), config, on_failure=lambda: None)
    engine.hold(0, None)
    samples = engine.sample([prompt], SamplingPlan(1, "train", 0, 64, 2.0, 1.0, 30), 0)
    engine.close()
    stopped = [sample for sample in samples if sample.token_ids[-1] == end]
    assert len(stopped) > 5
    for sample in samples:
        assert (sample.finish_reason == "stop") is (sample.token_ids[-1] in (end, tokenizer.eos_token_id))
        assert end not in sample.token_ids[:-1] and "w7" not in sample.text.split()
        assert len(sample.logprobs) == len(sample.token_ids)
