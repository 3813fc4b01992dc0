"""Charts of single held-out answers: rewards of each round, which round beats which, reward by length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayalign.dashboard.charts import MAX_DOTS, Chart, colours, round_ticks, value_axis
from rayalign.dashboard.held_out import FloatArray, HeldOut
from rayalign.display import format_value
from rayalign.records import JsonObject

BINS = 24
MOST_ROUNDS = 12
"""Rounds of the win-rate matrix: the first, the last, and others evenly between."""
MOST_DOTS = 250
"""Answers of a round that are drawn one by one."""
LENGTH_BINS = 8
LEVELS = (0.2, 0.35, 0.45, 0.49, 0.51, 0.55, 0.65, 0.8)
"""Where the colour of a win rate changes; between the middle two there is no difference to speak of."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often a round's answers beat another's to the same prompt, ties counted half."""

    round: int
    baseline: int
    rate: float
    half: float
    """Half the width of the 95 % interval over prompts."""
    prompts: int


def reward_spread(rounds: Sequence[HeldOut]) -> Chart | None:
    """The rewards of each round as a column, darker where more answers are, with median and middle half."""
    seen = [(one.round, _present(one.rewards_PK)) for one in rounds]
    seen = [(index, rewards) for index, rewards in seen if len(rewards)]
    if not seen:
        return None
    low, high = min(rewards.min() for _, rewards in seen), max(rewards.max() for _, rewards in seen)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    cells, middles = [], []
    for index, rewards in seen:
        shares = np.histogram(rewards, edges)[0] / len(rewards)
        cells += [
            {"x": index, "lo": _short(edges[place]), "hi": _short(edges[place + 1]), "n": _short(share),
             "t": f"{format_value(float(edges[place]))} to {format_value(float(edges[place + 1]))}"}
            for place, share in enumerate(shares) if share > 0
        ]  # fmt: skip
        quarter, median, three = np.quantile(rewards, [0.25, 0.5, 0.75])
        middles.append({"x": index, "q1": _short(quarter), "m": _short(median), "q3": _short(three)})
    ends = (f"{format_value(row['m'])} in round {row['x']}" for row in (*middles[:1], *middles[1:][-1:]))
    alt = f"Median reward {', '.join(ends)}."
    note = "each column a round, darker where more answers are; line: median, ends: middle half"
    return Chart("Rewards of the answers", _spread_spec(cells, middles, max(abs(low), abs(high))), alt, note)


def _spread_spec(cells: list[JsonObject], middles: list[JsonObject], largest: float) -> JsonObject:
    x = _rounds_x([row["x"] for row in middles])
    y = {"type": "quantitative", "scale": {"zero": False, "nice": True}, "axis": value_axis(float(largest))}
    shade = {"field": "n", "type": "quantitative", "scale": {"domainMin": 0, "range": [0.06, 1]}, "legend": None}
    tips = [
        {"field": "x", "type": "ordinal", "title": "round"},
        {"field": "t", "type": "nominal", "title": "reward"},
        {"field": "n", "type": "quantitative", "format": ".1%", "title": "answers"},
    ]
    quartiles = [
        {"field": name, "type": "quantitative", "title": title, "format": ".4~g"}
        for name, title in (("m", "median"), ("q1", "lower quarter"), ("q3", "upper quarter"))
    ]
    layers: list[JsonObject] = [
        {
            "data": {"values": cells},
            "mark": {"type": "bar", "color": "var(--c0)", "width": {"band": 0.86}},
            "encoding": {"x": x, "y": {"field": "lo", **y}, "y2": {"field": "hi"}, "opacity": shade, "tooltip": tips},
        },
        {
            "data": {"values": middles},
            "mark": {"type": "rule", "color": "var(--ink)", "strokeWidth": 1.2},
            "encoding": {"x": x, "y": {"field": "q1", **y}, "y2": {"field": "q3"}},
        },
        {
            "data": {"values": middles},
            "mark": {"type": "tick", "color": "var(--ink)", "thickness": 2.5, "width": {"band": 0.6}},
            "encoding": {"x": x, "y": {"field": "m", **y}, "tooltip": [tips[0], *quartiles]},
        },
    ]
    return {"layer": layers if len(middles) <= MAX_DOTS else [layers[0], layers[2]]}


