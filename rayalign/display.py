"""How metrics are named and written for people: names, numbers, intervals, excerpts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

MISSING = "–"  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Display:
    """How one metric is shown to people."""

    label: str
    style: Literal["percent", "number"] = "number"
    unit: str = ""


DISPLAYS = {
    "pass_rate": Display("pass rate", "percent"),
    "pass_rate/greedy": Display("pass rate, greedy", "percent"),
    "mean_reward/greedy": Display("mean reward, greedy"),
    "mean_reward": Display("mean reward"),
    "win_rate/round_0": Display("win rate vs round 0", "percent"),
    "win_rate/previous": Display("win rate vs previous", "percent"),
    "equal_length_win_rate/round_0": Display("win rate at equal length vs round 0", "percent"),
    "equal_length_win_rate/previous": Display("win rate at equal length vs previous", "percent"),
    "kl_base": Display("KL to base", unit="nats"),
    "length_tokens": Display("length", unit="tokens"),
    "truncation_rate": Display("truncated", "percent"),
    "distinct_2": Display("distinct bigrams", "percent"),
    "duplicate_rate": Display("duplicates", "percent"),
}
"""In the order in which they are shown; `mean_reward/<scorer>` comes after `mean_reward`."""


def headline_metric(rounds: Sequence[Mapping[str, float]]) -> str | None:
    """The metric that says how good a round is: the pass rate, else the mean reward; None where no round has either.

    A pass rate that is 0 in every round tells nothing: the rule's best score is then hardly 1.

    Args:
        rounds: the values of each round's metrics, by name.
    """
    if any(metrics.get("pass_rate") for metrics in rounds):
        return "pass_rate"
    return next((name for name in ("mean_reward", "pass_rate") if any(name in metrics for metrics in rounds)), None)


def display(name: str) -> Display:
    """How the metric of that name is shown; a name that is not known is its own label."""
    if name.startswith("mean_reward/"):
        return Display(f"reward {name.removeprefix('mean_reward/')}")
    if name.startswith("win_rate/") and name not in DISPLAYS:
        return Display(f"win rate vs {name.removeprefix('win_rate/')}", "percent")
    if name.startswith("equal_length_win_rate/") and name not in DISPLAYS:
        return Display(f"win rate at equal length vs {name.removeprefix('equal_length_win_rate/')}", "percent")
    return DISPLAYS.get(name, Display(name))


def display_order(names: set[str]) -> list[str]:
    """Names in the order in which people should see them, unknown ones last."""
    known = list(DISPLAYS)

    def rank(name: str) -> tuple[int, str]:
        family = name if name in DISPLAYS else "mean_reward" if name.startswith("mean_reward/") else ""
        return (known.index(family) if family else len(known), "" if name in DISPLAYS else name)

    return sorted(names, key=rank)


def format_value(value: float | None, style: Literal["percent", "number"] = "number") -> str:
    """A number for people; `MISSING` where there is none.

    >>> format_value(0.5312, "percent"), format_value(0.5312), format_value(23.44), format_value(1.2e-5)
    ('53.1%', '0.531', '23.4', '1.2e-05')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if style == "percent":
        return f"{100 * value:.1f}%"
    size = abs(value)
    if size >= 1e6 or 0 < size < 5e-4:
        return f"{value:.1e}"
    if 0 < size < 0.01:
        return f"{value:.2g}"
    return f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:.0f}"


def format_interval(low: float, high: float, style: Literal["percent", "number"] = "number") -> str:
    """`[50.1, 56.2]`, in percent where the style says so."""
    return f"[{format_value(low, style).rstrip('%')}, {format_value(high, style).rstrip('%')}]"


_EXCERPT = 80


def excerpt(text: str, longest: int = _EXCERPT) -> str:
    """The start of a text, at most `longest` characters, on one line, for a reason or a message."""
    line = " ".join(text.split())
    return repr(line if len(line) <= longest else f"{line[:longest]}...")


_END_OF_HEAD = re.compile(r"[:;](?= )")
_NUMBER = re.compile(r"(?<![\w.:-])\d+(?:\.\d+)?(?![\w.:-])")


class Told:
    """Tells a long message in full once, and then, with other numbers or details, in a word: its head.

    >>> told = Told()
    >>> told.text("judge puts canaries first: null on 6 of 8"), told.text("judge puts canaries first: null on 7 of 8")
    ('judge puts canaries first: null on 6 of 8', 'judge puts canaries first (again)')
    """

    def __init__(self) -> None:
        self._heads: set[str] = set()

    def text(self, message: str) -> str:
        """The message, or its head, which ends at the first `: ` or `; `, where one with the same head was told."""
        head = _END_OF_HEAD.split(message, maxsplit=1)[0]
        kind = _NUMBER.sub("#", head)
        if kind in self._heads:
            return f"{head} (again)"
        self._heads.add(kind)
        return message
