"""`samples`, and what Self-Contrast needs of a config: what is refused and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rayalign.config.file import load_config
from rayalign.config.run import RunConfig
from rayalign.errors import ConfigError

RULE = {"type": "rule", "function": "demo"}
SAMPLES = {"source": "pairs.jsonl"}


def load(tmp_path: Path, objective: dict[str, Any], **sections: Any) -> RunConfig:
    data = {"model": {"base": "demo"}, "prompts": {"source": "demo"}, "scoring": [RULE], "objective": objective}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**data, **sections}))
    return load_config(path)


def refusal(tmp_path: Path, objective: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, objective, **sections)
    assert "1 mistake" in str(caught.value)
    return str(caught.value)


def test_a_dataset_needs_no_scorer_and_no_judge(tmp_path: Path) -> None:
    for kind in ("nca", "cut", "spin", "ilf_mle"):
        config = load(tmp_path, {"type": kind}, samples=SAMPLES, scoring=[])
        assert config.samples is not None and config.samples.format == "auto"
    assert "scoring is empty" in refusal(tmp_path, {"type": "nca"}, scoring=[])


@pytest.mark.parametrize("setting", [{"responses": 4}, {"temperature": 0.5}, {"top_p": 0.9}])
def test_read_or_sampled(tmp_path: Path, setting: dict[str, float]) -> None:
    said = refusal(tmp_path, {"type": "nca"}, samples=SAMPLES, sampling=setting)
    assert f"sampling.{next(iter(setting))} would sample them" in said
    load(tmp_path, {"type": "nca"}, samples=SAMPLES, sampling={"max_tokens": 16, "responses": 8})


def test_the_generator_knows_no_reference_of_a_dataset(tmp_path: Path) -> None:
    training = {"reference_logps": "generator"}
    assert "did not sample a dataset's" in refusal(tmp_path, {"type": "nca"}, samples=SAMPLES, training=training)


def test_longest_sequences(tmp_path: Path) -> None:
    """Prompts of 512: the generator adds 64, the learner reads 1,000; a judgment takes 256, and its template 256."""
    config = load(tmp_path, {"type": "nca"}, samples={**SAMPLES, "max_tokens": 1000})
    assert (config.max_sequence_tokens, config.max_judged_tokens) == (512 + 64, 512 + 1000)
    config = load(tmp_path, {"type": "cut"}, samples={**SAMPLES, "max_tokens": 1000})
    assert (config.max_sequence_tokens, config.max_judged_tokens) == (512 + 64, 512 + 1000 + 256 + 256)
    config = load(tmp_path, {"type": "nca"}, samples=SAMPLES)
    assert (config.max_response_tokens, config.max_judged_tokens) == (64, 512 + 64)


def test_ranked_negatives_need_similarities(tmp_path: Path) -> None:
    ranked = {"type": "self_contrast", "pool": "lastdedup"}
    assert "no scorer gives one" in refusal(tmp_path, ranked)
    assert "no scorer gives one" in refusal(tmp_path, {**ranked, "similarity": "rule:other"})
    assert load(tmp_path, {**ranked, "similarity": "rule:demo"}).similarity_scorer == "rule:demo"
    encoder = {"type": "similarity", "model": "demo"}
    assert load(tmp_path, ranked, scoring=[RULE, encoder]).similarity_scorer == "similarity:demo"
    assert load(tmp_path, {"type": "self_contrast", "pool": "alldedup"}).similarity_scorer is None
    assert "are not scored" in refusal(tmp_path, ranked, samples=SAMPLES, scoring=[RULE, encoder])


def test_more_negatives_than_answers(tmp_path: Path) -> None:
    contrast = {"type": "self_contrast", "negatives": 9}
    assert "objective.negatives 9 of sampling.responses 8" in refusal(tmp_path, contrast)
    load(tmp_path, contrast, samples=SAMPLES)


def test_negatives_leave_nothing_for_other_objectives(tmp_path: Path) -> None:
    both: Any = [{"type": "self_contrast", "negatives": 2}, {"type": "nca"}]
    assert "give it a run of its own" in refusal(tmp_path, both)
    load(tmp_path, [{"type": "self_contrast"}, {"type": "nca"}])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sections", "objective", "reads"),
    [
        ({}, {"type": "nca"}, False),
        ({}, {"type": "spin"}, True),
        ({"evaluation": {"baselines": ["target"]}}, {"type": "nca"}, True),
        ({"scoring": [{"type": "similarity", "model": "demo"}]}, {"type": "nca"}, True),
    ],
)
def test_who_reads_targets(tmp_path: Path, sections: Any, objective: Any, reads: bool) -> None:
    assert load(tmp_path, objective, **sections).reads_targets == reads
