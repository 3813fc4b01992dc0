"""`rayalign doctor --gpu`: every part is tried however the others end, and what is found becomes a table."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from rayalign.commands import doctor_gpu
from rayalign.commands.doctor_gpu import Result, diagnose_gpu, figures, table
from rayalign.errors import DeviceError, PlacementError
from rayalign.launch import device_checks
from rayalign.launch.device_bench import Bench, check_gap
from rayalign.launch.device_checks import outcome_of

CHECK = """
import json, os, signal, subprocess, sys, time
name, device, folder, result = sys.argv[1:]
print("log of", name)
if name == "dies":
    os.kill(os.getpid(), signal.SIGSEGV)
if name == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if name == "hangs":
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("process", started.pid, flush=True)
    time.sleep(600)
if name == "raises":
    outcome = {"error": ["no | room", "a\\nb", "free it"]}
else:
    outcome = {"facts": {"device": device, "tokens_per_s": 4}}
open(result, "w").write(json.dumps(outcome))
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Checks that end in every way; the folder of their logs."""
    program = tmp_path / "checks.py"
    program.write_text(CHECK)
    monkeypatch.setenv("RAYALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor_gpu, "PROGRAM", (sys.executable, str(program)))
    return tmp_path / "cache" / "doctor-gpu"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def timeless(line: str) -> str:
    """A line of the table whatever seconds the check took."""
    return re.sub(r"\| \d+ \|", "| S |", line)


def test_no_end_of_a_check_hides_another(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_gpu, "LIMIT_S", 4)
    lines: list[str] = []
    assert diagnose_gpu(lines.append, "cpu", ("raises", "dies", "killed", "hangs", "sampling")) == 1
    rows = {line.split("|")[1].strip(): timeless(line) for line in lines if line.startswith("| ")}
    assert "| FAILED | S | no / room; a b; free it |" in rows["raises"]
    assert "ended by SIGSEGV without a result; the log ends: log of dies; file an issue" in rows["dies"]
    assert "ended by SIGKILL" in rows["killed"] and "free host memory" in rows["killed"]
    assert "no end after 4 s; the log ends: process" in rows["hangs"]
    assert rows["sampling"] == "| sampling | ok | S | cpu, 4 tokens/s |"
    started = int((stand_in / "hangs.log").read_text().split()[-1])
    deadline = time.monotonic() + 10
    while alive(started):
        assert time.monotonic() < deadline, "what a check started outlives it"
        time.sleep(0.05)
    shown = next(line for line in lines if line.startswith("FAILED    dies"))
    assert shown.endswith(f"(log: {stand_in / 'dies.log'})")


def test_all_well_is_exit_code_0(stand_in: Path) -> None:
    assert diagnose_gpu(lambda text: None, "cpu", ("sampling",)) == 0


def test_one_gpu_leaves_tensor_parallel_out(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_gpu, "count_gpus", lambda: 1)
    lines: list[str] = []
    assert diagnose_gpu(lines.append, "cuda", ("tensor parallel", "device")) == 0
    assert "| tensor parallel | left out |  | it needs two GPUs, and one is here |" in lines
    assert "| device | ok | S | cuda, 4 tokens/s |" in map(timeless, lines)


class Cuda:
    def __init__(self, gpus: int) -> None:
        self.gpus = gpus

    def is_available(self) -> bool:
        return self.gpus > 0

    def device_count(self) -> int:
        return self.gpus


@pytest.mark.parametrize(
    ("cuda", "gpus", "vllm", "found", "remedy"),
    [
        (None, 0, None, "is a build without CUDA", "make clean setup PROFILE=gpu"),
        ("13.0", 0, "0.32.0", "sees none", "nvidia-smi"),
        ("13.0", 1, None, "vllm is not installed", "make clean setup PROFILE=gpu"),
    ],
    ids=["CPU profile", "no driver", "no engine"],
)
def test_without_a_gpu_nothing_is_tried(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, gpus: int, vllm: str | None, found: str, remedy: str
) -> None:
    import torch

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch, "cuda", Cuda(gpus))
    monkeypatch.setattr(doctor_gpu, "_version", lambda package: vllm)
    lines: list[str] = []
    with pytest.raises(PlacementError) as error:
        diagnose_gpu(lines.append)
    assert error.value.exit_code == 2 and lines == []
    assert found in error.value.found and error.value.why and remedy in error.value.remedy


def test_torch_that_does_not_load_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(PlacementError, match=r"libcudart\.so\.13"):
        doctor_gpu.count_gpus()


def test_figures_have_their_units() -> None:
    facts = {"device": "L4", "memory_gib": 22.034, "tokens_per_s": 8123.4, "to_device_gib_s": 25.0, "start_s": 61.27}
    expected = "L4, memory 22.0 GiB, 8123 tokens/s, to device 25 GiB/s, start 61.3 s"
    assert figures(facts) == expected
    assert figures({"gap": 1.23456e-05, "capability": "8.9", "gpus": 2}) == "gap 1.23e-05, capability 8.9, gpus 2"


def test_the_table_can_be_pasted() -> None:
    lines = list(table([Result("sampling", "FAILED", "a\nb | c", 3.4)]))
    assert lines[2:] == [
        "",
        "| part | | s | what was found |",
        "|---|---|---|---|",
        "| sampling | FAILED | 3 | a b / c |",
    ]


def refuse(error: Exception) -> object:
    def check(bench: Bench) -> dict[str, float | str]:
        raise error

    return outcome_of(check, Bench("cpu", Path("unused")))["error"]


@pytest.mark.parametrize(
    ("error", "found", "remedy"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "RuntimeError: CUDA out of", "nvidia-smi"),
        (RuntimeError("CUDA error: no kernel image is available"), "no kernel image", "another GPU"),
        (RuntimeError("The NVIDIA driver on your system is too old (found version 11040)"), "11040", "newer NVIDIA"),
        (OSError("CUDA_HOME environment variable is not set"), "CUDA_HOME", "install the CUDA toolkit"),
        (RuntimeError("Failed to find C compiler."), "C compiler", "g++"),
        (RuntimeError("NCCL error: unhandled system error"), "NCCL", "NCCL_DEBUG=INFO"),
        (ValueError(""), "ValueError", "file an issue"),
        (DeviceError("asleep it holds all", "no room"), "asleep it holds all", "file an issue"),
        (PlacementError("a", "b", "c"), "a", "c"),
    ],
)
def test_an_error_has_a_remedy(error: Exception, found: str, remedy: str) -> None:
    told = refuse(error)
    assert isinstance(told, tuple) and found in told[0] and "\n" not in told[0] and remedy in told[2]
    assert told[1]


def test_a_gap_beyond_rounding_is_an_error() -> None:
    assert check_gap("both", [[-1.0, -2.0]], [[-1.01, -2.01]]) == pytest.approx(0.01)
    for wrong in (-1.2, float("nan")):
        with pytest.raises(DeviceError, match="both: log-probabilities differ"):
            check_gap("both", [[-1.0]], [[wrong]])


def test_the_checks_are_those_that_doctor_names() -> None:
    assert tuple(device_checks.CHECKS) == doctor_gpu.CHECKS
