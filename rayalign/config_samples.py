"""Offline rounds: training responses that a dataset gives instead of the generator."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rayalign.config_base import DatasetFormat, Section


class SamplesSection(Section):
    """With it, training prompts and their responses, rewards and judgments come from a dataset."""

    source: Annotated[str, Field(min_length=1)]
    """`demo`, or a dataset's file."""
    format: DatasetFormat = "auto"
    """Of `demo`: judgments, ultrafeedback or preference."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest response, its EOS included; null is `sampling.max_tokens`. Longer ones are left out, never cut."""
