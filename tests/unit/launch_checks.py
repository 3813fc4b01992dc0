"""What must hold for cluster/Dockerfile, slurm.sbatch and skypilot.yaml; each check gives a list of problems."""

from __future__ import annotations

import fnmatch
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.unit.cluster_checks import no_secrets

INSTRUCTIONS = {"FROM", "ARG", "RUN", "ENV", "USER", "WORKDIR", "COPY", "CMD"}
NODE = "cluster/node.sh"


@dataclass(frozen=True)
class Instruction:
    name: str
    text: str
    """All after the name, lines that go on joined."""

    @property
    def words(self) -> list[str]:
        return [word for word in shlex.split(self.text) if not word.startswith("--")]


def instructions(text: str) -> list[Instruction]:
    """A Dockerfile's; comments are left out, between the lines of one instruction too."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.partition(" ")[::2]) for line in joined.splitlines()]


def image(text: str, ignore: str, root: Path) -> list[str]:
    """The image's file and what its build may read of the repository."""
    steps = instructions(text)
    problems = [f"unknown instruction {step.name}" for step in steps if step.name not in INSTRUCTIONS]
    problems += no_secrets([step.text for step in steps])
    if not steps or steps[0].name != "FROM":
        return [*problems, "does not begin with FROM"]
    for step in steps:
        if step.name == "FROM" and (":" not in step.text or step.text.endswith(":latest")):
            problems.append(f"FROM {step.text}: no version")
        if step.name == "RUN":
            problems += _shell("RUN", step.text)
            problems += _apt(step.text)
        if step.name == "COPY":
            problems += [
                f"COPY {word}: not in the repository" for word in step.words[:-1] if not (root / word).exists()
            ]
            problems += [f"COPY {word}: ignored by the build" for word in step.words[:-1] if _ignored(word, ignore)]
    problems += _layers(steps)
    if [step.text for step in steps if step.name == "USER"][-1:] in ([], ["root"]):
        problems.append("runs as root")
    if "PROFILE=gpu" not in [step.text for step in steps if step.name == "ARG"]:
        problems.append("the profile is not gpu by default")
    return problems


def _shell(what: str, text: str) -> Iterator[str]:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    if done.returncode:
        yield f"{what}: {done.stderr.strip().splitlines()[0]}"


def _apt(text: str) -> Iterator[str]:
    for install in re.findall(r"apt-get install[^&;]*", text):
        for option in ("--yes", "--no-install-recommends"):
            if option not in install:
                yield f"apt-get install without {option}"
        if "rm -rf /var/lib/apt/lists/*" not in text or "apt-get update" not in text:
            yield "apt-get install without its lists made and removed in the same layer"


def _ignored(path: str, ignore: str) -> bool:
    """Whether a .dockerignore leaves a path out: the last pattern that fits it or a folder above decides."""
    above = [path.rstrip("/"), *(parent.as_posix() for parent in Path(path).parents)][:-1] or [path]
    ignored = False
    for line in filter(None, (line.strip() for line in ignore.splitlines())):
        pattern = line.removeprefix("!").removeprefix("**/")
        if any(fnmatch.fnmatch(one, pattern) for one in above):
            ignored = not line.startswith("!")
    return ignored


def _layers(steps: list[Instruction]) -> Iterator[str]:
    """The packages come from the lock before the code does, and all that their set-up reads before them."""
    set_up = [i for i, step in enumerate(steps) if step.name == "RUN" and "requirements/setup.sh" in step.text]
    if len(set_up) != 1:
        yield "requirements/setup.sh is not run once"
        return
    if "PROFILE=$PROFILE" not in steps[set_up[0]].text:
        yield "requirements/setup.sh does not get the profile"
    copied = [{word for step in part if step.name == "COPY" for word in step.words[:-1]} for part in
              (steps[: set_up[0]], steps[set_up[0] :])]  # fmt: skip
    for needed in ("pyproject.toml", "LICENSE", "requirements", "rayalign/__init__.py"):
        if needed not in copied[0]:
            yield f"{needed} comes after the packages, whose set-up reads it"
    for code in ("rayalign", "configs", NODE):
        if code not in copied[1]:
            yield f"{code} is not copied after the packages"


