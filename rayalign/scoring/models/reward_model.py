"""Reward models: Hugging Face sequence-classification models with one label.

prompt + response ─► chat template ─► tokens ─► batches of similar length ─► one logit each = the reward
"""

from __future__ import annotations

import datetime
import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from rayalign.config.rewards import RewardModelScoring
from rayalign.errors import DataError, ModelError
from rayalign.records import Prompt, Sample, Score
from rayalign.rendering.renderer import ChatRenderer
from rayalign.rendering.template import UNDATED
from rayalign.scoring.definitions import definitions_digest
from rayalign.scoring.models.text_model import (
    batches,
    check_model,
    load_config,
    load_model,
    load_tokenizer,
    longest_text,
    padded,
    padding_of,
    positions_of,
    special_id,
)


def check_reward_model(folder: Path, template: str = "auto") -> None:
    """Refuse, from the folder's config and the headers of its weights, what cannot give one reward per text.

    Raises:
        ModelError: not a sequence-classification model, one with several labels, one that is not whole, or one whose
            chat template refuses an answer or leaves it out.
    """
    _check_kind(folder)
    reward_renderer(load_tokenizer(folder), template, UNDATED)
    check_model(AutoModelForSequenceClassification, folder)


def _check_kind(folder: Path) -> None:
    config = load_config(folder)
    kinds = config.architectures or []
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ModelError(
            f"scoring.model: {folder} is a {', '.join(kinds) or 'model without architectures'}",
            "a reward model ends in a head that gives one number (...ForSequenceClassification); another "
            "kind would get a random one",
            "train it as a reward model first, or name one",
        )
    if config.num_labels != 1:
        raise ModelError(
            f"scoring.model: {folder} has {config.num_labels} labels",
            "a reward is one number, and which label would be the reward cannot be known",
            "use a model with num_labels = 1",
        )


def reward_renderer(tokenizer: PreTrainedTokenizerBase, template: str, date: datetime.date) -> ChatRenderer:
    """How a reward model reads a conversation: in its tokenizer's template, if it has one and is to use it.

    Raises:
        ModelError: the chat template refuses an answer or leaves it out.
    """
    templated = template == "auto" and bool(getattr(tokenizer, "chat_template", None))
    remedy = "mend the reward model's chat template, or set the scorer's template: none to give it the bare text"
    return ChatRenderer(tokenizer, "auto" if templated else "none", date, remedy=remedy)


class RewardModelScorer:
    """Scores with a reward model; a reward that is not finite is that answer's `error`.

    A text longer than the limit keeps its first token and its end (the response, where the model reads the reward)
    and loses the start of its prompt; its score has the aspect `truncated`.
    """

    def __init__(
        self,
        section: RewardModelScoring,
        folder: Path,
        sha256: str,
        device: str = "cpu",
        date: datetime.date = UNDATED,
    ) -> None:
        """Load the model.

        Args:
            date: of the run, for a chat template that asks for today's.

        Raises:
            ModelError: it cannot be loaded, has several labels, or weights of it are missing.
        """
        _check_kind(folder)
        self.name = section.name
        self._section, self._device = section, device
        self._tokenizer = load_tokenizer(folder)
        self._model = load_model(AutoModelForSequenceClassification, folder, section.dtype, device)
        self._renderer = reward_renderer(self._tokenizer, section.template, date)
        longest = longest_text(self._model.config, self._tokenizer, positions_of(self._model))
        self._limit = min(section.max_tokens or longest, longest)
        self._pad = padding_of(self._model)
        parts = (sha256, section.dtype, self._renderer.identity, self._limit, definitions_digest(RewardModelScorer))
        self.version = hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        """One score per sample; `prompts` holds the prompt of each."""
        if not samples:
            return []
        scores: list[Score] = [Score(self.name, self.version, "error")] * len(samples)
        readable, rows = [], []
        for i, (prompt, sample) in enumerate(zip(prompts, samples, strict=True)):
            try:
                rows.append(self._tokens(prompt, sample))
                readable.append(i)
            except DataError as error:
                scores[i] = Score(self.name, self.version, "error", reason=f"{error.found}: {error.why}")
        cut = [self._cut(ids) for ids in rows]
        for places, batch in batches(cut, self._budget()):
            started = time.perf_counter()
            values = self.forward(batch)
            took = (time.perf_counter() - started) / len(places)
            for place, value in zip(places, values, strict=True):
                scores[readable[place]] = self._record(value, len(rows[place]) > len(cut[place]), took)
        return scores

    def close(self) -> None:
        """Nothing to end."""

    def tokens(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[list[int]]:
        """Token ids of each conversation with its response, in the model's own form, uncut.

        Raises:
            DataError: the chat template refuses one of them.
        """
        return [self._tokens(prompt, sample) for prompt, sample in zip(prompts, samples, strict=True)]

    def _tokens(self, prompt: Prompt, sample: Sample) -> list[int]:
        said = {"role": "assistant", "content": sample.text}
        return self._renderer.conversation([*prompt.messages, said], f"the conversation of prompt {prompt.id}")

    @torch.inference_mode()
    def forward(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """One reward per row of token ids, in one forward pass."""
        ids_BT, mask_BT = padded(rows, self._pad or 0, self._device)
        logits = self._model(input_ids=ids_BT, attention_mask=mask_BT).logits
        return logits.float().squeeze(-1).tolist()

    def _budget(self) -> int:
        # Without a padding token such a model cannot tell where a text ends: one at a time.
        return 1 if self._pad is None else self._section.tokens_per_batch

    def _cut(self, ids: list[int]) -> list[int]:
        if not ids:
            # A response of nothing after a prompt of nothing, in a tokenizer that adds nothing.
            return [special_id(self._tokenizer.eos_token_id)]
        return ids if len(ids) <= self._limit else [ids[0], *ids[len(ids) - self._limit + 1 :]]

    def _record(self, reward: float, truncated: bool, seconds: float) -> Score:
        aspects = {"truncated": 1.0} if truncated else {}
        if not math.isfinite(reward):
            reason = f"the model's reward is {reward}"
            return Score(self.name, self.version, "error", reason=reason, aspects=aspects, latency_s=seconds)
        return Score(self.name, self.version, "ok", reward, aspects=aspects, latency_s=seconds)
