"""The configs of `rayalign sft`, `reward-model` and `all`: what they refuse, and what stages say of each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayalign.config.file import load_config_of
from rayalign.config.stages import AllConfig, StageConfig
from rayalign.errors import ConfigError
from rayalign.launch.all_stages import rounds_config, stage_config

DEMO_ALL = Path(__file__).parents[2] / "configs" / "demo_all.yaml"


def stage_error(tmp_path: Path, text: str, *overrides: str) -> str:
    path = tmp_path / "stage.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config_of(StageConfig, path, overrides)
    return str(caught.value)


def all_error(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config_of(AllConfig, DEMO_ALL, overrides)
    return str(caught.value)


def test_mistakes_are_told_in_the_words_of_the_stage(tmp_path: Path) -> None:
    text = stage_error(tmp_path, "model: {base: x}\ntraining: {epoch: 2}\nobjective: {type: nca}\n")
    assert "3 mistakes" in text
    assert "training.epoch: unknown key (found 2); did you mean epochs?" in text
    assert "objective: unknown key" in text and "the keys there are model, data, training, limits, run" in text
    assert "data: missing; add it, for example data: {source: demo}" in text


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    text = "model: {base: x}\ndata: {source: demo}\n"
    assert "quantised weights cannot be trained" in stage_error(
        tmp_path, text, "model.full=true", "model.quantization=nf4"
    )
    assert "cannot be shared out over 3 workers" in stage_error(tmp_path, text, "training.workers=3")
    assert "micro_batch 5 does not divide" in stage_error(tmp_path, text, "training.micro_batch=5")


def test_a_missing_key_of_a_stage_of_all_has_its_example() -> None:
    assert "sft.data: found nothing (null)" in all_error("sft.data=null")
    assert "for example data: {source: demo}" in all_error("sft.data=null")


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("sft=null", "rounds.model.base: stage:sft is not there yet; no stage before it makes one"),
        ("reward_model=null", "rounds.scoring.0.model: stage:reward_model is not there yet"),
        ("sft.model.base=stage:sft", "sft.model.base: stage:sft is not there yet"),
        ("rounds.model.base=stage:sfd", "rounds.model.base: stage:sfd is not there yet; use stage:sft"),
        ("rounds.run.name=x", "rounds.run.name: all stages share one folder and seed; set run.name instead"),
    ],
)
def test_stages_that_do_not_fit_together(override: str, found: str) -> None:
    assert found in all_error(override)


def test_an_adapter_alone_is_no_model_for_later_stages() -> None:
    only_adapter = ["sft.model.full=false", "sft.model.merge=false"]
    assert "rounds.model.base: stage:sft is not there yet" in all_error(*only_adapter)


def test_each_stage_gets_its_folder_its_seed_and_the_models_before_it() -> None:
    overrides = ["run.dir=/data", "run.seed=7", "reward_model.model.base=stage:sft"]
    config = load_config_of(AllConfig, DEMO_ALL, overrides)
    sft, reward_model = stage_config(config, "sft"), stage_config(config, "reward_model")
    assert sft is not None and reward_model is not None
    assert (sft.run.dir, sft.run.name, sft.run.seed) == ("/data/demo_all", "sft", 7)
    assert reward_model.model.base == "/data/demo_all/sft/model"
    rounds = rounds_config(config)
    assert (rounds.run.dir, rounds.run.name, rounds.run.seed, rounds.run.rounds) == ("/data/demo_all", "rounds", 7, 5)
    assert rounds.model.base == "/data/demo_all/sft/model"
    assert rounds.scoring[0].model == "/data/demo_all/reward_model/model"  # pyright: ignore
