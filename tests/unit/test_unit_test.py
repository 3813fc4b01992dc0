"""Code against tests, in the real sandbox: what passes, what the code cannot reach, and what is missing, not 0."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.rewards import UnitTestScoring
from rayalign.errors import PlacementError
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.sandbox import sandbox, unit_test
from rayalign.scoring.sandbox.sandbox import Limits, run_tests
from rayalign.scoring.sandbox.unit_test import UnitTestScorer, extract_code

LIMITS = Limits(timeout_s=120, memory_mb=512, file_mb=1, processes=8, network="none")


def passed(code: str, *tests: str) -> list[bool]:
    return run_tests(code, tests or ("pass",), LIMITS).passed


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    try:
        passed("")
    except sandbox.SandboxError as error:
        pytest.skip(f"this machine cannot isolate code: {error}")


@pytest.fixture
def scorer() -> Iterator[UnitTestScorer]:
    one = UnitTestScorer(UnitTestScoring(type="unit_test", timeout_s=120, workers=2))
    yield one
    one.close()


def score(scorer: UnitTestScorer, *responses: str, **metadata: Any) -> list[Score]:
    prompt = Prompt("p", [{"role": "user", "content": "Write f."}], [1], metadata=metadata)
    samples = [Sample("p", i, text, [5], [-1.0], "stop", 0, 0) for i, text in enumerate(responses)]
    return scorer.score([prompt] * len(samples), samples)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```bash\nls\n```\n```py\nx = 1\n```\n```python\ny = 2\n```", "x = 1\n"),
        ("```python\nx = 1\nthen it was cut", "x = 1\nthen it was cut"),
        ("x = 1", "x = 1"),
        ("", ""),
    ],
)
def test_extract_code(text: str, code: str) -> None:
    assert extract_code(text) == code


def test_each_test_counts_for_itself() -> None:
    code = "seen = []\ndef f(x):\n    seen.append(x)\n    return x + 1"
    assert passed(code, "assert f(1) == 2", "assert f(1) == 3", "f(1); assert seen == [1]") == [True, False, True]


@pytest.mark.parametrize(
    "code",
    ["def f(:", "1 / 0", "raise SystemExit(0)", "import os; os._exit(0)", "import os, signal; os.kill(os.getpid(), 9)",
     "import ctypes; ctypes.string_at(0)", "def g(): g()\ng()"],
)  # fmt: skip
def test_code_that_ends_early_passes_nothing(code: str) -> None:
    assert passed(code, "pass", "pass") == [False, False]


def test_code_sees_no_environment_and_no_files_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "value")
    assert passed("import os", "assert 'SECRET_KEY' not in os.environ", "assert os.listdir('.') == []") == [True, True]
    assert passed("import os", "assert os.environ['HOME'] == os.getcwd()") == [True]


def test_code_has_no_network() -> None:
    """The one interface is a loopback that is down: not even the machine itself can be reached."""
    code = "import socket"
    assert passed(code, "socket.create_connection(('127.0.0.1', 22), 1)") == [False]
    assert passed("", "assert open('/proc/self/net/dev').read().count(':') == 1") == [True]
    names = passed(code, "assert socket.if_nameindex() == [(1, 'lo')], socket.if_nameindex()")
    assert names == [True]


def test_code_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    victim = tmp_path / "file"
    victim.write_text("precious")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid():
            folder.chmod(0o777)
        if folder.name.startswith("pytest-of"):
            break
    victim.chmod(0o666)
    tests = (f"open({str(victim)!r}, 'w')", f"open({str(tmp_path / 'new')!r}, 'w')", f"os.remove({str(victim)!r})",
             f"os.truncate({str(victim)!r}, 0)", f"os.mkdir({str(tmp_path / 'folder')!r})", "open('a', 'w').write('x')",
             "open('/dev/null', 'w').write('x')", f"open({str(victim)!r})")  # fmt: skip
    assert passed("import os", *tests) == [False] * 5 + [True] * 3
    assert victim.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_limits_of_memory_files_and_processes() -> None:
    assert passed("x = bytearray(2**27)") == [True]
    assert passed("x = bytearray(2**30)") == [False]
    assert passed("open('f', 'wb').write(bytes(2**20))") == [True]
    assert passed("open('f', 'wb').write(bytes(2**21))") == [False]
    fork = "import os, time\nfor i in range({}):\n    if os.fork() == 0: time.sleep(60)\n"
    assert passed(fork.format(3)) == [True]
    assert passed(fork.format(30)) == [False]


def test_endless_code_is_ended_and_what_passed_before_counts() -> None:
    limits = Limits(timeout_s=3.0, memory_mb=512, file_mb=1, processes=8, network="none")
    started = time.monotonic()
    outcome = run_tests("", ["pass", "while True: pass", "pass"], limits)
    assert (outcome.passed, outcome.timed_out) == ([True, False, False], True)
    assert time.monotonic() - started < 60


def test_nothing_of_it_runs_on() -> None:
    """A child in a session of its own is outside the process group; the process namespace ends it."""
    code = "import os, time\nos.setsid()\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(54321)\n    os._exit(0)\n"
    assert passed(code) == [True]
    deadline = time.monotonic() + 60
    while _copies_of_the_child():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _copies_of_the_child() -> int:
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = folder.joinpath("stat").read_text().rpartition(")")[2].split()
            # Only forks of ours: the test's own children, and what lost its parent.
            command = folder.joinpath("cmdline").read_bytes()
            count += (
                str(sandbox.CHILD).encode() in command and status[0] != "Z" and status[1] in ("1", str(os.getpid()))
            )
        except OSError:
            continue
    return count


def test_the_reward_is_the_share_of_tests_passed(scorer: UnitTestScorer) -> None:
    tests = ["assert f(1) == 1", "assert f(2) == 4", "assert f(3) == 9", "assert f(0) == 0"]
    right, half, text = score(
        scorer, "```python\ndef f(x): return x * x\n```", "def f(x): return x", "I cannot.", tests=tests
    )
    assert (right.status, right.reward, right.aspects) == ("ok", 1.0, {"tests": 4.0})
    assert half.reward == 0.5
    assert (text.status, text.reward) == ("ok", 0.0)


def test_all_or_nothing() -> None:
    one = UnitTestScorer(UnitTestScoring(type="unit_test", reward="all", field="checks", timeout_s=120))
    found = score(one, "def f(x): return x", "def f(x): return x * x", checks=["assert f(1) == 1", "assert f(2) == 4"])
    one.close()
    assert [s.reward for s in found] == [0.0, 1.0]


@pytest.mark.parametrize("metadata", [{}, {"tests": None}, {"tests": []}, {"tests": ""}])
def test_no_tests_abstain(scorer: UnitTestScorer, metadata: dict[str, Any]) -> None:
    (found,) = score(scorer, "x = 1", **metadata)
    assert (found.status, found.reward) == ("abstain", None)


def test_tests_of_another_kind_are_an_error(scorer: UnitTestScorer) -> None:
    (found,) = score(scorer, "x = 1", tests=[1, 2])
    assert (found.status, found.reward) == ("error", None)
    assert found.reason == "tests must be a text or a list of texts"


def test_one_text_is_one_test(scorer: UnitTestScorer) -> None:
    (found,) = score(scorer, "def f(): return 1", tests="assert f() == 1\nassert f() != 2")
    assert (found.reward, found.aspects) == (1.0, {"tests": 1.0})


BROKEN = """
import sys; sys.stdin.read()
print({said!r}, flush=True)
"""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("refused no network namespace: Operation not permitted", "no network namespace: Operation not permitted"),
        ("", "it said nothing"),
        ("ready\n1", "it ended after 1 of 2 tests"),
    ],
)
def test_a_sandbox_that_fails_refuses_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, why: str
) -> None:
    """A machine without the means, played by another child: nothing runs, and the switch is named."""
    child = tmp_path / "child.py"
    child.write_text(BROKEN.format(said=said))
    monkeypatch.setattr(sandbox, "CHILD", child)
    with pytest.raises(PlacementError) as caught:
        UnitTestScorer(UnitTestScoring(type="unit_test"))
    assert "cannot isolate code here" in caught.value.found
    assert why in caught.value.why
    assert "network: host" in caught.value.remedy


def test_a_sandbox_that_fails_later_is_an_error_not_a_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scorer: UnitTestScorer
) -> None:
    child = tmp_path / "child.py"
    child.write_text(BROKEN.format(said="refused no more processes"))
    monkeypatch.setattr(sandbox, "CHILD", child)
    (found,) = score(scorer, "x = 1", tests=["pass"])
    assert (found.status, found.reward, found.reason) == ("error", None, "no more processes")


def test_a_sandbox_in_which_right_code_fails_refuses_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child.py"
    child.write_text(BROKEN.format(said="ready\n0\n0\nend"))
    monkeypatch.setattr(sandbox, "CHILD", child)
    with pytest.raises(PlacementError, match="on a right and a wrong test"):
        UnitTestScorer(UnitTestScoring(type="unit_test"))


@pytest.mark.parametrize(
    ("field", "tests"),
    [
        ('["assert f(1) == 2", "assert f(2) == 3"]', ["assert f(1) == 2", "assert f(2) == 3"]),
        ("['assert f(1) == 2']", ["assert f(1) == 2"]),
        ("assert f(1) == 2", ["assert f(1) == 2"]),
        ("pass", ["pass"]),
        ("x = f(1)\nassert x", ["x = f(1)\nassert x"]),
        ("def check(g):\n    assert g(1)\ncheck(f)", ["def check(g):\n    assert g(1)\ncheck(f)"]),
        ("[]", None),
    ],
)
def test_tests_are_read_from_texts_of_lists_too(field: str, tests: list[str] | None) -> None:
    """As a test of its own such a text would pass whatever code there is."""
    assert unit_test.tests_of(field) == tests


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (["assert f(1) == 2", "f(1) == 2"], "test 2 compares without assert"),
        (["assert f(1) = 2"], "test 1 is no Python"),
        ("def check(candidate):\n    assert candidate(1) == 2\n", "test 1 defines functions and calls none"),
        ("METADATA = {}\n\ndef check(candidate):\n    assert candidate(1)\n", "defines functions and calls none"),
        ("import unittest\nclass T(unittest.TestCase):\n    def test(self): pass", "defines functions and calls none"),
        ([1], "tests must be a text or a list of texts"),
        ({"f": 1}, "tests must be a text or a list of texts"),
        ("assert f(\x00)", "test 1 is no Python"),
    ],
)
def test_a_test_that_says_nothing_is_an_error_and_no_reward(field: Any, reason: str, scorer: UnitTestScorer) -> None:
    (found,) = score(scorer, "def f(x): return 0", tests=field)
    assert (found.status, found.reward) == ("error", None)
    assert reason in (found.reason or "")


def test_a_machine_that_cannot_start_a_process_is_an_error(
    scorer: UnitTestScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sandbox.tempfile, "TemporaryDirectory", full)
    (found,) = score(scorer, "def f(x): return 0", tests=["assert f(1) == 2"])
    assert (found.status, found.reason) == ("error", "OSError: [Errno 28] No space left on device")
