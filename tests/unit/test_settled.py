"""Settings that are `auto` and that what a run makes depends on: chosen once, and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rayalign.actors import device_probe
from rayalign.config.run import RunConfig
from rayalign.launch.settled import settle

GPUS = {"generators": {"gpus": 1}, "learner": {"gpus": 1}}
Machine = Callable[[float, str | None], None]


def config_with(**sections: Any) -> RunConfig:
    data = {
        "model": {"base": "demo", "dtype": "auto"},
        "prompts": {"source": "demo"},
        "scoring": [{"type": "rule", "function": "demo"}],
        "objective": {"type": "nca"},
    }
    return RunConfig.model_validate({**data, **sections})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Sets bfloat16's gain on this machine's CPU, and the name of its GPU where that lacks it."""

    def set_to(gain: float, lacking: str | None) -> None:
        monkeypatch.setattr(device_probe, "bfloat16_gain", lambda: gain)
        monkeypatch.setattr(device_probe, "lacks_bfloat16", lambda: lacking)

    return set_to


@pytest.mark.parametrize(
    ("gain", "lacking", "sections", "dtype", "why"),
    [
        (0.12, None, {}, "float32", "this processor multiplies bfloat16 0.1 times as fast"),
        (2.3, None, {}, "bfloat16", "this processor multiplies bfloat16 2.3 times as fast"),
        (0.12, None, {"cluster": GPUS}, "bfloat16", "generators and learner are on GPUs"),
        (2.3, "Tesla T4", {"cluster": GPUS}, "float32", "Tesla T4 has no bfloat16"),
        (0.12, None, {"cluster": {"generators": {"gpus": 1}}}, "float32", "multiplies bfloat16 0.1 times"),
        (2.3, None, {"model": {"base": "demo", "dtype": "auto", "full": True}}, "float32", "all weights are trained"),
    ],
)
def test_the_numbers_are_those_of_the_devices(
    machine: Machine, gain: float, lacking: str | None, sections: dict[str, Any], dtype: str, why: str
) -> None:
    machine(gain, lacking)
    config, (line,) = settle(config_with(**sections))
    assert config.model.dtype == dtype
    assert line.startswith(f"model.dtype auto: {dtype} (") and why in line


def test_what_a_run_began_with_holds(machine: Machine) -> None:
    """Also where this version's default is `auto`, and was none when the run was made."""
    machine(0.1, None)
    saved = config_with(model={"base": "demo", "dtype": "bfloat16"}, training={"reference_logps": "learner"}).to_dict()
    config, lines = settle(config_with(), saved)
    assert (config.model.dtype, config.training.reference_logps) == ("bfloat16", "learner")
    assert lines == ["model.dtype auto: bfloat16, as when the run began"]
    del saved["training"]["reference_logps"]
    config, _ = settle(config_with(), saved)
    assert config.training.reference_logps == "auto"


def test_what_is_said_is_not_touched() -> None:
    said = config_with(model={"base": "demo", "dtype": "float32"}, training={"reference_logps": "learner"})
    assert settle(said) == (said, [])
    saved = config_with(model={"base": "demo", "dtype": "bfloat16"}).to_dict()
    assert settle(said, saved) == (said, []), "that they differ is for the run folder to refuse"


def test_this_machine_can_be_asked() -> None:
    assert 0 < device_probe.bfloat16_gain() < 100
