"""Reward models: Hugging Face sequence-classification models with one label.

prompt + response ─► chat template ─► tokens ─► batches of similar length ─► one logit each = the reward
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from rayalign.config.rewards import RewardModelScoring
from rayalign.errors import ModelError
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.definitions import definitions_digest
from rayalign.scoring.models.text_model import (
    batches,
    chat_text,
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


def check_reward_model(folder: Path) -> None:
    """Refuse, from the folder's config and the headers of its weights, what cannot give one reward per text.

    Raises:
        ModelError: not a sequence-classification model, one with several labels, or one that is not whole.
    """
    _check_kind(folder)
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


class RewardModelScorer:
    """Scores with a reward model; a reward that is not finite is that answer's `error`.

    A text longer than the limit keeps its first token and its end (the response, where the model reads the reward)
    and loses the start of its prompt; its score has the aspect `truncated`.
    """

    def __init__(self, section: RewardModelScoring, folder: Path, sha256: str, device: str = "cpu") -> None:
        """Load the model.

        Raises:
            ModelError: it cannot be loaded, has several labels, or weights of it are missing.
        """
        _check_kind(folder)
        self.name = section.name
        self._section, self._device = section, device
        self._tokenizer = load_tokenizer(folder)
        self._model = load_model(AutoModelForSequenceClassification, folder, section.dtype, device)
        self._templated = section.template == "auto" and bool(self._tokenizer.chat_template)
        longest = longest_text(self._model.config, self._tokenizer, positions_of(self._model))
        self._limit = min(section.max_tokens or longest, longest)
        self._pad = padding_of(self._model)
        settings = f"{sha256} {section.dtype} {self._templated} {self._limit} {definitions_digest(RewardModelScorer)}"
        self.version = hashlib.sha256(settings.encode()).hexdigest()[:16]

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        """One score per sample; `prompts` holds the prompt of each."""
        if not samples:
            return []
        whole = self.tokens(prompts, samples)
        rows = [self._cut(ids) for ids in whole]
        rewards, seconds = [math.nan] * len(rows), [0.0] * len(rows)
        for places, batch in batches(rows, self._budget()):
            started = time.perf_counter()
            values = self.forward(batch)
            took = (time.perf_counter() - started) / len(places)
            for place, value in zip(places, values, strict=True):
                rewards[place], seconds[place] = value, took
        longer = [len(ids) > len(row) for ids, row in zip(whole, rows, strict=True)]
        return [self._record(*facts) for facts in zip(rewards, longer, seconds, strict=True)]

    def close(self) -> None:
        """Nothing to end."""

    def tokens(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[list[int]]:
        """Token ids of each conversation with its response, in the model's own form, uncut."""
        pairs = list(zip(prompts, samples, strict=True))
        if not self._templated:
            return self._tokenizer([f"{prompt.text}\n{sample.text}" for prompt, sample in pairs])["input_ids"]
        chats = [[*prompt.messages, {"role": "assistant", "content": sample.text}] for prompt, sample in pairs]
        texts = [chat_text(self._tokenizer, chat) for chat in chats]
        # The template has written BOS and EOS itself.
        return self._tokenizer(texts, add_special_tokens=False)["input_ids"]

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
