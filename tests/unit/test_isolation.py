"""A rule in a process of its own: real crashes, real endless loops, and everything else scored all the same."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.errors import DataError
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.rules.file import RuleSource
from rayalign.scoring.rules.scorer import IsolatedRuleScorer

AMPLE_S = 120.0
"""Only keeps a test from hanging: no answer gets near it, however busy the machine is."""
LATE_S = 2.0
"""Where some answers are meant to be late: long enough for the others, which take milliseconds."""
Make = Callable[..., Callable[[list[str]], list[Score]]]
SYNC = """
import ctypes, os, sys, time
def score(prompt, response):
    if response == "exit": os._exit(7)
    if response == "segfault": ctypes.string_at(0)
    if response == "loop":
        while True: pass
    if response == "sleep": time.sleep(60)
    if response == "stop": sys.exit(2)
    if response == "print": print("noise"); sys.stdout.flush()
    return float(response) if response.isdigit() else 0.5
"""
ASYNC = """
import asyncio, os, time
async def score(prompt, response):
    await asyncio.sleep(0.01)
    if response == "exit": os._exit(7)
    if response == "block": time.sleep(60)
    if response == "sleep": await asyncio.sleep(60)
    if response == "stubborn":
        while True:
            try: await asyncio.sleep(60)
            except asyncio.CancelledError: pass
    if response == "own": raise TimeoutError("mine")
    return float(response)
"""


@pytest.fixture
def make() -> Iterator[Make]:
    """A scorer of a rule's text, as a function of the responses; its process ends with the test."""
    scorers: list[IsolatedRuleScorer] = []

    def build(text: str, timeout_s: float = AMPLE_S, **options: Any) -> Callable[[list[str]], list[Score]]:
        source = RuleSource("my.py", textwrap.dedent(text), "score")
        scorer = IsolatedRuleScorer("rule:test", source, timeout_s=timeout_s, **options)
        scorers.append(scorer)

        def score(texts: list[str]) -> list[Score]:
            prompts = [
                Prompt("p", [{"role": "user", "content": "q"}], [1], metadata={"n": i}) for i in range(len(texts))
            ]
            return scorer.score(prompts, [Sample("p", i, t, [5], [-1.0], "stop", 0, 0) for i, t in enumerate(texts)])

        return score

    yield build
    for scorer in scorers:
        scorer.close()


def statuses(scores: list[Score]) -> list[str]:
    return [score.status for score in scores]


def test_scores_of_many_chunks_keep_their_places(make: Make) -> None:
    scores = make(SYNC)([str(i) for i in range(3000)])
    assert [score.reward for score in scores] == [float(i) for i in range(3000)]


@pytest.mark.parametrize(
    ("response", "status", "reason"),
    [
        ("exit", "error", "the rule's process ended with exit status 7 on this answer"),
        ("segfault", "error", "the rule's process was ended by SIGSEGV on this answer"),
        ("loop", "timeout", "the rule took longer than timeout_s = 2"),
        ("sleep", "timeout", "the rule took longer than timeout_s = 2"),
        ("stop", "error", "SystemExit: 2"),
    ],
)
def test_only_the_answer_at_fault_is_lost(make: Make, response: str, status: str, reason: str) -> None:
    scores = make(SYNC, LATE_S)(["1", "2", response, "3", response, "4"])
    assert statuses(scores) == ["ok", "ok", status, "ok", status, "ok"]
    assert [score.reward for score in scores] == [1.0, 2.0, None, 3.0, None, 4.0]
    assert scores[2].reason == scores[4].reason == reason


def test_the_last_and_the_only_answer_may_be_at_fault(make: Make) -> None:
    score = make(SYNC, LATE_S)
    assert statuses(score(["1", "exit"])) == ["ok", "error"]
    assert statuses(score(["loop"])) == ["timeout"]
    assert statuses(score(["1"])) == ["ok"]


def test_slow_answers_within_the_limit_are_no_timeouts(make: Make) -> None:
    """Six answers of 0.4 s take longer than the limit of 2 s together, and none of them alone."""
    text = "import time\ndef score(prompt, response):\n    time.sleep(0.4)\n    return 1.0\n"
    assert statuses(make(text, LATE_S)(["x"] * 6)) == ["ok"] * 6


def test_what_a_rule_prints_does_not_reach_the_answers(make: Make) -> None:
    assert [score.reward for score in make(SYNC)(["print", "3"])] == [0.5, 3.0]


def test_metadata_goes_along(make: Make) -> None:
    scores = make("def score(prompt, response, metadata): return metadata['n'] * 2.0")(["a", "b"])
    assert [score.reward for score in scores] == [0.0, 2.0]


def test_finished_answers_are_not_done_again(make: Make, tmp_path: Path) -> None:
    """What the child sent before the crash counts; only the last moments' answers may run twice."""
    log = tmp_path / "calls"
    text = f"""
    import os, time
    def score(prompt, response):
        with open({str(log)!r}, "a") as file: file.write(response + " ")
        time.sleep(0.03)
        if response == "9": os._exit(1)
        return 1.0
    """
    assert statuses(make(text)([str(i) for i in range(10)])) == ["ok"] * 9 + ["error"]
    calls = log.read_text().split()
    assert calls.count("0") == calls.count("1") == calls.count("9") == 1
    assert len(calls) <= 10 + 4


