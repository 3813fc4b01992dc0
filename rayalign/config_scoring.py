"""The scoring backends of a run: a list under `scoring`, each told apart by its `type`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rayalign.config_base import Section


class RuleScoring(Section):
    """The demo world's rule, or a user's `my_file.py:score(prompt, response) -> float | None`."""

    type: Literal["rule"]
    function: Annotated[str, Field(min_length=1)]
    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0

    @property
    def name(self) -> str:
        return f"rule:{self.function.rpartition('/')[2]}"


class JudgeScoring(Section):
    """A judge that writes what is wrong; it gives judgments and no reward."""

    type: Literal["judge"]
    transport: Literal["demo"]
    """`demo`: the demo world's own judge."""
    weight: Literal[0] = 0

    @property
    def name(self) -> str:
        return f"judge:{self.transport}"


Scoring = Annotated[RuleScoring | JudgeScoring, Field(discriminator="type")]
