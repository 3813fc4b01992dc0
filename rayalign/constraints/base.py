"""What a constraint on an answer's text is: frozen settings of one `kind`, and whether a text keeps them. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator


def _whole(value: object) -> object:
    """A table may hold whole numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Place = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
"""Counted from 1."""
Text = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]
"""With something to be seen in it."""
Texts = Annotated[list[Text], Field(min_length=1)]


class Constraint(BaseModel, ABC):
    """Base of all kinds. Each has a `kind` of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: str

    @abstractmethod
    def keeps(self, text: str) -> bool:
        """Whether a text keeps it; never raises, and takes time in proportion to the text."""


class Amount(BaseModel):
    """How many of something there must be."""

    at_least: Count | None = None
    at_most: Count | None = None
    exactly: Count | None = None

    def fits(self, number: int) -> bool:
        if self.exactly is not None:
            return number == self.exactly
        return number >= (self.at_least or 0) and (self.at_most is None or number <= self.at_most)

    @model_validator(mode="after")
    def _says_how_many(self) -> Self:
        bounds = self.at_least, self.at_most
        if self.exactly is None and bounds == (None, None):
            raise ValueError("it says no number: give at_least, at_most, both, or exactly")
        if self.exactly is not None and bounds != (None, None):
            raise ValueError("exactly says all: leave at_least and at_most out")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is more than at_most {self.at_most}: no text keeps both")
        return self


class Counted(Constraint, Amount):
    """A constraint on how often something occurs."""

    @abstractmethod
    def count(self, text: str) -> int:
        """How many there are."""

    def keeps(self, text: str) -> bool:
        return self.fits(self.count(text))
