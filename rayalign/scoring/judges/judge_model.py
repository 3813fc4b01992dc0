"""Judges whose model the run holds itself: what is checked before an actor starts, and the text that the model gets."""

from __future__ import annotations

import datetime
from pathlib import Path

from rayalign.config.run import RunConfig
from rayalign.config.services import JudgeScoring
from rayalign.errors import ConfigError, DataError, ModelError
from rayalign.records import Prompt
from rayalign.rendering.renderer import ChatRenderer
from rayalign.rendering.template import UNDATED
from rayalign.scoring.judges.quoting import NONCE_DIGITS
from rayalign.scoring.judges.templates import make_template
from rayalign.scoring.models.text_model import KEY, load_config, load_tokenizer, longest_text
from rayalign.store.pretrained import check_vocabulary

_KINDS = ("ForCausalLM", "ForConditionalGeneration", "GPT2LMHeadModel")


def judge_renderer(folder: Path, date: datetime.date) -> ChatRenderer:
    """How a judge's model reads its questions: in its own chat template.

    Args:
        date: of the run, for a template that asks for today's.

    Raises:
        ModelError: it has no chat template, or one that cannot be used.
    """
    tokenizer = load_tokenizer(folder)
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"scoring.model: {folder} has no chat template",
            "a judge gets a system and a user message, which only its own template can put together",
            "name an instruction-tuned model",
        )
    return ChatRenderer(tokenizer, "auto", date, remedy="name another judge, or mend its chat template")


def check_judge_model(folder: Path, section: JudgeScoring, config: RunConfig) -> None:
    """Refuse a model that cannot be the judge of this run, without loading its weights.

    Raises:
        ModelError: no generative model, no chat template, or one that takes no system message.
        ConfigError: question and reply do not fit into its context.
    """
    model_config = load_config(folder)
    kinds = model_config.architectures or []
    if not any(kind.endswith(_KINDS) for kind in kinds):
        raise ModelError(
            f"scoring.model: {folder} is a {', '.join(kinds) or 'model without architectures'}",
            "a judge writes its verdict, so it must be a language model (...ForCausalLM)",
            "name one; a classifier is a scorer of type reward_model",
        )
    renderer = judge_renderer(folder, UNDATED)
    if rows := getattr(model_config.get_text_config(), "vocab_size", None):
        check_vocabulary(renderer.tokenizer, rows, folder, KEY)
    # Without a rubric file's text, which is read later: the longest texts are an estimate in any case.
    rubric = section.rubric if isinstance(section.rubric, str) else None
    template = make_template(section.template, rubric, reasons=section.reasons, structured=section.structured)
    responses = [""] * (2 if section.template == "pairwise" else 1)
    try:
        messages = template.messages(Prompt("", [{"role": "user", "content": ""}], []), responses, "0" * NONCE_DIGITS)
        own = len(renderer.prompt(messages, "a question"))
    except DataError as error:
        raise ModelError(
            f"scoring.model: the chat template of {folder} refuses a system and a user message",
            error.why,
            "name another judge, or mend its chat template",
        ) from None
    longest = longest_text(model_config, renderer.tokenizer)
    longest = min(section.context or longest, longest)
    texts = config.prompts.max_tokens + len(responses) * config.sampling.max_tokens
    needed = own + texts + section.max_tokens
    if longest < needed:
        raise ConfigError(
            f"{section.name}: template {own} + prompt and answers {texts} + max_tokens "
            f"{section.max_tokens} = {needed} tokens",
            f"the judge's context is {longest} tokens",
            "lower prompts.max_tokens, sampling.max_tokens "
            "or the judge's max_tokens, or name a judge with a longer context",
        )
