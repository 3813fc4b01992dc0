"""A stage's inputs, and its folder before any worker starts: what is refused, what is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rayalign.cli import exit_code
from rayalign.config.stages import StageConfig, StageKind
from rayalign.demo.language import write_untrained
from rayalign.errors import ConfigError, DataError, RunFolderError
from rayalign.launch.stage import run_stage, stage_folder
from rayalign.launch.stage_inputs import StageInputs, read_stage_inputs
from rayalign.rendering.template import UNDATED
from rayalign.store.run_dir import RunDir
from rayalign.store.stage_dir import StageDir

PAIRS = [
    {"prompt": f"Name {n} fruits.", "chosen": f"apple, plum, fig {n}", "rejected": f"{'car, ' * n}plane"}
    for n in range(20)
]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_untrained(folder, 0, rewards=False)
    return folder


def config(folder: Path, base: Path | str = "demo_untrained", data: dict[str, Any] | None = None) -> StageConfig:
    sections = {"run": {"dir": str(folder), "name": "s"}, "model": {"base": str(base)}}
    return StageConfig.model_validate({**sections, "data": {"source": "demo", **(data or {})}})


def read(kind: StageKind, found: StageConfig) -> StageInputs:
    return read_stage_inputs(kind, found, Path(), StageDir(stage_folder(found)), UNDATED)


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in PAIRS))
    return path


def test_a_dataset_is_split_by_prompt_and_read_alike_again(pairs_file: Path, untrained: Path, tmp_path: Path) -> None:
    found = config(tmp_path, untrained, {"source": str(pairs_file), "holdout": 4})
    inputs = read("reward_model", found)
    assert (len(inputs.train.rows), len(inputs.holdout.rows)) == (16, 4)
    assert inputs.digests() == read("reward_model", found).digests()
    train = {tuple(row["chosen_ids"]) for row in inputs.train.rows}
    assert not train & {tuple(row["chosen_ids"]) for row in inputs.holdout.rows}
    fewer = read("reward_model", config(tmp_path, untrained, {"source": str(pairs_file), "holdout": 4, "rows": 5}))
    assert fewer.train.rows == inputs.train.rows[:5] and fewer.holdout.rows == inputs.holdout.rows
    assert fewer.digests() != inputs.digests()


def test_the_demo_worlds_rows(tmp_path: Path) -> None:
    found = config(tmp_path, data={"rows": 12, "holdout": 5})
    for kind in ("sft", "reward_model"):
        inputs = read(kind, found)
        assert (len(inputs.train.rows), len(inputs.holdout.rows)) == (12, 5)
        architecture = json.loads((inputs.base / "config.json").read_text())["architectures"]
        assert architecture == ["LlamaForCausalLM" if kind == "sft" else "LlamaForSequenceClassification"]


@pytest.mark.parametrize(
    ("kind", "data", "error", "text"),
    [
        ("reward_model", {"template": "zephyr"}, ConfigError, "data.template"),
        ("sft", {"max_tokens": 4096}, ConfigError, "the model's context is 2048 tokens"),
        ("reward_model", {"max_tokens": 4}, DataError, "16 longer than data.max_tokens = 4"),
        ("sft", {"format": "nonsense"}, DataError, "nonsense"),
    ],
)
def test_inputs_that_cannot_be_used(
    kind: StageKind, data: dict[str, Any], error: type[Exception], text: str,
    pairs_file: Path, untrained: Path, tmp_path: Path,
) -> None:  # fmt: skip
    found = config(tmp_path, untrained, {"source": str(pairs_file), "holdout": 4, "max_tokens": 64, **data})
    with pytest.raises(error) as caught:
        run_stage(kind, found)
    assert text in str(caught.value)
    assert not (tmp_path / "s" / "config.yaml").exists()


def test_an_object_store_is_refused(tmp_path: Path) -> None:
    found = config(tmp_path).model_copy(
        update={"run": config(tmp_path).run.model_copy(update={"dir": "s3://bucket/x"})}
    )
    with pytest.raises(ConfigError, match="object store"):
        run_stage("sft", found)


def finished(found: StageConfig) -> dict[str, Any]:
    """A stage's folder as it is once the stage is done."""
    stage = StageDir(stage_folder(found))
    RunDir(stage.root).open({"stage": "sft", **found.to_dict()})
    (stage.root / "model").mkdir(parents=True)
    (stage.root / "model" / "model.safetensors").write_bytes(b"x")
    return stage.finish(stage="sft", data={"rows": 3}, metrics={"steps": 1, "loss": 0.5}, seconds=2.0)


def test_a_finished_stage_is_not_done_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    facts = finished(config(tmp_path))
    assert run_stage("sft", config(tmp_path)) == facts
    shown = capfd.readouterr().out
    assert "SFT: done before" in shown and "SFT: 3 rows, 1 steps, 2 s; held out: loss 0.5" in shown


def test_a_stage_of_a_version_that_knew_fewer_keys_is_taken_up(tmp_path: Path) -> None:
    facts, run_dir = finished(config(tmp_path)), RunDir(stage_folder(config(tmp_path)))
    saved = run_dir.saved_config()
    assert saved is not None
    del saved["data"]["fields"]
    run_dir.save_config(saved)
    assert run_stage("sft", config(tmp_path)) == facts
    with pytest.raises(RunFolderError, match=r"data\.fields"):
        run_stage("sft", config(tmp_path, data={"fields": {"prompt": "q"}}))


def test_another_config_on_a_finished_folder_is_refused_with_the_difference(tmp_path: Path) -> None:
    finished(config(tmp_path))
    with pytest.raises(RunFolderError) as caught:
        run_stage("sft", config(tmp_path, data={"max_tokens": 99}))
    assert "data.max_tokens: 1024 -> 99" in str(caught.value) and "--fork" not in str(caught.value)
    with pytest.raises(RunFolderError, match="stage: 'sft' -> 'reward_model'"):
        run_stage("reward_model", config(tmp_path))


def test_the_commands_know_their_configs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2] / "configs"
    for command, name in (("sft", "sft_demo"), ("reward-model", "reward_model_demo"), ("all", "demo_all")):
        assert exit_code([command, str(root / f"{name}.yaml"), "--dry-run", "--set", f"run.dir={tmp_path}"]) == 0
        assert name in capfd.readouterr().out
    assert exit_code(["sft", str(root / "quickstart.yaml")]) == 2
    assert not list(tmp_path.iterdir())
