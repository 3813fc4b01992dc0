"""Runs the steps of cluster/Dockerfile in a plain folder, where there is no container engine. By hand, as root:

    python -m tests.image_root FOLDER [NAME=VALUE of ARG and of the environment ...]

FOLDER is made by debootstrap and must not exist. RUN goes through chroot, with the machine's network, as the USER.
Layers and .dockerignore are not tried; tests/unit/launch_checks.py looks at those.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.unit.launch_checks import instructions

ROOT = Path(__file__).parents[1]


def main() -> None:
    folder, given = Path(sys.argv[1]).absolute(), dict(word.split("=", 1) for word in sys.argv[2:])
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"} | given
    user, place, ran = "root", "/", 0
    for step in instructions((ROOT / "cluster" / "Dockerfile").read_text()):
        print(f"--- {step.name} {step.text}", flush=True)
        match step.name:
            case "FROM":
                make_root(folder, step.text)
            case "ARG":
                name, _, value = step.text.partition("=")
                environment.setdefault(name, value)
            case "ENV":
                for word in shlex.split(step.text):
                    name, _, value = word.partition("=")
                    environment[name] = re.sub(r"\$(\w+)", lambda match: environment[match[1]], value)
            case "USER":
                user = step.text
                environment["HOME"] = f"/home/{user}"
            case "WORKDIR":
                place = step.text
            case "COPY":
                copy(step.words, folder / place.lstrip("/"))
                subprocess.run(["chroot", folder, "chown", "-R", f"{user}:", place], check=True)
            case "RUN":
                run(folder, user, place, environment, step.text)
                ran += 1
            case "CMD":
                run(folder, user, place, environment, shlex.join(json.loads(step.text)))
    print(f"--- {ran} RUN steps and CMD ended well")


def make_root(folder: Path, base: str) -> None:
    """`debian:RELEASE-slim`."""
    release = base.removeprefix("debian:").removesuffix("-slim")
    subprocess.run(["debootstrap", "--variant=minbase", release, folder], check=True, stdout=subprocess.DEVNULL)
    shutil.copy("/etc/resolv.conf", folder / "etc")


def copy(words: list[str], place: Path) -> None:
    *sources, target = words
    for source in sources:
        file = ROOT / source
        to = place / target if not target.endswith("/") else place / target / file.name
        if file.is_dir():
            shutil.copytree(file, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to if to != place else place / file.name)


def run(folder: Path, user: str, place: str, environment: dict[str, str], command: str) -> None:
    inside = f"cd {shlex.quote(place)} && {command}"
    outside = ["chroot", f"--userspec={user}:{user}", folder, "/bin/sh", "-c", inside]
    subprocess.run(outside, check=True, env=environment | {"TMPDIR": "/tmp"}, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    os.umask(0o022)
    main()
