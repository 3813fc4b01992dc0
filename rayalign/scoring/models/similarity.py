"""Similarity to the prompt's target: the cosine of the embeddings of response and target (both without the prompt)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rayalign.config.rewards import SimilarityScoring
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.definitions import definitions_digest
from rayalign.scoring.models import encoder as encoder_module
from rayalign.scoring.models.encoder import Encoder, no_embedding

KNOWN_TARGETS = 20_000
"""Targets whose embeddings are kept: a prompt comes back every few rounds."""


class SimilarityScorer:
    """Rewards are cosines, from -1 to 1. A prompt without a target abstains; a text without an embedding is `error`."""

    def __init__(self, section: SimilarityScoring, folder: Path, sha256: str, device: str = "cpu") -> None:
        """Load the encoder.

        Raises:
            ModelError: it cannot be loaded, or tells texts apart by nothing.
        """
        self.name = section.name
        self._encoder = Encoder(
            folder,
            section.pooling,
            dtype=section.dtype,
            max_tokens=section.max_tokens,
            tokens_per_batch=section.tokens_per_batch,
            device=device,
        )
        self._targets: dict[str, tuple[np.ndarray, bool]] = {}
        code = definitions_digest(encoder_module, SimilarityScorer)
        settings = f"{sha256} {section.dtype} {section.pooling} {self._encoder.limit} {code}"
        self.version = hashlib.sha256(settings.encode()).hexdigest()[:16]

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        """One score per sample; `prompts` holds the prompt of each."""
        pairs = list(zip(prompts, samples, strict=True))
        targets = {prompt.target for prompt, _ in pairs if prompt.target is not None}
        new = sorted(targets - self._targets.keys())
        # Equal responses are embedded once; targets share their batches.
        responses = list(dict.fromkeys(sample.text for prompt, sample in pairs if prompt.target is not None))
        embedded = self._encoder.encode([*new, *responses])
        self._targets |= {text: (embedded.vectors_ND[i], embedded.truncated[i]) for i, text in enumerate(new)}
        places = {text: len(new) + i for i, text in enumerate(responses)}
        scores = []
        for prompt, sample in pairs:
            if prompt.target is None:
                scores.append(Score(self.name, self.version, "abstain", reason="the prompt has no target"))
                continue
            place = places[sample.text]
            response = embedded.vectors_ND[place], embedded.truncated[place]
            scores.append(self._score(prompt.target, sample.text, response, embedded.seconds[place]))
        for text in list(self._targets)[:-KNOWN_TARGETS]:
            del self._targets[text]
        return scores

    def close(self) -> None:
        """Nothing to end."""

    def _score(self, target: str, text: str, response: tuple[np.ndarray, bool], seconds: float) -> Score:
        known = self._targets[target]
        cut = {"truncated": response[1], "target_truncated": known[1]}
        aspects = {name: 1.0 for name, value in cut.items() if value}
        for what, vector, words in (("target", known[0], target), ("response", response[0], text)):
            if np.isnan(vector).any():
                reason = f"the {what} has no embedding: {no_embedding(words)}"
                return Score(self.name, self.version, "error", reason=reason, aspects=aspects, latency_s=seconds)
        cosine = float(np.clip(np.dot(known[0], response[0]), -1.0, 1.0))
        return Score(self.name, self.version, "ok", cosine, aspects=aspects, latency_s=seconds)