def win_rates(rounds: Sequence[HeldOut]) -> list[WinRate]:
    """Every round against every other on the prompts that both answered, of at most `MOST_ROUNDS` rounds."""
    shown = _some(rounds, MOST_ROUNDS)
    return [
        found for one in shown for other in shown if one is not other and (found := win_rate(one, other)) is not None
    ]


def win_rate(one: HeldOut, other: HeldOut) -> WinRate | None:
    """How often `one`'s answers beat `other`'s: per prompt all pairs, then the mean over prompts. None where no prompt
    has a reward on both sides."""
    _, ours, theirs = np.intersect1d(one.prompts, other.prompts, assume_unique=True, return_indices=True)
    ours_PK1, theirs_P1K = one.rewards_PK[ours][:, :, None], other.rewards_PK[theirs][:, None, :]
    pairs_P = (np.isfinite(ours_PK1) & np.isfinite(theirs_P1K)).sum(axis=(1, 2))
    won_P = (ours_PK1 > theirs_P1K).sum(axis=(1, 2)) + 0.5 * (ours_PK1 == theirs_P1K).sum(axis=(1, 2))
    shares = won_P[pairs_P > 0] / pairs_P[pairs_P > 0]
    if not len(shares):
        return None
    half = 1.96 * float(shares.std(ddof=1)) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
    return WinRate(one.round, other.round, float(shares.mean()), half, len(shares))


def win_matrix(rates: Sequence[WinRate]) -> Chart | None:
    """Rounds from top to bottom against rounds from left to right; None where fewer than two can be compared."""
    if not rates:
        return None
    rounds = sorted({one.round for one in rates})
    rows = [
        {"x": one.baseline, "y": one.round, "v": _short(one.rate), "n": one.prompts,
         "t": f"{100 * one.rate:.1f}% ± {100 * one.half:.1f}"}
        for one in rates
    ]  # fmt: skip
    x = {"field": "x", "type": "ordinal", "axis": {"title": "against round", "labelAngle": 0, "domain": False}}
    y = {"field": "y", "type": "ordinal", "axis": {"title": "round"}}
    scale = {"type": "threshold", "domain": list(LEVELS), "range": [f"var(--h{step})" for step in range(9)]}
    tips = [
        {"field": "y", "type": "ordinal", "title": "round"},
        {"field": "x", "type": "ordinal", "title": "against round"},
        {"field": "t", "type": "nominal", "title": "wins"},
        {"field": "n", "type": "quantitative", "title": "prompts"},
    ]
    cell = {"x": x, "y": y, "tooltip": tips}
    colour = {"field": "v", "type": "quantitative", "scale": scale, "legend": None}
    text = {"field": "v", "type": "quantitative", "format": ".0%"}
    spec: JsonObject = {
        "data": {"values": rows},
        "layer": [
            {"mark": {"type": "rect", "stroke": "var(--card)"}, "encoding": {**cell, "color": colour}},
            {"mark": {"type": "text", "fontSize": 10, "color": "var(--ink)"}, "encoding": {**cell, "text": text}},
        ],
    }
    last = next((one for one in reversed(rates) if (one.round, one.baseline) == (rounds[-1], rounds[0])), rates[-1])
    alt = f"Round {last.round} wins {100 * last.rate:.1f} % of comparisons with round {last.baseline}."
    return Chart("Which round beats which", spec, alt, "share of comparisons won on the same prompts, ties half")


