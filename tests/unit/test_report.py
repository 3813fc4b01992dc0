"""The HTML report: what it says, that nothing in it can run or load, and that odd data do not break it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from rayalign.dashboard.report import ReportData, render_report
from rayalign.records import EvalReport, Metric

HOSTILE = "</script></title></style><img src=x onerror=alert(1)>\"'\x00\x1b\u202e\u05e9\u05dc\ud800{{ 7 * 7 }}<!-- &lt;"
VOID = {"meta", "img", "br", "link", "hr", "input"}
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "article", "p", "span"),
    *("mark", "script", "noscript"),
    *("ul", "li", "h1", "h2", "b", "small", "div", "pre", "details", "summary", "figure", "figcaption"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("h3", "svg", "g", "line", "text", "path", "rect"),
}


class Page(HTMLParser):
    """Collects tags and text, and checks that tags close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.styles: list[str] = []
        self.scripts: list[str] = []
        self.data: dict[str, Any] = {}
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes = self.tags[-1][1]
            if attributes.get("type") == "application/json":
                self.data[str(attributes["id"])] = json.loads(data)
            else:
                assert attributes == {}
                self.scripts.append(data)
            return
        if "svg" not in self.open:  # its numbers stand in the tables, too
            (self.styles if self.open and self.open[-1] == "style" else self.texts).append(data)

    @property
    def chips(self) -> set[str]:
        """Classes of the coloured words."""
        return {name for _, attributes in self.tags if "verdict" in (name := attributes.get("class") or "")}

    @property
    def charts(self) -> dict[str, dict[str, Any]]:
        """The specifications that the page's script draws, by the id of their place."""
        return self.data.get("rayalign-charts", {}).get("specs", {})

    def rows(self, chart: str, layer: int = 0) -> list[dict[str, Any]]:
        """The values of a chart."""
        spec = self.charts[chart]
        return (spec if "data" in spec else spec["layer"][layer])["data"]["values"]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def assert_inert(self) -> None:
        """Only known tags, no handlers, no addresses, no scripts but the page's own, which the policy names by hash."""
        assert {tag for tag, _ in self.tags} <= TAGS
        names = {name for _, attributes in self.tags for name in attributes}
        assert not {name for name in names if name.startswith("on")}
        assert not names & {"src", "href", "srcset", "action", "data", "xlink:href", "background"}
        assert not re.search(r"url\(|@import|expression\(", "".join(self.styles))
        policy = [attributes["content"] for _, attributes in self.tags if "http-equiv" in attributes]
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in self.scripts]
        allowed = " ".join(f"'sha256-{one}'" for one in hashes) or "'none'"
        assert policy == [
            f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
            "base-uri 'none'; form-action 'none'"
        ]


def page(rounds: list[dict[str, Any]], **fields: Any) -> Page:
    data = {"name": "quickstart", "status": "done", "config": {}, "info": {}, **fields}
    html = render_report(ReportData(rounds=rounds, **data))
    html.encode("utf-8")
    parsed = Page(html)
    parsed.assert_inert()
    return parsed


def metric(value: Any, half: float = 0.05) -> dict[str, Any]:
    return {"value": value, "n": 100, "ci95": [value - half, value + half]}


def full_round(index: int) -> dict[str, Any]:
    metrics = {"pass_rate": Metric(0.4 + 0.1 * index, 100, (0.35 + 0.1 * index, 0.45 + 0.1 * index))}
    if index:
        metrics["win_rate/round_0"] = Metric(0.75, 100, (0.7, 0.8))
    return {
        **EvalReport(index, index, metrics).to_dict(),
        "stages": {"sample": {"seconds": 10.0, "items": 200, "tokens": 5000}, "train": {"seconds": 30.0, "items": 8}},
        "training": {"loss": 1.0 / (index + 1)},
        "groups": {"kept": 250, "dropped": {"equal_rewards": 6}},
        "scores": {"ok": 199, "timeout": 1},
        "sync": {"mode": "merged", "gap": 0.001},
        "answers": [{"prompt": "List two animals.", "response": f"cat {index}", "reward": 0.5}],
    }


