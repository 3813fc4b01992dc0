"""The demo world's rule and judge as they travel to scorers: by value, as a user's own file does."""

from __future__ import annotations

import inspect

from rayalign.demo import world
from rayalign.scoring.rules.file import RuleSource


def demo_rule(function: str) -> RuleSource:
    """The source of one of the world's functions: `score` or `judge`."""
    return RuleSource(world.__file__, inspect.getsource(world), function, shipped=True)
