"""The page's frame: scripts by hash, data that no text can end, and the browser of answers only where it is fed."""

from __future__ import annotations

import json

import pytest

from rayalign.dashboard.report import ReportData, render_report
from rayalign.dashboard.shell import json_text, policy, script_text
from tests.unit.test_report import HOSTILE, Page


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
    data = ReportData("a", "done", {}, {}, [], browser=browser)
    parsed = Page(render_report(data))
    parsed.assert_inert()
    assert parsed.data["rayalign-data"]["rows"] == {"evaluation": []}
    assert "onerror=alert" in parsed.data["rayalign-data"]["run"]
    assert [a for _, a in parsed.tags if a.get("id") == "browser"]
    without = Page(render_report(ReportData("a", "done", {}, {}, [])))
    assert not without.data and not [a for _, a in without.tags if a.get("id") == "browser"]