def test_page_says_what_the_run_did() -> None:
    parsed = page(
        [full_round(0), full_round(1), full_round(2)],
        config={"model": {"base": "demo"}, "objective": [{"type": "nca"}, {"type": "info_nca"}], "run": {"seed": 7}},
        info={"versions": {"vllm": "1.2.3"}, "hosts": ["a", "b"]},
    )
    for text in [
        "Pass rate on held-out prompts".lower(),
        "40.0% → 60.0%",
        "The model got better: pass rate 40.0% in round 0, 60.0% in round 2.",
        "+20.0 points [+12.9, +27.1] from round 0 to round 2",
        "significantly better",
        "best round 2",
        "75.0%",
        "better than round 0",
        "2 min 00 s",
        "60.0% [55.0, 65.0]",
        "10.0 s 20.0 items/s, 500.0 tokens/s",
        "dropped · equal_rewards",
        "model demo",
        "objective nca + info_nca",
        "seed 7",
        "versions · vllm 1.2.3",
        'hosts ["a", "b"]',
        "cat 2",
        "reward 0.500",
    ]:
        assert text.lower() in parsed.text.lower(), text
    assert set(parsed.charts) == {
        *("chart-quality-0", "chart-quality-1", "chart-training-0", "chart-training-1", "chart-work-0"),
        "chart-work-1",
    }, "pass rate, win rate, loss, prompts, seconds, tokens"
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and set(parsed.charts) <= set(ids)
    assert parsed.text.index("Round 2 1 answer") < parsed.text.index("Round 0 1 answer")


def test_tables_have_headers_for_rows_and_columns() -> None:
    parsed = page([full_round(0)])
    cells = [(tag, attributes.get("scope")) for tag, attributes in parsed.tags if tag in ("th", "td")]
    assert {scope for tag, scope in cells if tag == "th"} == {"col", "row"}
    tables = sum(tag == "table" for tag, _ in parsed.tags)
    assert sum(tag == "caption" for tag, _ in parsed.tags) == tables > 4


def test_same_data_same_page() -> None:
    data = ReportData("a", "done", {}, {}, [full_round(0), full_round(1)])
    assert render_report(data) == render_report(data)


def test_rounds_are_put_in_order() -> None:
    parsed = page([full_round(1), full_round(0)])
    assert "40.0% → 50.0%" in parsed.text


@pytest.mark.parametrize(
    ("first", "last", "verdict"),
    [(0.4, 0.6, "significantly better"), (0.6, 0.4, "significantly worse"), (0.5, 0.55, "no clear difference")],
)
def test_headline_is_only_coloured_if_the_difference_is_clear(first: float, last: float, verdict: str) -> None:
    rounds = [
        {"round": 0, "metrics": {"pass_rate": metric(first)}},
        {"round": 1, "metrics": {"pass_rate": metric(last)}},
    ]
    parsed = page(rounds)
    tone = {"significantly better": "good", "significantly worse": "bad"}.get(verdict, "plain")
    assert f"verdict {tone}" in parsed.chips and verdict in parsed.text
    assert ("The model got worse than the base" in parsed.text) == (tone == "bad")
    assert ("verdict good" in parsed.chips) == (tone == "good") and ("verdict bad" in parsed.chips) == (tone == "bad")


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.6, "better than round 0"), (0.4, "worse than round 0"), (0.52, "no clear difference")]
)
def test_win_rate_is_judged_by_its_interval(value: float, verdict: str) -> None:
    assert verdict in page([{"round": 1, "metrics": {"win_rate/round_0": metric(value)}}]).text


def test_mean_reward_leads_where_there_is_no_pass_rate() -> None:
    rounds = [{"round": index, "metrics": {"mean_reward": metric(index + 0.25)}} for index in range(2)]
    parsed = page(rounds)
    assert "mean reward on held-out prompts 0.250 → 1.250 +1.000 [0.929, 1.071] from round 0 to round 1" in parsed.text


def test_no_rounds_yet() -> None:
    parsed = page([], status="running")
    assert "No rounds yet" in parsed.text
    assert "No rounds yet" not in page([full_round(0)]).text
    assert not [tag for tag, _ in parsed.tags if tag in ("svg", "table", "script")]