SBATCH = {
    "job-name": r"[\w-]+",
    "output": r"\S*%j\S*",
    "open-mode": "append",
    "nodes": r"[1-9]\d*",
    "ntasks-per-node": "1",
    "cpus-per-task": r"[2-9]|[1-9]\d+",
    "gpus-per-node": r"[1-9]\d*",
    "mem": r"[1-9]\d*G",
    "time": r"\d{2}:\d{2}:\d{2}",
    "signal": r"B:TERM@\d{2,}",
    "requeue": "",
}
"""Option of sbatch -> what its value looks like here; all must be there."""


def sbatch(text: str) -> list[str]:
    """The options before the first command, and the script itself."""
    lines = text.splitlines()
    command = next(i for i, line in enumerate(lines) if line.strip() and not line.startswith("#"))
    found = {}
    problems = list(_shell("script", text))
    for number, line in enumerate(lines):
        if match := re.fullmatch(r"#SBATCH --([\w-]+)(?:=(\S+))?", line):
            found[match[1]] = match[2] or ""
        elif line.startswith("#SBATCH"):
            problems.append(f"not an option: {line}")
        if line.startswith("#SBATCH") and number > command:
            problems.append(f"after the first command, where sbatch does not read it: {line}")
    problems += [f"unknown option --{name}" for name in found if name not in SBATCH]
    for name, form in SBATCH.items():
        if not re.fullmatch(form, found.get(name, "\n")):
            problems.append(f"--{name} is {found.get(name)!r}")
    if lines[0] != "#!/usr/bin/env bash":
        problems.append("no first line that names the shell")
    return problems + list(no_secrets(text)) + _calls_node(text)


def _calls_node(text: str) -> list[str]:
    return [] if NODE in text else [f"does not call {NODE}"]


TASK = {"name", "workdir", "num_nodes", "resources", "envs", "secrets", "setup", "run"}
RESOURCES = {"accelerators", "cpus", "memory", "disk_size", "use_spot", "job_recovery"}
"""Keys of SkyPilot 0.14's task and of its resources that are used here."""


def sky(document: dict[str, Any], root: Path) -> list[str]:
    problems = [f"unknown key {key!r}" for key in document if key not in TASK]
    problems += [f"resources: unknown key {key!r}" for key in document["resources"] if key not in RESOURCES]
    problems += no_secrets({key: value for key, value in document.items() if key != "secrets"})
    if document.get("secrets") != {"RAY_AUTH_TOKEN": None}:
        problems.append("the token is not asked for on the command line")
    if type(document.get("num_nodes")) is not int or document["num_nodes"] < 1:
        problems.append(f"num_nodes is {document.get('num_nodes')!r}")
    if not re.fullmatch(r"[\w-]+:[1-9]\d*", str(document["resources"].get("accelerators"))):
        problems.append(f"accelerators is {document['resources'].get('accelerators')!r}")
    for part in ("setup", "run"):
        problems += _shell(part, document[part])
        if not document[part].startswith("set -euo pipefail\n"):
            problems.append(f"{part} goes on after an error")
    if "make setup PROFILE=gpu" not in document["setup"]:
        problems.append("setup does not install the GPU profile")
    problems += _calls_node(document["run"])
    return problems + list(_run_of(document["envs"], root))


def _run_of(envs: dict[str, str], root: Path) -> Iterator[str]:
    """The config is there and takes the settings, and the run outlives the machines."""
    from rayalign.config.file import load_config
    from rayalign.errors import ConfigError

    words = shlex.split(envs["SETTINGS"])
    if len(words) % 2 or any(word != "--set" for word in words[::2]):
        yield f"SETTINGS are not all --set: {words}"
        return
    try:
        loaded = load_config(root / envs["CONFIG"], [*words[1::2], f"run.dir={envs['RUN_DIR']}"])
    except ConfigError as error:
        yield f"the run's config: {error}"
        return
    if not loaded.run.dir.startswith(("s3://", "gs://")):
        yield "the run folder is on a machine's disk, which goes with it"
