"""What vLLM says where it does not start, in one line."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from rayalign.actors.vllm_start import _said


class Settings(BaseModel):
    size: int


def test_an_error_of_pydantic_is_told_by_its_message() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"size": "many"})
    assert _said(caught.value).startswith("ValidationError: Input should be a valid integer")


def test_other_errors_are_told_by_their_first_line() -> None:
    assert _said(ValueError("no such architecture\ndetails")) == "ValueError: no such architecture"
    assert _said(KeyError()) == "KeyError"
