"""The scorers' sections: defaults that change nothing, and mistakes in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rayalign.config.file import load_config
from rayalign.config.run import RunConfig
from rayalign.errors import ConfigError

RULE = {"type": "rule", "function": "demo"}


def load(tmp_path: Path, *scoring: dict[str, Any], **sections: Any) -> RunConfig:
    path = tmp_path / "run.yaml"
    data = {
        "model": {"base": "demo"},
        "prompts": {"source": "demo"},
        "objective": {"type": "nca"},
        "scoring": list(scoring),
        **sections,
    }
    path.write_text(yaml.safe_dump(data))
    return load_config(path)


def refused(tmp_path: Path, *scoring: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, *scoring, **sections)
    return str(caught.value)


def test_defaults_change_nothing(tmp_path: Path) -> None:
    config = load(tmp_path, RULE)
    assert (config.combine.type, config.combine.k) == ("weighted_sum", 1.0)
    assert config.scoring[0].model_dump() == {
        **RULE, "weight": 1.0, "calibration": "none", "ask": None, "batch": False, "timeout_s": None, "concurrency": 32,
    }  # fmt: skip


def test_every_type_has_a_name_of_its_own(tmp_path: Path) -> None:
    scoring = [
        RULE,
        {"type": "answer"},
        {"type": "answer", "field": "gold"},
        {"type": "constraints"},
        {"type": "unit_test"},
        {"type": "reward_model", "model": "org/some-rm"},
        {"type": "judge", "transport": "demo"},
    ]
    names = [section.name for section in load(tmp_path, *scoring).scoring]
    assert names == [
        "rule:demo", "answer:answer", "answer:gold", "constraints:constraints", "unit_test:tests",
        "reward_model:some-rm", "judge:demo",
    ]  # fmt: skip


def test_calibrations(tmp_path: Path) -> None:
    for calibration in ("none", "zscore", "rank", {"type": "linear", "file": "pairs.jsonl"}):
        section = load(tmp_path, {**RULE, "calibration": calibration}).to_dict()["scoring"][0]
        assert section["calibration"] == calibration


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({**RULE, "calibration": "zscor"}, "scoring.0.calibration: found 'zscor'; use none, zscore or rank"),
        ({**RULE, "calibration": {"type": "linear"}}, "scoring.0.calibration.file: missing"),
        ({**RULE, "timeout_s": 0}, "scoring.0.timeout_s: found 0; it must be more than 0"),
        ({**RULE, "batch": "yes"}, "scoring.0.batch"),
        ({"type": "unit_test", "network": "some"}, "scoring.0.network: found 'some'; use none or host"),
        ({"type": "unit_test", "memory_mb": 1}, "scoring.0.memory_mb: found 1; it must be at least 64"),
        ({"type": "reward_model"}, "scoring.0.model: missing"),
        ({"type": "reward_model", "model": "demo", "dtype": "int8"}, "scoring.0.dtype: found 'int8'; use float32 or"),
        ({"type": "constraints", "all": "no"}, "scoring.0.all"),
        ({"type": "answer", "feild": "x"}, "scoring.0.feild: unknown key (found 'x'); did you mean field?"),
        ({"type": "reward"}, "scoring.0.type: found 'reward'; use one of"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, section: dict[str, Any], words: str) -> None:
    assert words in refused(tmp_path, section)


def test_combine_mistakes_are_named(tmp_path: Path) -> None:
    assert "combine.type: found 'max'; use weighted_sum" in refused(tmp_path, RULE, combine={"type": "max"})
    assert "combine.k: found -1; it must be" in refused(tmp_path, RULE, combine={"k": -1})


def test_rewards_may_come_from_any_scorer_that_gives_some(tmp_path: Path) -> None:
    assert load(tmp_path, {"type": "answer"}).scoring[0].weight == 1.0
    assert "no scorer with a weight gives any" in refused(tmp_path, {"type": "answer", "weight": 0})


def test_twins_are_refused(tmp_path: Path) -> None:
    assert "two scorers are called answer:answer" in refused(tmp_path, {"type": "answer"}, {"type": "answer"})


ASKED = {
    "type": "judge", "transport": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "judge", "template": "rating",
    "ask": {"differ_by": 0.5},
}  # fmt: skip
OTHERS = [RULE, {"type": "answer"}]


def test_one_scorer_may_be_asked_only_where_the_others_disagree(tmp_path: Path) -> None:
    ask = load(tmp_path, *OTHERS, ASKED).scoring[2].ask
    assert ask is not None and ask.differ_by == 0.5
    load(tmp_path, *OTHERS, {**ASKED, "calibration": {"type": "linear", "file": "pairs.jsonl"}})


@pytest.mark.parametrize(
    ("scoring", "words"),
    [
        ([RULE, ASKED], "takes two other scorers with a weight to disagree"),
        ([RULE, {"type": "answer", "weight": 0}, ASKED], "takes two other scorers with a weight"),
        ([RULE, {"type": "answer", "weight": -1}, ASKED], "a scorer of negative weight is a penalty"),
        ([*OTHERS, {**ASKED, "calibration": "rank"}], "calibration: rank needs rewards of all answers to a prompt"),
        ([*OTHERS, {**ASKED, "calibration": "zscore"}], "use {type: linear, file: F}"),
        ([*OTHERS, {**ASKED, "template": "pairwise"}], "would lack those that are not asked about"),
        ([*OTHERS, {**ASKED, "template": "cut"}], "template: cut gives no reward that could decide"),
        ([*OTHERS, {**ASKED, "weight": 2.0}], "leave weight out"),
        ([*OTHERS, {**ASKED, "ask": {"differ_by": -1}}], "scoring.2.ask.differ_by: found -1; it must be at least 0"),
        ([*OTHERS, {**ASKED, "ask": {}}], "scoring.2.ask.differ_by: missing"),
        ([*OTHERS, ASKED, {"type": "unit_test", "ask": {"differ_by": 1}}], "only one scorer can decide"),
        ([*OTHERS, {"type": "judge", "transport": "demo", "ask": {"differ_by": 1}}], "transport: demo takes no ask"),
    ],
)
def test_what_cannot_be_asked_in_part_is_refused(tmp_path: Path, scoring: list[dict[str, Any]], words: str) -> None:
    assert words in refused(tmp_path, *scoring)
