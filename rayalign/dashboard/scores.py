"""How far the scores can be trusted, for the page: tables of the latest round, and curves over rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rayalign.dashboard.charts import Chart, Point, Series, Style, line_chart, stacked_bars
from rayalign.dashboard.readings import Report, Rounds, items, number, reading, section
from rayalign.dashboard.tables import Cell, Rows, Table
from rayalign.display import MISSING, format_interval, format_value

MOST_SERIES = 6
STATUSES = ("ok", "abstain", "error", "timeout", "unscored")


def score_charts(rounds: Rounds) -> list[Chart]:
    """What is trained on against what is true, how scorers agree, reward and length, and scores that are missing."""
    charts: list[Chart | None] = []
    for proxy in _named(rounds, _gaps)[:MOST_SERIES]:
        kinds = {"proxy": proxy, "gold": "truth", "gap": "gap"}
        series = [
            _series(label, rounds, lambda trust, k=kind, p=proxy: section(_gaps(trust).get(p)).get(k))
            for kind, label in kinds.items()
        ]
        note = "gain since round 0, in standard deviations of its answers; a gap that opens is reward hacking"
        charts.append(line_chart("Reward against truth", series, note=note, reference=0.0, shown=2))
    pairs = _named(rounds, _pair_values)[:MOST_SERIES]
    alike = [_series(name, rounds, lambda trust, n=name: _pair_values(trust).get(n)) for name in pairs]
    note = "pairs of answers that two scorers put in the same order"
    charts.append(line_chart("Agreement of scorers", alike, "percent", note=note, reference=0.5))
    gold = _compared(rounds, "gold", lambda one: section(one).get("accuracy"))
    note = "pairs of answers that a scorer puts in the order of the truth"
    charts.append(line_chart("Scorers against truth", gold, "percent", note=note, reference=0.5))
    note = "rank correlation of reward and length within a prompt"
    lengths = _compared(rounds, "length", lambda one: one)
    charts.append(line_chart("Reward and length", lengths, note=note, reference=0.0))
    return [chart for chart in (*charts, _missing(rounds)) if chart]


def _gaps(trust: Report) -> dict[str, object]:
    return section(trust.get("gap"))


def _pair_values(trust: Report) -> dict[str, object]:
    """How often two scorers order a pair alike, by the names of both."""
    pairs = [pair for pair in items(section(trust.get("agreement")).get("pairs")) if isinstance(pair, dict)]
    return {f"{pair.get('a')} and {pair.get('b')}": pair.get("alike") for pair in pairs}


def _compared(rounds: Rounds, key: str, find: Callable[[object], object]) -> list[Series]:
    """A curve per scorer of a part of `agreement`."""

    def part(trust: Report) -> dict[str, object]:
        return section(section(trust.get("agreement")).get(key))

    names = _named(rounds, part)[:MOST_SERIES]
    return [_series(name, rounds, lambda trust, n=name: find(part(trust).get(n))) for name in names]


def _missing(rounds: Rounds) -> Chart | None:
    """Scores that are not there, by scorer and status; nothing where all are."""
    found = [(index, _trust(one)) for index, one in rounds if _trust(one)]
    counts = [
        (index, {
            f"{name}: {status}": number(section(one.get("status")).get(status)) or 0.0
            for name, one in _sections(trust.get("scorers")) for status in STATUSES[1:]
        })
        for index, trust in found
    ]  # fmt: skip
    names = list(dict.fromkeys(name for _, one in counts for name, count in one.items() if count > 0))
    rows = [(index, [max(0.0, one.get(name, 0.0)) for name in names]) for index, one in counts]
    return stacked_bars("Answers without a score", names, rows, note="by scorer and why") if names else None


def score_tables(rounds: Rounds) -> list[Table]:
    """The latest round with a trust section: what the scorers did, why they failed, agreement, canaries, drift."""
    found = [(index, trust) for index, one in rounds if (trust := _trust(one))]
    if not found:
        return []
    index, trust = found[-1]
    latest = _latest(found, "canaries"), _latest(found, "drift")
    tables = [_work(index, trust), _reasons(index, trust), _pairs(index, trust), _gold(index, trust)]
    tables.append(_repeats(index, trust))
    tables += [_canaries(*latest[0])] if latest[0] else []
    tables += [_drift(*latest[1])] if latest[1] else []
    return [table for table in tables if table.rows]


def _work(index: int, trust: Report) -> Table:
    columns = [*STATUSES, "texts cut", "from cache", "flips", "cost", "seconds each", "version"]
    rows: Rows = []
    for name, one in _sections(trust.get("scorers")):
        status, aspects, took = section(one.get("status")), section(one.get("aspects")), section(one.get("latency_s"))
        cost = number(one.get("cost"))
        cells = [_count(status.get(kind, 0)) for kind in STATUSES]
        cells += [_count(aspects.get(kind, 0)) for kind in ("truncated", "cached")]
        cells += [_metric(one.get("flip_rate"), "percent"), (f"${cost:.4f}" if cost else MISSING, "")]
        cells += [(format_value(number(took.get("mean"))), ""), (str(one.get("version") or MISSING), "")]
        rows.append((name, cells))
    return Table(f"Scorers, round {index}", columns, rows, "scorer")


def _reasons(index: int, trust: Report) -> Table:
    rows: Rows = [
        (name, [(reason, ""), _count(count)])
        for name, one in _sections(trust.get("scorers"))
        for reason, count in section(one.get("reasons")).items()
    ]
    return Table(f"Answers without a score, round {index}", ["why", "answers"], rows, "scorer")


def _pairs(index: int, trust: Report) -> Table:
    rows: Rows = []
    for pair in items(section(trust.get("agreement")).get("pairs")):
        if isinstance(pair, dict):
            cells = [_metric(pair.get("pearson")), _metric(pair.get("spearman")), _metric(pair.get("alike"), "percent")]
            rows.append((f"{pair.get('a')} and {pair.get('b')}", cells))
    return Table(
        f"Agreement of scorers, round {index}", ["Pearson", "Spearman", "pairs ordered alike"], rows, "scorers"
    )


def _gold(index: int, trust: Report) -> Table:
    columns = {"accuracy": "pairs ordered as truth does", "agreement": "same verdict", "kappa": "beyond chance (kappa)"}
    rows: Rows = [
        (name, [_metric(one.get(kind), "number" if kind == "kappa" else "percent") for kind in columns])
        for name, one in _sections(section(trust.get("agreement")).get("gold"))
    ]
    return Table(f"Against {trust.get('gold')}, round {index}", list(columns.values()), rows, "scorer")


def _repeats(index: int, trust: Report) -> Table:
    """The same answers judged several times by the same judge."""
    rows: Rows = []
    for name, one in _sections(trust.get("repeats")):
        means = ", ".join(format_value(number(mean)) for mean in items(one.get("means")))
        spread, changed = number(one.get("spread")), number(one.get("changed"))
        cells = [(means or MISSING, ""), (format_value(spread), ""), (format_value(changed, "percent"), "")]
        rows.append((name, [_count(one.get("answers")), *cells]))
    columns = ["answers", "mean reward each time", "spread of one answer", "changed"]
    return Table(f"Judgments repeated, round {index}", columns, rows, "scorer")


def _canaries(index: int, canaries: Report) -> Table:
    scorers = [name for name, _ in _sections(canaries.get("scorers"))]
    results = dict(_sections(canaries.get("scorers")))
    names = list(dict.fromkeys(name for one in results.values() for name in one))

    def cell(result: object) -> Cell:
        result = section(result)
        beat, compared, missing = (number(result.get(key)) for key in ("beat", "compared", "missing"))
        if beat is None or compared is None:
            return MISSING, ""
        small = "alarm" if result.get("alarm") is True else f"{missing:.0f} unscored" if missing else ""
        return f"{beat:.0f} of {compared:.0f}", small

    rows: Rows = [(name, [cell(results[scorer].get(name)) for scorer in scorers]) for name in names]
    return Table(f"Canaries above the median answer, round {index} (prompts)", scorers, rows, "canary")


def _drift(index: int, drift: Report) -> Table:
    columns = {"mean_change": "mean change", "noise": "noise", "spread": "spread of scores", "changed": "changed"}
    rows: Rows = []
    for name, one in _sections(drift.get("scorers")):
        cells = [
            (format_value(number(one.get(key)), "percent" if key == "changed" else "number"), "") for key in columns
        ]
        cells[0] = cells[0][0], "alarm" if one.get("alarm") is True else ""
        rows.append((name, [_count(one.get("compared")), *cells]))
    title = f"Drift on fixed answers, round {index} against round {drift.get('since')}"
    return Table(title, ["answers", *columns.values()], rows, "scorer")


def _latest(found: Sequence[tuple[int, Report]], key: str) -> tuple[int, dict[str, object]] | None:
    return next(((index, part) for index, trust in reversed(found) if (part := section(trust.get(key)))), None)


def _named(rounds: Rounds, find: Callable[[Report], Mapping[str, object]]) -> list[str]:
    """The names that any round's trust section has there."""
    return sorted({name for _, one in rounds for name in find(_trust(one))})


def _series(label: str, rounds: Rounds, find: Callable[[Report], object]) -> Series:
    found = [(index, reading(find(_trust(one)))) for index, one in rounds if _trust(one)]
    points = (None if metric is None else Point(index, metric.value, metric.ci95) for index, metric in found)
    return Series(label, tuple(points))


def _metric(value: object, style: Style = "number") -> Cell:
    metric = reading(value)
    if metric is None:
        return MISSING, ""
    return format_value(metric.value, style), format_interval(*metric.ci95, style) if metric.ci95 else ""


def _count(value: object) -> Cell:
    counted = number(value)
    return (MISSING if counted is None else f"{counted:.0f}"), ""


def _sections(value: object) -> list[tuple[str, dict[str, object]]]:
    return [(name, one) for name, one in section(value).items() if isinstance(one, dict)]


def _trust(one: Report) -> dict[str, object]:
    return section(one.get("trust"))