def length_against_reward(rounds: Sequence[HeldOut]) -> Chart | None:
    """Answers of the first and of the latest round by length and reward, with the mean reward of like lengths."""
    ends = list({one.round: one for one in (*rounds[:1], *rounds[-1:]) if len(_present(one.rewards_PK))}.values())
    if not ends:
        return None
    dots, lines = [], []
    for one in ends:
        there = np.isfinite(one.rewards_PK) & np.isfinite(one.tokens_PK)
        tokens, rewards = one.tokens_PK[there], one.rewards_PK[there]
        step = max(1, -(-len(tokens) // MOST_DOTS))
        dots += [
            {"s": f"round {one.round}", "x": float(x), "y": _short(y)}
            for x, y in zip(tokens[::step], rewards[::step], strict=True)
        ]
        lines += [{"s": f"round {one.round}", **row} for row in _mean_by_length(tokens, rewards)]
    names = [f"round {one.round}" for one in ends]
    alt = f"A dot per answer, at most {MOST_DOTS} of a round, and the mean reward by length: {', '.join(names)}."
    note = "do longer answers get more? dots: answers, lines: mean of like lengths"
    return Chart("Length against reward", _length_spec(dots, lines, names), alt, note, tuple(names))


def _mean_by_length(tokens_N: FloatArray, rewards_N: FloatArray) -> list[JsonObject]:
    """Mean length and mean reward of groups of about as many answers each, from the shortest to the longest."""
    edges = np.unique(np.quantile(tokens_N, np.linspace(0, 1, LENGTH_BINS + 1)))
    group_N = np.clip(np.searchsorted(edges, tokens_N, side="right") - 1, 0, max(0, len(edges) - 2))
    return [
        {"x": _short(tokens_N[group_N == group].mean()), "y": _short(rewards_N[group_N == group].mean()),
         "n": int((group_N == group).sum())}
        for group in np.unique(group_N)
    ]  # fmt: skip


def _length_spec(dots: list[JsonObject], lines: list[JsonObject], names: list[str]) -> JsonObject:
    plain = {"type": "quantitative", "scale": {"zero": False, "nice": True}}
    x = {"field": "x", **plain, "axis": {"title": "tokens", "format": ".4~g"}}
    y = {"field": "y", **plain, "axis": value_axis(max(abs(row["y"]) for row in dots))}
    scale = {"domain": names, "range": colours(len(names))}
    shared = {"x": x, "y": y, "color": {"field": "s", "type": "nominal", "scale": scale, "legend": None}}
    tips = [
        {"field": "s", "type": "nominal", "title": "answers of"},
        {"field": "x", "type": "quantitative", "title": "tokens", "format": ".1f"},
        {"field": "y", "type": "quantitative", "title": "reward", "format": ".4~g"},
    ]
    mean = [*tips, {"field": "n", "type": "quantitative", "title": "answers"}]
    line = {"type": "line", "strokeWidth": 2.4, "point": {"size": 30}}
    return {
        "layer": [
            {
                "data": {"values": dots},
                "mark": {"type": "circle", "size": 14, "opacity": 0.35},
                "encoding": {**shared, "tooltip": tips},
            },
            {"data": {"values": lines}, "mark": line, "encoding": {**shared, "tooltip": mean}},
        ]
    }


def _rounds_x(rounds: list[int]) -> JsonObject:
    axis = {"title": "round", "labelAngle": 0, "values": round_ticks(rounds), "domain": False}
    return {"field": "x", "type": "ordinal", "axis": axis}


def _some(rounds: Sequence[HeldOut], most: int) -> list[HeldOut]:
    if len(rounds) <= most:
        return list(rounds)
    places = np.unique(np.linspace(0, len(rounds) - 1, most).round().astype(int))
    return [rounds[place] for place in places]


def _present(values: FloatArray) -> FloatArray:
    return values[np.isfinite(values)]


def _short(value: float) -> float:
    """Enough digits to draw."""
    return float(f"{float(value):.5g}")
