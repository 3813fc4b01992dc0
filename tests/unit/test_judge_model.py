"""Models that cannot judge a run are refused from their files alone, before an actor starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import BertConfig, LlamaConfig

from rayalign.config.run import RunConfig
from rayalign.config.services import JudgeScoring
from rayalign.demo.language import CHAT_TEMPLATE, build_tokenizer
from rayalign.errors import ConfigError, ModelError
from rayalign.scoring.judges.judge_model import check_judge_model
from tests.fakes import make_config

HELD = {"type": "judge", "transport": "vllm", "model": "judge", "template": "rating", "max_tokens": 64}


def check(folder: Path, **changes: Any) -> None:
    config: RunConfig = make_config(scoring=[{**HELD, **changes}])
    section = config.scoring[0]
    assert isinstance(section, JudgeScoring)
    check_judge_model(folder, section, config)


def save(folder: Path, context: int = 2048, *, template: str | None = "", kind: str = "LlamaForCausalLM") -> Path:
    """A model folder without weights; `template` "" keeps the demo world's."""
    tokenizer = build_tokenizer()
    if template != "":
        tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    LlamaConfig(max_position_embeddings=context, architectures=[kind]).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("section", [{}, {"template": "pairwise", "rubric": "Count the animals."}])
def test_a_language_model_with_a_template_may_judge(tmp_path: Path, section: dict[str, Any]) -> None:
    """In a context that just holds all, and in none that is a token shorter."""
    with pytest.raises(ConfigError) as caught:
        check(save(tmp_path, context=64), **section)
    needed = int(re.findall(r"= (\d+) tokens", caught.value.found)[0])
    check(save(tmp_path, context=needed), **section)
    with pytest.raises(ConfigError, match=f"the judge's context is {needed - 1} tokens"):
        check(save(tmp_path, context=needed - 1), **section)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    BertConfig(architectures=["BertForSequenceClassification"]).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a BertForSequenceClassification"):
        check(tmp_path)


def test_no_chat_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no chat template"):
        check(save(tmp_path, template=None))


def test_a_template_without_system_messages_is_refused(tmp_path: Path) -> None:
    picky = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    picky += CHAT_TEMPLATE
    with pytest.raises(ModelError) as caught:
        check(save(tmp_path, template=picky))
    assert "refuses a system and a user message" in caught.value.found
    assert "System role not supported" in caught.value.why


def test_a_context_that_is_too_short_is_refused(tmp_path: Path) -> None:
    """512 tokens of prompt and 64 of answer; two answers in a comparison."""
    with pytest.raises(ConfigError, match=r"prompt and answers 576 \+ max_tokens 64 = \d+ tokens") as caught:
        check(save(tmp_path, context=700))
    assert "the judge's context is 700 tokens" in caught.value.why
    with pytest.raises(ConfigError, match="prompt and answers 640"):
        check(tmp_path, template="pairwise")
    with pytest.raises(ConfigError, match="the judge's context is 512 tokens"):
        check(save(tmp_path), context=512)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(yaml.safe_dump({}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        check(tmp_path)
