"""`rayalign status`: how far a run is, from its files alone."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable

from rayalign.records import JsonObject
from rayalign.store.damage import damaged
from rayalign.store.files import json_value
from rayalign.store.run_state import RunState, run_state
from rayalign.store.saved_run import SavedRun
from rayalign.tracking.console import terminal_text

WATCH_S = 2.0
PER_SHARD = {
    "train": "shards answered and scored",
    "revision": "shards revised",
    "evaluation": "held-out shards",
    "greedy": "held-out shards answered greedily",
}
STEPS = {"sampling": "all answers", "groups": "groups", "adapter": "adapter", "report": "report"}
"""Commits of a round that people know, in order, and what they are called."""


def status(place: str, say: Callable[[str], None], *, watch: bool, check: bool, as_json: bool) -> None:
    """Tell how far the run is.

    Args:
        watch: tell it again whenever something changed, while another process works on the run.
        check: compare the hashes of committed files.

    Raises:
        RunFolderError: there is no run.
    """
    run = SavedRun.at(place)
    before, state = "", run_state(run)
    problems = damaged(run.run_dir, hashes=check)
    while True:
        said = _said(run.name, state, problems, as_json)
        if (steady := _said(run.name, dataclasses.replace(state, age_s=None), problems, True)) != before:
            say(said)
        before = steady
        if not watch or state.state != "running":
            return
        time.sleep(WATCH_S)
        last, state = state, run_state(run)
        if (state.finished, state.commits) != (last.finished, last.commits):
            problems = damaged(run.run_dir)


def _said(name: str, state: RunState, problems: list[str], as_json: bool) -> str:
    if as_json:
        return json.dumps(json_value({"run": name, **_row(state), "damaged": problems}))
    return terminal_text("\n".join(_lines(name, state, problems)))


def _row(state: RunState) -> JsonObject:
    return {**dataclasses.asdict(state), "left_s": state.left_s}


def _lines(name: str, state: RunState, problems: list[str]) -> list[str]:
    done = len([index for index in state.finished if index > 0])
    lines = [f"{name}: {state.state}, {done} of {state.rounds} rounds done"]
    if state.in_flight is not None:
        lines.append(f"  in flight   round {state.in_flight}: {_under_way(state)}")
    if state.holder is not None:
        lines.append(f"  works on it {state.holder}")
    if state.last_event and state.age_s is not None:
        lines.append(f"  last event  {_event(state.last_event)}, {_duration(state.age_s)} ago")
    if state.round_s is not None:
        left = state.left_s
        more = "" if left is None or state.state == "done" else f", about {_duration(left)} left"
        lines.append(f"  rate        {_duration(state.round_s)} a round{more}")
    lines += [f"  damaged     {problem}" for problem in problems]
    return lines if problems else [*lines, "  damaged     nothing"]


def _under_way(state: RunState) -> str:
    parts = []
    for kind, words in PER_SHARD.items():
        if kind in state.commits:
            of = f" of {state.shards}" if kind == "train" and state.shards else ""
            parts.append(f"{state.commits[kind]}{of} {words}")
    parts += [f"{words} done" for name, words in STEPS.items() if name in state.commits]
    return ", ".join(parts) or "begun"


def _event(event: JsonObject) -> str:
    words = [str(event.get("event"))]
    words += [str(event["stage"])] if "stage" in event else []
    return " ".join([*words, f"of round {event['round']}" if "round" in event else ""]).strip()


def _duration(seconds: float) -> str:
    """
    >>> _duration(0.4), _duration(90), _duration(7300)
    ('0 s', '1 min 30 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
