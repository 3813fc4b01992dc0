"""The objectives' part of the config: every arm with its defaults, and what cannot be learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from rayalign.config.file import load_config, resolved_yaml
from rayalign.config.guidance import start_remarks
from rayalign.config.objective import ALPACA_JUDGED, FORWARD, REVISION, Objective
from rayalign.config.run import RunConfig
from rayalign.errors import ConfigError

REFERENCE = {"weight": 1.0, "beta": 0.3, "reference": "round_start"}
PAIRS = {**REFERENCE, "pairs": "best_worst"}
JUDGED = {"weight": 1.0, "judgment_max_tokens": 256}
DEFAULTS: dict[str, dict[str, Any]] = {
    "nca": {**REFERENCE, "alpha": 0.1},
    "info_nca": {**REFERENCE, "alpha": 0.1},
    "dpo": PAIRS,
    "pairwise_nca": PAIRS,
    "biased_nca": PAIRS,
    "spin": REFERENCE,
    "spin_hinge": REFERENCE,
    "self_contrast": {**REFERENCE, "negatives": "all", "pool": "all", "ratio": 0.75, "similarity": None},
    "cut": {
        **JUDGED,
        "template": "alpaca",
        "threshold": 1.1,
        "unlikelihood_weight": 1.0,
        "gamma": 0.0,
        "detect_tokens": True,
        "unlikelihood": True,
        "positives": 0.25,
    },
    "hindsight": {**JUDGED, "template": "alpaca"},
    "forward_prediction": {**JUDGED, "template": FORWARD},
    "ilf_mle": {**JUDGED, "revise_template": REVISION},
    "ilf_dpo": {**JUDGED, **REFERENCE, "revise_template": REVISION},
    "sft": {"weight": 1.0},
}
NEEDS = {
    **{kind: {"rewards"} for kind in ("nca", "info_nca", "dpo", "pairwise_nca", "biased_nca")},
    **{kind: {"targets"} for kind in ("spin", "spin_hinge", "self_contrast")},
    **{kind: {"judgments"} for kind in ("cut", "hindsight", "forward_prediction", "sft")},
    **{kind: {"judgments", "revisions"} for kind in ("ilf_mle", "ilf_dpo")},
}
RULE, JUDGE = {"type": "rule", "function": "demo"}, {"type": "judge", "transport": "demo"}


def write(tmp_path: Path, objective: Any, *scoring: dict[str, Any], **sections: Any) -> Path:
    path = tmp_path / "run.yaml"
    data = {"model": {"base": "demo"}, "prompts": {"source": "demo"}, "objective": objective, **sections}
    path.write_text(yaml.safe_dump({**data, "scoring": list(scoring or (RULE, JUDGE))}))
    return path


def load(tmp_path: Path, objective: Any, *scoring: dict[str, Any], **sections: Any) -> RunConfig:
    return load_config(write(tmp_path, objective, *scoring, **sections))


def refused(tmp_path: Path, objective: Any, *scoring: dict[str, Any], **sections: Any) -> str:
    """The one mistake that the config is refused for."""
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, objective, *scoring, **sections))
    assert "1 mistake" in str(caught.value)
    return str(caught.value)


def test_every_type_is_tested() -> None:
    union, _ = get_args(Objective)
    assert {get_args(arm.model_fields["type"].annotation)[0] for arm in get_args(union)} == set(DEFAULTS) == set(NEEDS)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_every_type_loads_with_its_defaults(tmp_path: Path, kind: str) -> None:
    config = load(tmp_path, {"type": kind})
    (objective,) = config.objectives
    assert objective.model_dump() == {"type": kind, **DEFAULTS[kind]}
    assert objective.needs == NEEDS[kind]
    assert config.reference == DEFAULTS[kind].get("reference")
    assert RunConfig.model_validate(yaml.safe_load(resolved_yaml(config))) == config


@pytest.mark.parametrize("kind", DEFAULTS)
def test_a_list_of_one_is_that_one(tmp_path: Path, kind: str) -> None:
    assert load(tmp_path, [{"type": kind}]).objectives == load(tmp_path, {"type": kind}).objectives


def test_the_alpaca_template_is_a_name_for_the_papers_text(tmp_path: Path) -> None:
    (cut,) = load(tmp_path, {"type": "cut"}).objectives
    assert cut.judged_template == ALPACA_JUDGED
    (cut,) = load(tmp_path, {"type": "cut", "template": "{judgment} {instruction}"}).objectives
    assert cut.judged_template == "{judgment} {instruction}"


@pytest.mark.parametrize(
    ("kind", "key", "text", "words"),
    [
        ("cut", "template", "alpacca", "template has no {instruction} and no {judgment}"),
        ("cut", "template", "{instruction}", "template has no {judgment}"),
        ("hindsight", "template", "{judgment} { instruction }", "template has no {instruction}"),
        ("forward_prediction", "template", "{instruction}", "template has no {response}"),
        ("forward_prediction", "template", "{response}", "template has no {instruction}"),
        ("ilf_mle", "revise_template", "{instruction} {response}", "revise_template has no {judgment}"),
        ("ilf_dpo", "revise_template", "", "revise_template has no {instruction} and no {response} and no {judgment}"),
    ],
)
def test_a_template_needs_its_fields(tmp_path: Path, kind: str, key: str, text: str, words: str) -> None:
    assert f"{words}: write where it belongs" in refused(tmp_path, {"type": kind, key: text})


@pytest.mark.parametrize(
    ("objectives", "words"),
    [
        (["nca", "dpo", "nca"], "nca stands there twice"),
        ([{"type": "nca"}, {"type": "ilf_dpo", "reference": "base"}], "share one reference policy"),
        ([{"type": "cut"}, {"type": "hindsight", "template": "{instruction}{judgment}"}], "share one `template`"),
        (
            [{"type": "ilf_mle"}, {"type": "ilf_dpo", "revise_template": "{instruction}{judgment}{response}"}],
            "share one `revise_template`",
        ),
    ],
)
def test_objectives_that_cannot_share_an_update(tmp_path: Path, objectives: list[Any], words: str) -> None:
    given = [{"type": o} if isinstance(o, str) else o for o in objectives]
    assert words in refused(tmp_path, given)


def test_objectives_that_can(tmp_path: Path) -> None:
    """Forward Prediction's template is another kind of text; objectives without a reference fit any."""
    together = ["cut", "hindsight", "forward_prediction", "ilf_mle", "sft"]
    objectives = [*({"type": kind} for kind in together), {"type": "nca", "reference": "base"}]
    config = load(tmp_path, objectives)
    assert config.reference == "base"
    assert [o.type for o in config.objectives] == [*together, "nca"]


