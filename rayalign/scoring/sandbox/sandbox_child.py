"""The process that runs untrusted code: gives up what it can reach, then runs each test in a fork of itself.

Started by `sandbox.py` as a script with the job as JSON on stdin; imports nothing of rayalign. Answers on stdout, a
word a line: `ready` when the walls stand, `1` or `0` per test, `end`. Or `refused` and why, before any code has run.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import secrets
import signal
import struct
import sys
import types
from pathlib import Path
from typing import Any

_NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
_PDEATHSIG, _DUMPABLE, _KEEPCAPS, _NO_NEW_PRIVS = 1, 4, 8, 38
_DAC_READ_SEARCH = 2
_LANDLOCK = (444, 445, 446)
"""System calls create_ruleset, add_rule, restrict_self; the same numbers on every architecture."""
_WRITES = {1: 0b1_1111_1111_0010, 2: 1 << 13, 3: 1 << 14}
"""The rights that each Landlock version adds: to write, create and remove; to move between folders; to truncate."""
_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """This machine cannot give what the job asks for."""


def _check(result: int, what: str) -> int:
    if result < 0:
        raise Refused(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def isolate(job: dict[str, Any]) -> None:
    """Namespaces, another user, read-only files, limits; in this process and all that it starts."""
    os.chdir(job["folder"])
    flags = _NEWIPC | _NEWPID | (_NEWNET if job["network"] == "none" else 0)
    apart = _libc.unshare(flags) == 0
    # Another user may not get to an interpreter in a private home folder: then one right of root's stays, to read.
    keep = 0 if _open_to_all(sys.prefix, sys.base_prefix) else 1 << _DAC_READ_SEARCH
    other = os.geteuid() == 0 and _become_other(job["folder"])
    if not apart:
        uid, gid = os.geteuid(), os.getegid()
        if _libc.unshare(flags | _NEWUSER) == 0:
            _map_user(uid, gid)
        elif job["network"] == "none":
            raise Refused(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    _check(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if not _only_write(job["folder"]) and not other:
        raise Refused("neither Landlock nor another user to keep the code from writing files")
    _drop_capabilities(keep if apart and other else 0)
    _limit(job)


def _become_other(folder: str) -> bool:
    """Leave root for a user that owns nothing but the folder, and whose processes can be counted."""
    other = 30_000 + os.getpid() % 30_000
    try:
        os.chown(folder, other, other)
        os.setgroups([])
        _libc.prctl(_KEEPCAPS, 1, 0, 0, 0)
        os.setresgid(other, other, other)
        os.setresuid(other, other, other)
    except OSError:
        # A container whose root may not: it stays who it is.
        return False
    # Or its own files in /proc would be root's.
    _libc.prctl(_DUMPABLE, 1, 0, 0, 0)
    return True


def _open_to_all(*folders: str) -> bool:
    """Whether every user gets to these folders."""
    paths = {os.path.realpath(folder) for folder in folders}
    parents = {str(parent) for path in paths for parent in (Path(path), *Path(path).parents)}
    return all(os.stat(parent).st_mode & 0o001 for parent in parents)


def _map_user(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {uid} 1"), ("gid_map", f"65534 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _only_write(folder: str) -> bool:
    """Landlock: read anything, write below `folder` and to /dev/null. False where the kernel has none."""
    version = _libc.syscall(_LANDLOCK[0], None, 0, 1)
    if version < 1:
        return False
    rights = sum(bits for since, bits in _WRITES.items() if since <= version)
    ruleset = _check(_libc.syscall(_LANDLOCK[0], struct.pack("=Q", rights), 8, 0), "landlock_create_ruleset")
    # Of a file only the right to write is known (and to truncate).
    for path, allowed in ((folder, rights), ("/dev/null", rights & (1 << 1 | 1 << 14))):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", allowed, place)
        _check(_libc.syscall(_LANDLOCK[1], ruleset, 1, rule, 0), f"landlock_add_rule {path}")
        os.close(place)
    _check(_libc.syscall(_LANDLOCK[2], ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)
    return True


def _drop_capabilities(keep: int) -> None:
    """Have the rights in `keep` and no other."""
    header, rights = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", keep, keep, 0, 0, 0, 0)
    _check(_libc.capset(header, rights), "capset")


def _limit(job: dict[str, Any]) -> None:
    memory, size = job["memory_mb"] * 2**20, job["file_mb"] * 2**20
    limits = {
        # A second more than the wall clock: the parent ends it before, this ends what the parent cannot.
        resource.RLIMIT_CPU: math.ceil(job["timeout_s"]) + 1,
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: size,
        resource.RLIMIT_CORE: 0,
        # Kernels differ in whether they count the user's processes outside, so those come on top.
        resource.RLIMIT_NPROC: _tasks_of(os.getuid()) + job["processes"],
    }
    for name, value in limits.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def _tasks_of(uid: int) -> int:
    """Processes and threads of a user."""
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == uid:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def passes(code: str, test: str, answers: int) -> bool:
    """Run one test in a fork. It passed if the fork got to its end, which it proves with a number it reads only there:
    a program that just exits with status 0 has passed nothing."""
    proof = secrets.token_bytes(16)
    ask, asked = os.pipe()
    told, tell = os.pipe()
    os.write(asked, proof)
    os.close(asked)
    child = os.fork()
    if child == 0:
        os.close(answers)
        os.close(told)
        _run(code, test)
        os.write(tell, os.read(ask, 16))
        os._exit(0)
    os.close(ask)
    os.close(tell)
    _, status = os.waitpid(child, 0)
    # What the test left running must not hold the pipe open.
    os.set_blocking(told, False)
    with os.fdopen(told, "rb", buffering=0) as file:
        return status == 0 and file.read(32) == proof


def _run(code: str, test: str) -> None:
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    try:
        exec(compile(code, "solution.py", "exec"), vars(module))
        exec(compile(test, "test.py", "exec"), vars(module))
    except BaseException:
        os._exit(1)


def run_tests(job: dict[str, Any], answers: int) -> None:
    os.write(answers, b"ready\n")
    for test in job["tests"]:
        os.write(answers, b"1\n" if passes(job["code"], test, answers) else b"0\n")
    os.write(answers, b"end\n")


def main() -> None:
    job = json.load(sys.stdin)
    answers = os.dup(1)
    nothing = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    try:
        isolate(job)
        # A user change clears it, so it comes after.
        _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # Only a fork is inside the new process namespace; all of that ends with its first process.
        first = os.fork()
    except (Refused, OSError) as error:
        os.write(answers, f"refused {error}\n".encode())
        return
    if first:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 0xFF)
    _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.dup2(nothing, 2)
    run_tests(job, answers)


if __name__ == "__main__":
    main()
