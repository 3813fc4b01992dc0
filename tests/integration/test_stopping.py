"""Ctrl-C, once, in every stage of a run: the prompt is back in ten seconds, and the same command goes on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rayalign.store.run_dir import RunDir
from tests.terminal import Ended, Terminal

pytestmark = [pytest.mark.integration, pytest.mark.slow]
QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
SMALL = [
    "run.rounds=2", "prompts.per_round=64", "prompts.holdout=32", "sampling.responses=4", "sampling.max_tokens=32",
    "evaluation.responses=2",
]  # fmt: skip
LIMIT_S = 10
Seen = Callable[[Terminal, Path], object]


def printed(text: str) -> Seen:
    return lambda terminal, folder: text in terminal.output


def started(name: str) -> Seen:
    return lambda terminal, folder: terminal.runs(name)


def later(seconds: float, seen: Seen) -> Seen:
    """A moment after another; the terminal is read meanwhile."""
    return lambda terminal, folder: seen(terminal, folder) and not time.sleep(seconds)


def reached(name: str) -> Seen:
    """A commit of the run, which an earlier command may have made; then as soon as this one's actors are there."""
    return lambda terminal, folder: "· start actors" in terminal.output and (folder / "rounds" / name).exists()


def written(name: str) -> Seen:
    return lambda terminal, folder: (folder / name).exists()


MOMENTS: dict[str, Seen] = {
    "reading inputs": printed("quickstart ->"),
    "starting Ray": started("gcs_server"),
    "starting actors": written("logs/generator-0.log"),
    "first sync": printed("start actors"),
    "evaluating the base": reached("0000/commits/evaluation-00000.json"),
    "finishing round 0": reached("0000/commits/report.json"),
    "sampling": reached("0001/commits/prompts.json"),
    "scoring": reached("0001/commits/train-00000.json"),
    "groups": reached("0001/commits/sampling.json"),
    "update": later(1, reached("0001/commits/groups.json")),
    "sync": reached("0001/commits/adapter.json"),
    "evaluating": reached("0001/commits/evaluation-00000.json"),
    "round 2": reached("0001/COMMIT.json"),
}
"""In the order of the run."""


def command(folder: Path) -> list[str]:
    settings = [word for setting in (f"run.dir={folder}", *SMALL) for word in ("--set", setting)]
    return [sys.executable, "-m", "rayalign", "run", str(QUICKSTART), *settings]


@pytest.fixture(scope="module")
def stopped(
    demo_folder: Path, tmp_path_factory: pytest.TempPathFactory, wait_for: Callable
) -> tuple[dict[str, Ended], str, Path]:
    """One run, stopped at each moment in turn and then left to finish.

    Returns:
        How it ended at each moment, the output of the last command, and the run folder.
    """
    root = tmp_path_factory.mktemp("stopped")
    folder = root / "quickstart"
    ended = {}
    for moment, seen in MOMENTS.items():
        terminal = Terminal(command(root))
        wait_for(lambda terminal=terminal, seen=seen: terminal.over or seen(terminal, folder), 300)
        ended[moment] = terminal.press()
        print(f"{moment:22} {ended[moment].seconds:5.1f} s  exit {ended[moment].code}")
    last = Terminal(command(root))
    output = last.finish()
    assert last.process.returncode == 0, output
    return ended, output, folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_one_press_ends_it_in_time_and_in_order(stopped: tuple, moment: str) -> None:
    ended = stopped[0][moment]
    assert ended.code == 3, ended.output
    assert ended.seconds < LIMIT_S
    assert "Traceback" not in ended.output and "failed" not in ended.output
    assert "stopping, up to" in ended.output and "stopped by SIGINT" in ended.output
    assert "-m rayalign run" in ended.output
    assert not ended.left


def test_the_same_command_then_finishes(stopped: tuple) -> None:
    _, output, folder = stopped
    assert "resuming" in output and "report:" in output
    run_dir = RunDir(folder)
    assert [r.index for r in run_dir.rounds()] == [0, 1, 2]
    for round_dir in run_dir.rounds():
        for name in round_dir.commits():
            round_dir.committed(name)


def test_a_model_that_is_being_made_is_left_and_made_anew(tmp_path: Path, wait_for: Callable) -> None:
    """Twice: what the first stop leaves in the cache does not keep the second from being the same."""
    cache = tmp_path / "cache"
    for _ in range(2):
        terminal = Terminal(command(tmp_path), {**os.environ, "RAYALIGN_CACHE": str(cache)})
        wait_for(lambda terminal=terminal: terminal.over or len(terminal.family()), 60)
        ended = terminal.press()
        assert ended.code == 3 and ended.seconds < LIMIT_S, ended.output
        assert "Traceback" not in ended.output and "stopped by SIGINT" in ended.output
        assert not ended.left
        assert not [folder for folder in cache.iterdir() if not folder.name.startswith(".")]