@pytest.mark.parametrize("kind", [kind for kind, needs in NEEDS.items() if "judgments" in needs])
def test_judgments_need_a_judge(tmp_path: Path, kind: str) -> None:
    assert "no scorer writes any: add one of type judge" in refused(tmp_path, {"type": kind}, RULE)
    assert load(tmp_path, {"type": kind}, JUDGE).objectives[0].type == kind


@pytest.mark.parametrize("kind", [kind for kind, needs in NEEDS.items() if "rewards" in needs])
def test_rewards_need_a_scorer_with_a_weight(tmp_path: Path, kind: str) -> None:
    words = "learns from rewards and no scorer with a weight gives any"
    assert words in refused(tmp_path, {"type": kind}, JUDGE)
    assert words in refused(tmp_path, {"type": kind}, JUDGE, {**RULE, "weight": 0})
    assert load(tmp_path, {"type": kind}, {**RULE, "weight": -1}).objectives[0].type == kind


@pytest.mark.parametrize("kind", NEEDS)
def test_one_response_has_nothing_to_be_compared_with(tmp_path: Path, kind: str) -> None:
    """Rewards compare responses of one prompt; judgments and targets make do with one (SPIN has no more)."""
    one = {"sampling": {"responses": 1}}
    if "rewards" in NEEDS[kind]:
        assert "set sampling.responses to 2 or more" in refused(tmp_path, {"type": kind}, **one)
        assert load(tmp_path, {"type": kind}, sampling={"responses": 2}).sampling.responses == 2
    else:
        assert load(tmp_path, {"type": kind}, **one).sampling.responses == 1


NUMBERS = [
    ("nca", "alpha"),
    ("info_nca", "alpha"),
    ("nca", "beta"),
    ("dpo", "beta"),
    ("self_contrast", "beta"),
    ("ilf_dpo", "beta"),
    ("sft", "weight"),
    ("cut", "unlikelihood_weight"),
    ("cut", "threshold"),
]


@pytest.mark.parametrize("value", [0, -0.1, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("kind", "key"), NUMBERS)
def test_edge_3_numbers_are_positive_and_finite(tmp_path: Path, kind: str, key: str, value: float) -> None:
    assert f"objective.{key}: found {value}" in refused(tmp_path, {"type": kind, key: value})


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("end", ["start", "end"])
def test_so_are_the_ends_of_a_schedule(tmp_path: Path, end: str, value: float) -> None:
    schedule = {"start": 1.0, "end": 0.5, "rounds": 3, end: value}
    assert f"objective.alpha.{end}: found {value}" in refused(tmp_path, {"type": "nca", "alpha": schedule})


@pytest.mark.parametrize("value", [-0.5, -2, float("nan"), float("inf")])
def test_edge_22_positives_are_a_ratio_or_off(tmp_path: Path, value: float) -> None:
    assert "objective.positives: found" in refused(tmp_path, {"type": "cut", "positives": value})


@pytest.mark.parametrize("value", [-1, 0, 0.25, 3])
def test_edge_22_ratios_that_are_taken(tmp_path: Path, value: float) -> None:
    (cut,) = load(tmp_path, {"type": "cut", "positives": value}).objectives
    assert cut.positives == value


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_gamma_may_be_zero_but_not_less(tmp_path: Path, value: float) -> None:
    assert "objective.gamma" in refused(tmp_path, {"type": "cut", "gamma": value})


def test_a_judgment_keeps_at_least_a_token(tmp_path: Path) -> None:
    words = refused(tmp_path, {"type": "cut", "judgment_max_tokens": 0})
    assert "objective.judgment_max_tokens: found 0; it must be at least 1; the default is 256" in words


@pytest.mark.parametrize("threshold", [1.0, 0.5, 1e-3])
def test_edge_17_a_threshold_up_to_1_is_said_aloud(tmp_path: Path, threshold: float) -> None:
    """A flagged token has p < 1 / threshold, so up to 1 its -log(1 - p) has no bound."""
    config = load(tmp_path, [{"type": "nca"}, {"type": "cut", "threshold": threshold}])
    (line,) = start_remarks(config, 600_000, 2000)
    assert line == (
        f"objective.threshold {threshold}: nothing bounds the loss of a flagged token; the paper uses 1.1 to 1.2"
    )


@pytest.mark.parametrize("objective", [{"type": "cut"}, {"type": "cut", "threshold": 1.0001}, {"type": "nca"}])
def test_other_thresholds_are_not(tmp_path: Path, objective: dict[str, Any]) -> None:
    assert list(start_remarks(load(tmp_path, objective), 600_000, 2000)) == []
