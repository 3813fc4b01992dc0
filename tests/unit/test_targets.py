"""What works with reference answers is refused where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from rayalign.errors import ConfigError, DataError
from rayalign.launch.targets import check_targets
from rayalign.records import Prompt
from tests.fakes import make_config

SIMILARITY = [{"type": "similarity", "model": "demo"}]


def prompt(target: str | None) -> Prompt:
    return Prompt("p", [{"role": "user", "content": "Name a fish."}], [1], target, {})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"objective": {"type": "spin"}}, "objective.type spin works with reference answers"),
        ({"objective": {"type": "self_contrast", "pool": "alldedup"}}, "objective.type self_contrast works with"),
        ({"scoring": SIMILARITY}, "the scorer similarity:demo works with reference answers"),
    ],
)
def test_without_any_reference_answer_nothing_is_sampled(changes: dict[str, Any], says: str) -> None:
    config = make_config(**changes)
    with pytest.raises(DataError, match=says) as told:
        check_targets(config, [prompt(None)], known=False)
    assert told.value.exit_code == 2
    check_targets(config, [prompt(None)], known=True)
    check_targets(config, [prompt(None), prompt("Cod.")], known=False)


def test_what_needs_none_is_not_asked_for_any() -> None:
    check_targets(make_config(), [prompt(None)], known=False)
    with pytest.raises(ConfigError, match=r"evaluation\.baselines has target"):
        check_targets(make_config(evaluation={"baselines": ["target"]}), [prompt(None)], known=True)
