"""What Ray says of a judge that cannot start, in one line."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from rayalign.actors.handles import reason
from rayalign.errors import ModelError


@pytest.mark.parametrize(
    ("name", "error", "line"),
    [
        ("ValueError", ValueError("no room for the KV cache"), "ValueError: no room for the KV cache"),
        ("ModelError", ModelError("no chat template", "it is needed", "name another"), "ModelError: no chat template"),
    ],
)
def test_the_line_that_names_the_error(name: str, error: Exception, line: str) -> None:
    traceback = f"Traceback (most recent call last):\n  File x, line 1, in __init__\n    start()\n{name}: {error}"
    assert reason(ActorDiedError(RayTaskError("JudgeActor.__init__", traceback, error))) == line
