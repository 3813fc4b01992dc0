"""`make setup`: each profile installs its lock, and an environment keeps its profile."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/usr/bin/env bash
# In the place of Python, pip and uv: notes what it is asked and installs nothing.
echo "$(basename "$0") $* [UV_FIND_LINKS=${UV_FIND_LINKS-}]" >>"$CALLS"
if [[ "$*" == "-m venv"* ]]; then
    mkdir -p .venv/bin
    for name in python uv rayalign; do cp "$0" ".venv/bin/$name"; done
fi
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with what the set-up reads."""
    root = tmp_path / "project"
    shutil.copytree(ROOT / "requirements", root / "requirements")
    for name in ("pyproject.toml", "Makefile"):
        shutil.copy(ROOT / name, root)
    python = tmp_path / "python3.11"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return root


def set_up(root: Path, profile: str | None) -> tuple[subprocess.CompletedProcess[str], str]:
    """What `make setup` says, and what it asked of Python and uv."""
    calls = root.parent / "calls"
    calls.write_text("")
    plain = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PIP_", "UV_", "PROFILE", "MAKE", "MFLAGS"))
    }
    settings = {"PYTHON": str(root.parent / "python3.11"), "CALLS": str(calls), "PIP_FIND_LINKS": "/wheels"}
    command = ["make", "--no-print-directory", "setup", *([f"PROFILE={profile}"] if profile else [])]
    done = subprocess.run(command, cwd=root, env=plain | settings, capture_output=True, text=True)
    return done, calls.read_text()


def make_environment(root: Path, *, profile: str | None, stamp: bool) -> None:
    """As set-up left it; without a profile: as it was when there was one."""
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/rayalign").touch(0o755)
    if profile:
        (root / ".venv/.rayalign-profile").write_text(f"{profile}\n")
    if stamp:
        read = (f"requirements/{profile or 'cpu'}.lock", "pyproject.toml", "requirements/setup.sh")
        content = b"".join((root / name).read_bytes() for name in (*read, "requirements/pip_settings.sh"))
        (root / ".venv/.rayalign-setup").write_text(f"{hashlib.sha256(content).hexdigest()} {root}\n")


def test_the_gpu_profile_installs_its_lock_and_no_wheel_of_pips_folders(project: Path) -> None:
    done, calls = set_up(project, "gpu")
    assert done.returncode == 0, done.stderr
    assert "328 packages" in done.stdout and "CUDA build" in done.stdout
    (install,) = [line for line in calls.splitlines() if line.startswith("uv ")]
    assert "-r requirements/gpu.lock" in install and "[UV_FIND_LINKS=]" in install
    assert "torch==" not in calls and "+cpu" not in calls
    again, calls = set_up(project, None)
    assert (again.returncode, again.stdout, calls) == (0, "", "")


def test_the_cpu_profile_is_the_default_and_takes_torch_first(project: Path) -> None:
    done, calls = set_up(project, None)
    assert done.returncode == 0, done.stderr
    assert "pip install --no-deps --no-compile torch==2.13.0+cpu" in calls
    (install,) = [line for line in calls.splitlines() if line.startswith("uv ")]
    assert "-r requirements/cpu.lock" in install and "[UV_FIND_LINKS=/wheels]" in install
    assert (project / ".venv/.rayalign-profile").read_text() == "cpu\n"


@pytest.mark.parametrize(
    ("held", "stamp", "asked"),
    [("gpu", True, "cpu"), ("cpu", True, "gpu"), (None, True, "gpu"), ("gpu", False, "cpu")],
    ids=["gpu, cpu asked", "cpu, gpu asked", "of before the profiles, gpu asked", "half-made gpu, cpu asked"],
)
def test_an_environment_of_another_profile_is_refused(project: Path, held: str | None, stamp: bool, asked: str) -> None:
    make_environment(project, profile=held, stamp=stamp)
    before = sorted(path.relative_to(project) for path in (project / ".venv").rglob("*"))
    done, calls = set_up(project, asked)
    assert "Error 2" in done.stderr and calls == ""
    assert f"error: .venv holds the {held or 'cpu'} profile, and PROFILE is {asked}" in done.stderr
    assert f"remedy: make clean setup PROFILE={asked}" in done.stderr
    assert sorted(path.relative_to(project) for path in (project / ".venv").rglob("*")) == before


@pytest.mark.parametrize("held", ["gpu", "cpu", None])
def test_an_environment_that_is_up_to_date_stays(project: Path, held: str | None) -> None:
    make_environment(project, profile=held, stamp=True)
    for asked in (None, held or "cpu"):
        done, calls = set_up(project, asked)
        assert (done.returncode, done.stdout, calls) == (0, "", "")


def test_a_half_made_environment_is_made_anew_in_its_profile(project: Path) -> None:
    make_environment(project, profile="gpu", stamp=False)
    done, calls = set_up(project, None)
    assert done.returncode == 0 and "-r requirements/gpu.lock" in calls


def test_an_unknown_profile_is_refused(project: Path) -> None:
    done, _ = set_up(project, "tpu")
    assert "Error 2" in done.stderr and "PROFILE is 'tpu'" in done.stderr and not (project / ".venv").exists()