def test_single_round_is_a_dot_with_its_interval() -> None:
    parsed = page([{"round": 0, "metrics": {"pass_rate": metric(0.5)}}])
    assert parsed.rows("chart-quality-0") == [
        {"s": "pass rate", "x": 0, "y": 0.5, "t": "50.0% [45.0, 55.0]", "lo": 0.45, "hi": 0.55}
    ]
    assert "pass rate in round 0 50.0%" in parsed.text


def test_missing_values_are_dashes_and_gaps_never_zero() -> None:
    """Rounds 0 1 3 4 have a pass rate, round 2's is NaN: the curve breaks between 1 and 3, a dash in the table."""
    rounds = [{"round": index, "metrics": {"pass_rate": metric(0.5), "kl_base": metric(1.0)}} for index in range(5)]
    rounds[2]["metrics"]["pass_rate"] = {"value": math.nan, "n": 0, "ci95": [None, math.inf]}
    parsed = page(rounds)
    assert [(row["x"], row["y"]) for row in parsed.rows("chart-quality-0")] == [
        (0, 0.5), (1, 0.5), (2, None), (3, 0.5), (4, 0.5)
    ]  # fmt: skip
    assert "2 \N{EN DASH} 1.000" in parsed.text
    assert "nan" not in parsed.text.lower() and "0.0%" not in parsed.text.split("Held-out metrics")[1]


def test_round_that_was_not_evaluated_does_not_break_the_curve() -> None:
    rounds: list[dict[str, Any]] = [
        {"round": index, "metrics": {"pass_rate": metric(0.5)} if index % 2 == 0 else {}, "training": {"loss": 1.0}}
        for index in range(5)
    ]
    assert [row["x"] for row in page(rounds).rows("chart-quality-0")] == [0, 2, 4]


NOTHING = "No rounds yet"
SOUND = (
    "round 1 50.0% [45.0, 55.0]", "1 50.0% [45.0, 55.0] 75.0% [70.0, 80.0]", "stage time 40.0 s",
    "1 10.0 s 20.0 items/s, 500.0 tokens/s 30.0 s",
    "Round 1 1 answer prompt List two animals. answer reward 0.500 cat 1",
)  # fmt: skip
"""What the page says of `full_round(1)`, whatever stands beside it."""


@pytest.mark.parametrize(
    ("one", "shown"),
    [
        ({}, NOTHING),
        ({"round": None, "metrics": None, "stages": None, "training": [], "answers": None, "groups": 3}, NOTHING),
        (
            {"round": 0, "metrics": {"pass_rate": None, "kl_base": "high", "mean_reward": {"value": 1e308, "n": 1}}},
            NOTHING,
        ),
        ({"round": 0, "metrics": {"kl_base": {"value": 10**400, "n": 1, "ci95": [0, 1]}}}, NOTHING),
        (
            {"round": 0, "metrics": {"pass_rate": {"value": 0.5}, "kl_base": {"value": 1, "ci95": [0]}}},
            "base 0 50.0% 1.000",
        ),
        (
            {"round": 0, "metrics": {"pass_rate": {"value": 7.0, "n": 1, "ci95": [9, -9]}}},
            "round pass rate 0 700.0% [-900.0, 900.0]",
        ),
        (
            {"round": 0, "stages": {"sample": {"seconds": None}, "score": 3, "train": {"seconds": -1, "items": 2}}},
            "round sample train 0 0.0 s 0.0 s",
        ),
        (
            {"round": 0, "answers": [None, {}, {"prompt": 3, "response": None, "reward": math.nan}]},
            "Round 0 2 answers prompt \N{EN DASH} answer reward \N{EN DASH} \N{EN DASH} prompt 3 answer reward",
        ),
    ],
)
def test_damaged_reports_still_render(one: dict[str, Any], shown: str) -> None:
    """What is sound of them is shown, and all of the round beside them."""
    alone, beside = page([one]).text, page([one, full_round(1)]).text
    assert shown in alone
    assert (NOTHING in alone) == (shown == NOTHING) and NOTHING not in beside
    assert [text for text in SOUND if text not in beside] == []
    assert not re.search(r"\bnan\b|\bNone\b|-1 h", alone + beside)


def test_hostile_text_is_shown_and_inert() -> None:
    """`page` checks tags and attributes; here: the text is still readable, cleaned only of what HTML cannot hold."""
    parsed = page(
        [
            {
                "round": 0,
                "metrics": {HOSTILE: metric(0.5), f"mean_reward/{HOSTILE}": metric(0.5), "mean_reward/b": metric(1.0)},
                "stages": {HOSTILE: {"seconds": 1.0, "items": 1}},
                "training": {HOSTILE: HOSTILE},
                "groups": {"dropped": {HOSTILE: 1}},
                "answers": [
                    {"prompt": [{"role": "user", "content": HOSTILE}], "response": HOSTILE, "reward": HOSTILE},
                    {"prompt": HOSTILE, "response": "x", "reward": 1},
                ],
            }
        ],
        name=HOSTILE,
        status=HOSTILE,
        config={HOSTILE: HOSTILE, "model": {"base": HOSTILE}, "objective": {"type": HOSTILE}},
        info={HOSTILE: HOSTILE},
    )
    shown = HOSTILE.replace("\x00", "\u2400").replace("\x1b", "\u241b").replace("\ud800", "\ufffd")
    assert parsed.texts.count(shown) >= 5
    assert any(text == f"user: {shown}" for text in parsed.texts)


def test_long_answers_are_cut_and_say_so() -> None:
    answers = [{"prompt": "p", "response": "x" * 5000, "reward": 1.0}]
    text = page([{"round": 0, "answers": answers}]).text
    assert "x" * 4000 + " … (1000 more characters)" in text
    assert "x" * 4001 not in text


def test_two_hundred_rounds() -> None:
    """Dots and whiskers would run into each other: a band and a line are left, and what answers a pointer."""
    parsed = page([full_round(index) | {"metrics": {"pass_rate": metric(0.5)}} for index in range(200)])
    marks = [layer["mark"]["type"] for layer in parsed.charts["chart-quality-0"]["layer"]]
    assert marks == ["area", "line", "point"] and len(parsed.rows("chart-quality-0")) == 200
    assert sum("1 answer" in text for text in parsed.texts) == 12
    assert "Round 199" in parsed.text and "Round 0 " in parsed.text and "Round 150" not in parsed.text


def test_more_than_one_scorer_gets_a_chart_with_legend() -> None:
    one = {"round": 0, "metrics": {"mean_reward/a": metric(1.0)}}
    assert "Reward by scorer" not in page([one]).text
    one["metrics"]["mean_reward/b"] = metric(2.0)  # type: ignore[index]
    text = page([one]).text
    assert "Reward by scorer" in text and "reward a reward b" in text


def test_training_metrics_become_curves_and_flags_are_marked() -> None:
    training = {"loss": 1.5, "logratio/best": 0.25, "logratio/worst": -1.25, "cut/flagged_share": 0.125}
    example = {"prompt": "List two animals.", "judgment": "Not animals: axe.", "prompt_id": "p",
               "tokens": [["cat", False], [", ", False], ["<axe>", True], [7, "odd"]]}  # fmt: skip
    html = render_report(ReportData("r", "done", {}, {}, [
        {**full_round(1), "training": training, "flagged": [example, {"tokens": "odd"}, 3]},
    ]))  # fmt: skip
    Page(html).assert_inert()
    assert "Log-ratio to the reference" in html and "Flagged tokens" in html
    assert "<mark>&lt;axe&gt;</mark>" in html and "<mark>cat</mark>" not in html
    assert "Not animals: axe." in html
    assert "Implicit reward margin" not in html


