"""The page's frame: scripts by hash, data that no text can end, and the browser of answers only where it is fed."""

from __future__ import annotations

import json

import pytest

from rayalign.dashboard.report import ReportData, render_report
from rayalign.dashboard.shell import json_text, policy, script_text
from tests.unit.test_report import HOSTILE, Page, metric


def test_data_cannot_end_their_element() -> None:
    text = json_text({"a": HOSTILE.replace("\ud800", ""), "b": ["<!--", "\u2028"]})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": HOSTILE.replace("\ud800", ""), "b": ["<!--", "\u2028"]}


@pytest.mark.parametrize("text", ["a </script>", "a </SCRIPT", "a <!-- b"])
def test_a_script_that_would_end_its_element_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it in two parts"):
        script_text(text)


def test_policy_names_scripts_by_hash_and_nothing_else() -> None:
    """The hash of the empty text is a known one; no script means none at all."""
    empty = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    assert f"script-src {empty};" in policy([""])
    assert "script-src 'none';" in policy([])
    assert "connect-src" not in policy([]) and "connect-src 'self';" in policy([], connect=True)


def test_browser_gets_its_data_as_they_are() -> None:
    browser = {"mode": "file", "run": HOSTILE, "rows": {"evaluation": []}}
    data = ReportData("a", "done", {}, {}, [], browser=lambda: browser)
    parsed = Page(render_report(data))
    parsed.assert_inert()
    assert parsed.data["rayalign-data"]["rows"] == {"evaluation": []}
    assert "onerror=alert" in parsed.data["rayalign-data"]["run"]
    assert [a for _, a in parsed.tags if a.get("id") == "browser"]
    without = Page(render_report(ReportData("a", "done", {}, {}, [])))
    assert not without.data and not [a for _, a in without.tags if a.get("id") == "browser"]


def test_long_words_are_cut_and_say_so() -> None:
    """A million characters without a space, wherever a run can have them."""
    long = "W" * 1_000_000
    report = {
        "round": 0,
        "metrics": {"pass_rate": metric(0.5), f"mean_reward/{long}": metric(0.5), f"mean_reward/{long}2": metric(0.5)},
        "stages": {long: {"seconds": 1.0}},
        "groups": {"kept": 1, "dropped": {long: 40}},
        "trust": {"alarms": [long], "scorers": {long: {"status": {"error": 1}, "reasons": {long: 1}}}},
        "answers": [{"prompt": long, "response": long, "reward": 1.0}],
        "flagged": [{"prompt": long, "judgment": long, "tokens": [[long, True]]}],
    }
    html = render_report(ReportData(long, long, {"run": {"seed": long}}, {long: long}, [report], problems=[long]))
    parsed = Page(html)
    parsed.assert_inert()
    assert len(html) < 3_000_000
    assert "(996000 more characters)" in parsed.text, "an answer"
    assert "(999800 more characters)" in parsed.text, "a name"
    assert max(len(word) for word in parsed.text.split()) <= 100_001, "a value of the config"


@pytest.mark.parametrize("text", ["\u05e9\u05dc\u05d5\u05dd", "\u202eevil", "a\x00b"])
def test_names_and_answers_have_the_direction_of_their_own_text(text: str) -> None:
    report = {"round": 0, "metrics": {"mean_reward/a": metric(0.5), f"mean_reward/{text}": metric(0.5)},
              "answers": [{"prompt": text, "response": text, "reward": 1.0}]}  # fmt: skip
    parsed = Page(render_report(ReportData(text, "done", {}, {}, [report])))
    parsed.assert_inert()
    shown = text.replace("\x00", "\u2400")
    assert sum(one == shown for one in parsed.texts) >= 3, "heading, prompt and answer"
    auto = [tag for tag, attributes in parsed.tags if attributes.get("dir") == "auto"]
    assert {"h1", "div", "li"} <= set(auto)
