"""Encoders: Hugging Face models that turn a text into one vector.

text ─► tokens, cut at the end ─► batches of similar length ─► last hidden states ─► pooling ─► length 1
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from transformers import AutoModel

from rayalign.errors import DataError, ModelError
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
)

T = TypeVar("T")
Pooling = Literal["cls", "mean"]
_KINDS = ("Model", "ForMaskedLM")
_SENTENCE_TRANSFORMERS = {"Transformer", "Pooling", "Normalize"}
"""Modules of that library's folders that this encoder does too."""
POOLER = "pooler"
"""A part of the model that nothing here reads."""
_PROBES = ("a b", "c d e")


def check_encoder(folder: Path, pooling: Pooling) -> None:
    """Refuse, from the folder's configs and headers, what is no encoder or is meant to be used in another way.

    Raises:
        ModelError: another kind of model, another pooling, a layer that this encoder does not have, or one not whole.
    """
    config = load_config(folder)
    kinds = config.architectures or []
    if config.is_encoder_decoder or not any(kind.endswith(_KINDS) for kind in kinds):
        raise ModelError(
            f"scoring.model: {folder} is a {', '.join(kinds) or 'model without architectures'}",
            "an embedding comes from an encoder (BertModel, XLMRobertaModel, ...ForMaskedLM)",
            "name an encoder, for example one saved by sentence-transformers",
        )
    modules = {module["type"].rpartition(".")[2] for module in _read(folder / "modules.json", [])}
    if other := sorted(modules - _SENTENCE_TRANSFORMERS):
        raise ModelError(
            f"scoring.model: {folder} has a sentence-transformers module {other[0]}",
            "it would be left out, which gives other embeddings than the model was trained for",
            "name an encoder whose modules are Transformer, Pooling and Normalize",
        )
    own = _read(folder / "1_Pooling" / "config.json", {})
    modes = sorted(name for name, value in own.items() if name.startswith("pooling_mode") and value is True)
    if own and modes != [{"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}[pooling]]:
        raise ModelError(
            f"scoring.pooling: {pooling}, and {folder} was trained with {' and '.join(modes) or 'another'}",
            "embeddings pooled in another way mean little",
            "set pooling to what 1_Pooling/config.json says, or name another encoder",
        )
    check_model(AutoModel, folder, unused=(POOLER,))


def _read(path: Path, default: T) -> T:
    try:
        return json.loads(path.read_text()) if path.exists() else default
    except ValueError as error:
        raise ModelError(f"scoring.model: {path} is not JSON", str(error), "fetch the model again") from None


@dataclass(frozen=True, slots=True)
class Embedded:
    """What came of each text."""

    vectors_ND: np.ndarray
    """Embeddings in float32, each of length 1; a row of NaN where a text is blank or the model gave none."""
    truncated: list[bool]
    """Whether each text was longer than the limit, so that its end was cut off."""
    seconds: list[float]


class Encoder:
    """Embeds texts. A text longer than the limit loses its end, special tokens aside.

    Args:
        folder: checked with `check_encoder`.
        pooling: the first token's hidden state, or the mean over all tokens.
        max_tokens: longest text; by default the model's context.
        tokens_per_batch: budget of a forward pass, padding included.

    Raises:
        ModelError: it cannot be loaded, lacks weights, or gives different texts the same embedding.
    """

    def __init__(
        self,
        folder: Path,
        pooling: Pooling = "cls",
        *,
        dtype: str = "float32",
        max_tokens: int | None = None,
        tokens_per_batch: int = 8192,
        device: str = "cpu",
    ) -> None:
        self._pooling, self._budget, self._device = pooling, tokens_per_batch, device
        self._tokenizer = load_tokenizer(folder)
        self._model = load_model(AutoModel, folder, dtype, device, unused=(POOLER,))
        longest = longest_text(self._model.config, self._tokenizer, positions_of(self._model))
        self.limit = min(max_tokens or longest, longest)
        first, second = self.encode(_PROBES).vectors_ND
        if np.array_equal(first, second):
            raise ModelError(
                f"scoring.model: {folder} with pooling {pooling} gives different texts one embedding",
                "its first token does not see the others, as in a causal model",
                "set pooling: mean, or name another encoder",
            )

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings [N, D], float32, each of length 1: their dot products are cosines.

        Raises:
            DataError: a text that is blank, or whose embedding is not finite.
        """
        vectors_ND = self.encode(texts).vectors_ND
        bad = next((i for i, vector in enumerate(vectors_ND) if not np.isfinite(vector).all()), None)
        if bad is not None:
            raise DataError(
                f"text {bad} has no embedding: {texts[bad][:80]!r}", no_embedding(texts[bad]), "leave it out"
            )
        return vectors_ND

    def encode(self, texts: Sequence[str]) -> Embedded:
        """What came of each text: as `embed`, without an error for texts that cannot be embedded."""
        vectors_ND = np.full((len(texts), self._model.config.hidden_size), math.nan, np.float32)
        truncated, seconds = [False] * len(texts), [0.0] * len(texts)
        there = [i for i, text in enumerate(texts) if text.strip()]
        rows = []
        for i in there:
            row = self._tokens(texts[i])
            truncated[i] = len(row) > self.limit
            rows.append(self._tokens(texts[i], self.limit) if truncated[i] else row)
        for places, batch in batches(rows, self._budget):
            started = time.perf_counter()
            chosen = [there[place] for place in places]
            vectors_ND[chosen] = self.forward(batch)
            for i in chosen:
                seconds[i] = (time.perf_counter() - started) / len(chosen)
        return Embedded(vectors_ND, truncated, seconds)

    @torch.inference_mode()
    def forward(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Embeddings [B, D] of rows of token ids, in one forward pass; NaN where one is not finite or all zeros."""
        ids_BT, mask_BT = padded(rows, padding_of(self._model) or 0, self._device)
        hidden_BTH = self._model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state.float()
        if self._pooling == "cls":
            pooled_BH = hidden_BTH[:, 0]
        else:
            # Not times the mask: what stands on padding may be NaN.
            kept_BTH = hidden_BTH.masked_fill(mask_BT[:, :, None] == 0, 0.0)
            pooled_BH = kept_BTH.sum(1) / mask_BT.sum(1, keepdim=True)
        vectors_BD = (pooled_BH / pooled_BH.norm(dim=-1, keepdim=True)).cpu().numpy()
        vectors_BD[~np.isfinite(vectors_BD).all(axis=1)] = math.nan
        return vectors_BD

    def _tokens(self, text: str, limit: int | None = None) -> list[int]:
        cut = {"truncation": True, "max_length": limit} if limit else {}
        return self._tokenizer(text, verbose=False, **cut)["input_ids"]


def no_embedding(text: str) -> str:
    """Why a text has no embedding."""
    return "the model's embedding of it is not finite" if text.strip() else "it is empty"