def trusted(name: str = "reward_model:demo", reason: str = "error: HTTP 503") -> dict[str, Any]:
    """The section of a report, with every part."""
    canary = {"beat": 6, "compared": 8, "missing": 0, "alarm": True}
    moved = {"compared": 16, "missing": 0, "spread": 0.5, "mean_change": 0.25, "noise": 0.0, "changed": 0.75}
    return {
        "gold": "rule:demo",
        "alarms": [f"{name} puts canaries above the median answer: null_model on 6 of 8 prompts"],
        "scorers": {name: {
            "answers": 10, "status": {"ok": 8, "error": 2}, "reasons": {reason: 2}, "aspects": {"truncated": 3.0},
            "cost": 0.5, "latency_s": {"mean": 0.25, "max": 1.0}, "flip_rate": metric(0.125),
        }},
        "agreement": {
            "pairs": [{"a": name, "b": "rule:demo", "pearson": metric(0.5), "alike": metric(0.625)}],
            "gold": {name: {"accuracy": metric(0.6875)}},
            "length": {name: metric(0.375)},
        },
        "canaries": {"prompts": 8, "scorers": {name: {"null_model": canary}}},
        "drift": {"since": 0, "anchors": 16, "scorers": {name: {**moved, "alarm": True}}},
        "repeats": {name: {"answers": 10, "means": [0.5, 0.75], "spread": 0.125, "changed": 0.25}},
        "gap": {name: {"proxy": metric(1.5), "gold": metric(-0.75), "gap": metric(2.25)}},
    }  # fmt: skip


def test_scores_have_alarms_tables_and_curves() -> None:
    parsed = page([full_round(0), {**full_round(1), "trust": trusted()}])
    for text in [
        "Alarms what to look at first A scorer rewards answers that deserve nothing round 1 reward_model:demo puts",
        "Scorers, round 1",
        "8 0 2 0 0 3 0 12.5% [7.5, 17.5] $0.5000 0.250",
        "error: HTTP 503 2",
        "reward_model:demo and rule:demo 0.500 [0.450, 0.550] – 62.5%",  # noqa: RUF001
        "Against rule:demo, round 1",
        "68.8%",
        "null_model 6 of 8 alarm",
        "Drift on fixed answers, round 1 against round 0",
        "16 0.250 alarm 0.000 0.500 75.0%",
        "Reward against truth",
        "Reward and length",
        "Judgments repeated, round 1",
        "10 0.500, 0.750 0.125 25.0%",
    ]:
        assert text in parsed.text, text
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_an_alarm_is_there_in_full_once() -> None:
    """In the newest round; older ones say it in a word, although their numbers are others."""
    rounds = [{**full_round(index), "trust": trusted()} for index in range(3)]
    rounds[0]["trust"]["alarms"] = [
        "reward_model:demo puts canaries above the median answer: empty on 5 of 8 prompts", "judge:b drifts: by 3"
    ]  # fmt: skip
    text = page(rounds).text
    assert text.count("median answer: null_model on 6 of 8 prompts") == 1 and "empty on 5 of 8" not in text
    again = "reward_model:demo puts canaries above the median answer (again)"
    assert f"on 6 of 8 prompts round 1 {again} round 0 {again}" in text
    assert "A scorer drifts round 0 judge:b drifts: by 3" in text


def test_scores_of_hostile_scorers_are_inert() -> None:
    parsed = page([{**full_round(0), "trust": trusted(HOSTILE, HOSTILE)}])
    shown = HOSTILE.replace("\x00", "\u2400").replace("\x1b", "\u241b").replace("\ud800", "\ufffd")
    assert parsed.texts.count(shown) >= 6


@pytest.mark.parametrize(
    "trust",
    [
        None, [], {"alarms": 3}, {"alarms": [None]}, {"scorers": {"a": None, "b": {}}}, {"scorers": []},
        {"agreement": {"pairs": [3, {}], "gold": 3, "length": {"a": {"value": None}}}}, {"canaries": {"failed": "x"}},
        {"repeats": {"a": 3, "b": {"means": 3, "spread": "x"}}},
        {"canaries": {"scorers": {"a": {"b": 3}, "c": {"d": {"beat": "x"}}}}}, {"gap": {"a": 3}},
        {"drift": {"scorers": {"a": {"mean_change": "far"}}}},
    ],
)  # fmt: skip
def test_damaged_scores_still_render(trust: Any) -> None:
    """All of the round beside them is shown, and the scores of the round before."""
    damaged = {**full_round(1), "trust": trust}
    alone = page([damaged]).text
    assert [text for text in SOUND if text not in alone] == []
    assert page([{**full_round(0), "trust": trusted()}, damaged]).text.count("reward_model:demo") >= 3
