"""Reward models: Hugging Face sequence-classification models with one label.

prompt + response ─► chat template ─► tokens ─► batches of similar length ─► one logit each = the reward
"""

from __future__ import annotations

import hashlib
import inspect
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from rayalign.config_scoring import RewardModelScoring
from rayalign.errors import ModelError
from rayalign.records import Prompt, Sample, Score

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_NO_LIMIT = 10**9
"""Tokenizers that know no longest text give a huge number instead."""


def check_reward_model(folder: Path) -> None:
    """Refuse, from the folder's config alone, what cannot give one reward per text.

    Raises:
        ModelError: not a sequence-classification model, or one with several labels.
    """
    config = _load(AutoConfig, folder)
    kinds = config.architectures or []
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ModelError(f"scoring.model: {folder} is a {', '.join(kinds) or 'model without architectures'}",
                         "a reward model ends in a head that gives one number (...ForSequenceClassification); another "
                         "kind would get a random one", "train it as a reward model first, or name one")  # fmt: skip
    if config.num_labels != 1:
        raise ModelError(f"scoring.model: {folder} has {config.num_labels} labels",
                         "a reward is one number, and which label would be the reward cannot be known",
                         "use a model with num_labels = 1")  # fmt: skip


def _load(auto_class: Any, folder: Path, **options: Any) -> Any:
    try:
        return auto_class.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(f"scoring.model: {folder} cannot be loaded", why,
                         "check that the folder holds a sequence-classification model and its tokenizer",
        ) from error  # fmt: skip


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
        check_reward_model(folder)
        self.name = section.name
        self._section, self._device = section, device
        self._tokenizer = _load(AutoTokenizer, folder)
        self._model = _load_model(folder, DTYPES[section.dtype]).to(device).eval()
        self._templated = section.template == "auto" and bool(self._tokenizer.chat_template)
        self._limit = section.max_tokens or _longest(self._model.config, self._tokenizer)
        self._pad = self._model.config.get_text_config().pad_token_id
        settings = f"{sha256} {section.dtype} {self._templated} {self._limit} {inspect.getsource(RewardModelScorer)}"
        self.version = hashlib.sha256(settings.encode()).hexdigest()[:16]

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        """One score per sample; `prompts` holds the prompt of each."""
        if not samples:
            return []
        whole = self.tokens(prompts, samples)
        rows = [self._cut(ids) for ids in whole]
        rewards, seconds = [math.nan] * len(rows), [0.0] * len(rows)
        for places in plan_batches([len(row) for row in rows], self._budget()):
            started = time.perf_counter()
            values = self.forward([rows[place] for place in places])
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
        texts = self._tokenizer.apply_chat_template(chats, tokenize=False)
        # The template has written BOS and EOS itself.
        return self._tokenizer(texts, add_special_tokens=False)["input_ids"]

    @torch.inference_mode()
    def forward(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """One reward per row of token ids, in one forward pass."""
        longest = max(len(row) for row in rows)
        ids = torch.full((len(rows), longest), self._pad or 0)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        logits = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device)).logits
        return logits.float().squeeze(-1).tolist()

    def _budget(self) -> int:
        # Without a padding token such a model cannot tell where a text ends: one at a time.
        return 1 if self._pad is None else self._section.tokens_per_batch

    def _cut(self, ids: list[int]) -> list[int]:
        if not ids:
            # A response of nothing after a prompt of nothing, in a tokenizer that adds nothing.
            return [self._tokenizer.eos_token_id or 0]
        return ids if len(ids) <= self._limit else [ids[0], *ids[len(ids) - self._limit + 1 :]]

    def _record(self, reward: float, truncated: bool, seconds: float) -> Score:
        aspects = {"truncated": 1.0} if truncated else {}
        known: dict[str, Any] = {"aspects": aspects, "latency_s": seconds}
        if not math.isfinite(reward):
            return Score(self.name, self.version, "error", reason=f"the model's reward is {reward}", **known)
        return Score(self.name, self.version, "ok", reward, **known)


def _load_model(folder: Path, dtype: torch.dtype) -> Any:
    model, found = _load(
        AutoModelForSequenceClassification, folder, dtype=dtype, output_loading_info=True, use_safetensors=True
    )
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise ModelError(f"scoring.model: {folder} lacks {', '.join(missing[:3])}{' ...' if missing[3:] else ''}",
                         "those weights would be random, and with them the rewards",
                         "save the model whole, with its head (model.save_pretrained)")  # fmt: skip
    return model


def _longest(config: Any, tokenizer: Any) -> int:
    """Longest text in tokens: what the positions hold, and what the tokenizer says (fewer where some are reserved)."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or _NO_LIMIT
    return min(positions, tokenizer.model_max_length or _NO_LIMIT, _NO_LIMIT)


def plan_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Places of similar length together, longest first; rows x longest row of a batch fit the budget.

    A row that is longer than the budget gets a batch of its own.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches
