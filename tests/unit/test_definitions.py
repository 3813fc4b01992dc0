"""Versions of code that scores: moving or describing it keeps them, computing otherwise changes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayalign.scoring.definitions import definitions_digest
from rayalign.scoring.judges import template_version as versions
from rayalign.scoring.judges.template_version import earlier_version, template_version
from rayalign.scoring.judges.templates import TemplateName, make_template
from rayalign.scoring.services.cache import ScoreCache
from tests.unit.judge_cases import judge, prompt, samples

CODE = '''"""What it is."""

import math

LIMIT = 3


def shorten(text: str) -> str:
    """Cut it."""
    from textwrap import shorten as cut  # a helper

    return cut(text, LIMIT)
'''


def digest(folder: Path, *texts: str) -> str:
    files = []
    for i, text in enumerate(texts):
        files.append(folder / f"{i}.py")
        files[-1].write_text(text)
    return definitions_digest(*files)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import math\n", "from decimal import Decimal\n"),
        ("from textwrap import shorten as cut  # a helper", "from elsewhere import cut"),
        ('"""Cut it."""', '"""The text, cut at LIMIT characters."""'),
        ('"""What it is."""\n', ""),
        ("return cut(text, LIMIT)", "return cut(\n        text,\n        LIMIT,\n    )  # so"),
    ],
)
def test_what_computes_the_same_has_the_same_digest(tmp_path: Path, old: str, new: str) -> None:
    assert CODE.count(old) == 1
    assert digest(tmp_path, CODE.replace(old, new)) == digest(tmp_path, CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = '3'"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("text, LIMIT", "LIMIT, text"),
        ("def shorten", "def cut"),
    ],
)
def test_what_computes_otherwise_has_another(tmp_path: Path, old: str, new: str) -> None:
    assert digest(tmp_path, CODE.replace(old, new)) != digest(tmp_path, CODE)


def test_definitions_may_move_between_the_files(tmp_path: Path) -> None:
    alone = CODE.replace("LIMIT = 3\n", "")
    assert digest(tmp_path, alone, "LIMIT = 3\n") == digest(tmp_path, CODE)
    assert digest(tmp_path, alone) != digest(tmp_path, CODE)


EARLIER = {
    "cut": ("34c9436bb794b305", "d5b4d24ff19ba2ac"),
    "rating": ("353c81157922c627", "18c4d08c095bce5f"),
    "pairwise": ("cd50278c6d765588", "4d20fa34d73bf96e"),
}
"""What `template_version` gave at commit c7fb74d, without and with a rubric."""


@pytest.mark.parametrize("name", EARLIER)
def test_the_earlier_version_is_what_it_was(name: TemplateName) -> None:
    plain = make_template(name, None, reasons=True, structured=True)
    strict = make_template(name, "Be strict.", reasons=False, structured=False)
    assert (earlier_version(plain), earlier_version(strict)) == EARLIER[name]
    assert len({template_version(plain), template_version(strict), *EARLIER[name]}) == 4


def cached_under_the_earlier_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge three answers as the version before did."""
    with monkeypatch.context() as before:
        before.setattr("rayalign.scoring.judges.llm_judge.template_version", earlier_version)
        made, transport = judge("rating", lambda m: {"rating": 7}, cache=ScoreCache(folder))
        made.score([prompt()] * 3, samples(prompt(), "a", "b", "c"))
        made.close()
        assert len(transport.sent) == 3


def test_replies_cached_under_the_earlier_version_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached_under_the_earlier_version(tmp_path, monkeypatch)
    made, transport = judge("rating", lambda m: {"rating": 2}, cache=ScoreCache(tmp_path))
    scores = made.score([prompt()] * 4, samples(prompt(), "a", "new", "b", "c"))
    made.close()
    assert [score.reward for score in scores] == [7.0, 2.0, 7.0, 7.0]
    assert {score.scorer_version for score in scores} == {made.version}
    assert len(transport.sent) == 1


def test_they_no_longer_count_where_the_code_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached_under_the_earlier_version(tmp_path, monkeypatch)
    monkeypatch.setattr(versions, "_EARLIER_DIGEST", "of other code")
    assert earlier_version(make_template("rating", None, reasons=True, structured=True)) is None
    made, transport = judge("rating", lambda m: {"rating": 2}, cache=ScoreCache(tmp_path))
    scores = made.score([prompt()] * 3, samples(prompt(), "a", "b", "c"))
    made.close()
    assert [score.reward for score in scores] == [2.0] * 3
    assert len(transport.sent) == 3
