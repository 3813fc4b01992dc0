"""The image, the Slurm job and the SkyPilot task under cluster/ are sound, and the checks find what is broken."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.launch_checks import NODE, image, instructions, sbatch, sky

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
IMAGE, IGNORE = ((CLUSTER / name).read_text() for name in ("Dockerfile", "Dockerfile.dockerignore"))
SBATCH = (CLUSTER / "slurm.sbatch").read_text()
TASK: dict[str, Any] = yaml.safe_load((CLUSTER / "skypilot.yaml").read_text())


def test_files_are_sound() -> None:
    assert image(IMAGE, IGNORE, ROOT) == []
    assert sbatch(SBATCH) == []
    assert sky(TASK, ROOT) == []


def test_the_rayjob_starts_where_the_image_has_the_configs() -> None:
    (folder,) = [step.text for step in instructions(IMAGE) if step.name == "WORKDIR"]
    assert f"image's {folder}" in (CLUSTER / "kuberay" / "rayjob.yaml").read_text()


def test_all_that_the_set_up_reads_is_in_the_image() -> None:
    read = set(re.findall(r"requirements/[\w.]+", (ROOT / "requirements" / "setup.sh").read_text()))
    assert read >= {"requirements/pip_settings.sh"}
    copied = [word for step in instructions(IMAGE) if step.name == "COPY" for word in step.words[:-1]]
    assert "requirements" in copied and (ROOT / "requirements" / "gpu.lock").is_file()


@pytest.mark.parametrize("script", [NODE, "cluster/slurm.sbatch", "requirements/setup.sh", "requirements/lock.sh"])
def test_scripts_can_be_run(script: str) -> None:
    assert (ROOT / script).stat().st_mode & 0o111 or script.endswith(".sbatch")
    if linter := shutil.which("shellcheck"):
        done = subprocess.run([linter, "--exclude=SC1091", ROOT / script], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


BROKEN_IMAGE = {
    "no base": ("FROM debian:bookworm-slim\n", "", "does not begin with FROM"),
    "latest": ("debian:bookworm-slim", "debian:latest", "no version"),
    "no tag": ("debian:bookworm-slim", "debian", "no version"),
    "misspelt instruction": ("WORKDIR", "WORKDIRR", "unknown instruction WORKDIRR"),
    "broken shell": ("&& rm -rf", "&& && rm -rf", "RUN: bash"),
    "asks a person": ("--yes ", "", "without --yes"),
    "recommended packages": ("--no-install-recommends ", "", "without --no-install-recommends"),
    "lists stay": ("&& rm -rf /var/lib/apt/lists/*", "", "removed in the same layer"),
    "no such file": ("COPY --chown=ray configs configs", "COPY --chown=ray config config", "not in the repository"),
    "not in the build": ("configs configs", "docs docs", "COPY docs: ignored by the build"),
    "lock not there": ("COPY --chown=ray requirements requirements\n", "", "requirements comes after the packages"),
    "no set-up": ("requirements/setup.sh", "true", "not run once"),
    "profile is lost": ("PROFILE=$PROFILE ", "", "does not get the profile"),
    "code is not there": ("COPY --chown=ray rayalign rayalign\n", "", "rayalign is not copied after"),
    "root": ("USER ray\n", "", "runs as root"),
    "root again": ("CMD", "USER root\nCMD", "runs as root"),
    "CPU by default": ("ARG PROFILE=gpu", "ARG PROFILE=cpu", "not gpu by default"),
    "token": ("PYTHONUNBUFFERED=1", "HF_TOKEN=hf_" + "a" * 30, "a plaintext secret"),
}


@pytest.mark.parametrize("case", BROKEN_IMAGE)
def test_broken_image_is_found(case: str) -> None:
    old, new, expected = BROKEN_IMAGE[case]
    assert old in IMAGE
    assert expected in "\n".join(image(IMAGE.replace(old, new), IGNORE, ROOT))


def test_what_the_build_ignores_is_found() -> None:
    assert "COPY requirements: ignored" in "\n".join(image(IMAGE, IGNORE.replace("!requirements\n", ""), ROOT))


BROKEN_SBATCH = {
    "after a command": ("#SBATCH --requeue", "true\n#SBATCH --requeue", "where sbatch does not read it"),
    "misspelt": ("--requeue", "--requeu", "unknown option --requeu"),
    "removed": ("#SBATCH --requeue\n", "", "--requeue is None"),
    "signal to the steps": ("B:TERM@300", "TERM@300", "--signal is"),
    "signal too late": ("B:TERM@300", "B:TERM@5", "--signal is"),
    "two tasks on a node": ("--ntasks-per-node=1", "--ntasks-per-node=2", "--ntasks-per-node is '2'"),
    "time in words": ("04:00:00", "4h", "--time is '4h'"),
    "one log for all": ("%x-%j.log", "%x.log", "--output is"),
    "one CPU": ("--cpus-per-task=8", "--cpus-per-task=1", "--cpus-per-task is '1'"),
    "not an option": ("#SBATCH --mem=64G", "#SBATCH mem=64G", "not an option"),
    "broken shell": ('while [ -n "$again" ]; do', "while", "script: "),
    "another script": ("cluster/node.sh", "cluster/nodes.sh", "does not call cluster/node.sh"),
    "a fixed token": ("$(od -An", "0" * 32 + " $(od -An", "a plaintext secret"),
}


@pytest.mark.parametrize("case", BROKEN_SBATCH)
def test_broken_slurm_job_is_found(case: str) -> None:
    old, new, expected = BROKEN_SBATCH[case]
    assert old in SBATCH
    assert expected in "\n".join(sbatch(SBATCH.replace(old, new)))


BROKEN_TASK: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "unknown key": (("nodes",), 2, "unknown key 'nodes'"),
    "unknown resource": (("resources", "gpus"), 1, "resources: unknown key 'gpus'"),
    "no nodes": (("num_nodes",), 0, "num_nodes is 0"),
    "nodes as text": (("num_nodes",), "2", "num_nodes is '2'"),
    "GPU without count": (("resources", "accelerators"), "L4", "accelerators is 'L4'"),
    "a fixed token": (("secrets", "RAY_AUTH_TOKEN"), "abc", "not asked for on the command line"),
    "a token among the settings": (("envs", "HF_TOKEN"), "hf_" + "a" * 30, "a plaintext secret"),
    "CPU profile": (("setup",), "set -euo pipefail\nmake setup\n", "does not install the GPU profile"),
    "goes on after an error": (("run",), "cluster/node.sh", "run goes on after an error"),
    "broken shell": (("run",), "set -euo pipefail\nif cluster/node.sh\n", "run: bash"),
    "another script": (("run",), "set -euo pipefail\ntrue\n", "does not call cluster/node.sh"),
    "no such config": (("envs", "CONFIG"), "configs/no.yaml", "the run's config"),
    "wrong setting": (("envs", "SETTINGS"), "--set run.round=2", "run.round"),
    "not a setting": (("envs", "SETTINGS"), "--fork x", "not all --set"),
    "run on a machine's disk": (("envs", "RUN_DIR"), "runs", "goes with it"),
}


@pytest.mark.parametrize("case", BROKEN_TASK)
def test_broken_sky_task_is_found(case: str) -> None:
    path, value, expected = BROKEN_TASK[case]
    task = copy.deepcopy(TASK)
    place = task[path[0]] if len(path) == 2 else task
    place[path[-1]] = value
    assert expected in "\n".join(sky(task, ROOT))