def test_async_answers_run_at_once_and_are_limited_one_by_one(make: Make) -> None:
    """Eight at once, then the last two: about two limits in all, and not one for each of the six that are late."""
    score = make(ASYNC, LATE_S, concurrency=8)
    started = time.monotonic()
    scores = score(["1", "sleep", "2", "stubborn", "own", "3"] + ["sleep"] * 4)
    assert statuses(scores) == ["ok", "timeout", "ok", "timeout", "error", "ok"] + ["timeout"] * 4
    assert scores[4].reason == "TimeoutError: mine"
    assert time.monotonic() - started < 5 * LATE_S
    assert [s.reward for s in score(["4"])] == [4.0]


@pytest.mark.parametrize(("response", "status"), [("exit", "error"), ("block", "timeout")])
def test_who_blocks_or_ends_the_event_loop_is_named(make: Make, response: str, status: str) -> None:
    scores = make(ASYNC, LATE_S, concurrency=8)(["1", "2", response, "3", "4"])
    assert statuses(scores) == ["ok", "ok", status, "ok", "ok"]


BATCH = """
import os, time
def score(prompts, responses):
    if "exit" in responses: os._exit(3)
    if "raise" in responses: raise ValueError("raised")
    if "short" in responses: return [1.0]
    if "sleep" in responses: time.sleep(60)
    return [float(r) for r in responses]
"""


def test_a_batch_is_scored_or_asked_answer_by_answer_unless_it_is_late(make: Make) -> None:
    score = make(BATCH, timeout_s=1.0, batch=True)
    assert [s.reward for s in score(["1", "2"])] == [1.0, 2.0]
    for bad in ("exit", "raise"):
        found = score(["1", bad, "3"])
        assert [s.reward for s in found] == [1.0, None, 3.0]
        assert [s.aspects for s in found] == [{"asked_alone": 1.0}, {}, {"asked_alone": 1.0}]
    assert statuses(score(["1", "short"])) == ["error"] * 2
    late = score(["1", "sleep", "3"])
    assert statuses(late) == ["timeout"] * 3
    assert late[0].reason == "the rule took longer than 3 s for a batch of 3"
    assert [s.reward for s in score([str(i) for i in range(2000)])] == [float(i) for i in range(2000)]


def test_a_thread_that_ends_the_process_does_not_hold_it_up_for_ever(make: Make) -> None:
    text = """
    import os, threading, time
    async def score(prompt, response):
        import asyncio
        threading.Timer(0.05, os._exit, (5,)).start()
        await asyncio.sleep(60)
        return 1.0
    """
    scores = make(text)(["a", "b"])
    assert statuses(scores) == ["error", "error"]


def test_a_file_that_does_not_start_says_so(make: Make) -> None:
    text = "import os, sys\nif sys.argv[0].endswith('rules/worker.py'): os._exit(9)\n"
    with pytest.raises(DataError) as caught:
        make(text + "def score(prompt, response): return 1.0\n")
    assert "does not start in a process of its own" in caught.value.found
    assert "exit status 9" in caught.value.why


def test_a_file_that_stops_starting_gives_errors_not_scores(make: Make, tmp_path: Path) -> None:
    flag = tmp_path / "started"
    text = f"""
    import os, sys
    if sys.argv[0].endswith("rules/worker.py"):
        if os.path.exists({str(flag)!r}): os._exit(9)
        open({str(flag)!r}, "w").close()
    def score(prompt, response):
        if response == "exit": os._exit(1)
        return 1.0
    """
    scores = make(text)(["a", "exit", "b"])
    assert scores[1].status == "error"
    assert {s.reason for s in scores} >= {
        "the rule's process did not start again: it ended with exit status 9; its last words are in the log"
    }
    assert all(s.reward is None for s in scores if s.status != "ok")


def test_the_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    """The parent is killed while the rule loops for ever; the child must notice by itself."""
    program = f"""
import os, sys, threading
from rayalign.records import Prompt, Sample
from rayalign.scoring.rules.scorer import IsolatedRuleScorer
from rayalign.scoring.rules.file import RuleSource
text = "import os\\ndef score(p, r):\\n  open({str(tmp_path / "pid")!r}, 'w').write(str(os.getpid()))\\n"
text += "  while True: pass\\n"
scorer = IsolatedRuleScorer("r", RuleSource("my.py", text, "score"), timeout_s=600)
prompt = Prompt("p", [{{"role": "user", "content": "q"}}], [1])
scorer.score([prompt], [Sample("p", 0, "x", [1], [0.0], "stop", 0, 0)])
"""
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    pid_file, limit = tmp_path / "pid", time.monotonic() + AMPLE_S
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < limit and parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    child = int(pid_file.read_text())
    while _alive(child):
        assert time.monotonic() < limit
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_closing_ends_the_child(make: Make) -> None:
    source = RuleSource("my.py", "def score(prompt, response): return 1.0", "score")
    scorer = IsolatedRuleScorer("rule:test", source, timeout_s=AMPLE_S)
    child = scorer._process._child
    assert child is not None and _alive(child.pid)
    scorer.close()
    assert not _alive(child.pid)
    assert os.getpid() != child.pid
