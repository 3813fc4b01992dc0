"""The command `rayalign plan`: what it reads, what it refuses, and where it agrees with the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayalign import cli
from rayalign.config.run import RunConfig
from tests.unit.planned import config_with


def written(folder: Path, config: RunConfig) -> str:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a config.json and nothing else."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8}
    folder = tmp_path / "model"
    folder.mkdir()
    kind = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128}
    (folder / "config.json").write_text(json.dumps(kind | sizes))
    return folder


def test_the_command_reads_config_json_alone(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, config_with(model__base=str(model)))
    assert cli.exit_code(["plan", path, "--gpu", "L4", "--tokens", "20", "10"]) == 0
    said = capsys.readouterr().out
    assert "all of it fits" in said and "prompts of 20 and answers of 10 tokens" in said and "US dollars" in said
    assert cli.exit_code(["plan", path, "--gpu", "L4", "--set", "cluster.generators.gpus=0"]) == 0
    assert "at most, with all as long as the config allows" in capsys.readouterr().out
    nodes = tmp_path / "nodes.yaml"
    nodes.write_text("nodes: [{gpu: L4, gpus: 1, cpus: 8, memory_gib: 32}]")
    # The run lets the two take turns there.
    assert cli.exit_code(["plan", path, "--nodes", str(nodes)]) == 0
    apart = ["--set", "cluster.placement=disaggregated"]
    assert cli.exit_code(["plan", path, "--nodes", str(nodes), *apart]) == 2
    said = capsys.readouterr().out
    assert "does not fit: the config asks for 2 GPUs and the cluster has 1" in said
    assert "remedy: let generators and learner take turns on the same GPUs" in said


@pytest.mark.parametrize(
    ("nodes", "changes", "told"),
    [
        ("{count: 8, gpu: L4, gpus: 4, cpus: 32, memory_gib: 64}",
         {"cluster__generators": {"gpus": 8, "tensor_parallel": 8}}, "generator-0 asks for 8 GPUs of one node"),
        ("{gpu: L4, gpus: 2, cpus: 8, memory_gib: 64}",
         {"cluster__generators": {"gpus": 0.6, "max": 2}, "cluster__learner": {"gpus": 0.6}},
         "asks for 0.6 of a GPU, and there is none left"),
        ("{count: 3, cpus: 1, memory_gib: 64}", {"cluster__generators": {"gpus": 0}, "cluster__learner": {"gpus": 0}},
         "no node has two logical CPUs"),
        ("{gpu: L4, gpus: 8, cpus: 32, memory_gib: 64}", {"training__workers": 8},
         "colocated with cluster.generators.min and max 8"),
    ],
)  # fmt: skip
def test_actors_that_have_no_place_are_named_as_by_the_run(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], nodes: str, changes: dict[str, Any], told: str
) -> None:
    (tmp_path / "nodes.yaml").write_text(f"nodes: [{nodes}]")
    path = written(tmp_path, config_with(model__base=str(model), **changes))
    assert cli.exit_code(["plan", path, "--nodes", str(tmp_path / "nodes.yaml")]) == 2
    said = capsys.readouterr().out
    assert told in said and "remedy:" in said and "all of it fits" not in said


def test_judges_are_said_to_be_left_out(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = {"type": "judge", "transport": "vllm", "model": str(model)}
    rule = {"type": "rule", "function": "demo"}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**config_with(model__base=str(model)).to_dict(), "scoring": [rule, judge]}))
    assert cli.exit_code(["plan", str(path), "--gpu", "L4"]) == 0
    assert "all of it fits; judges were not counted: 1 with a model of its own" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--gpu", "T4"], "--gpu: T4"),
        ([], "asks for 2 GPUs"),
        (["--gpu", "L4", "--set", "cluster.generators.gpus=0", "--set", "cluster.learner.gpus=0"], "asks for no GPUs"),
        (["--gpu", "H100"], "did you mean H100-80GB?"),
        (["--gpu", "L4", "--nodes", "NODES"], "each says what there is"),
        (["--nodes", "missing.yaml"], "missing.yaml"),
        (["--nodes", "CPUS"], "no node of"),
        (["--gpu", "L4", "--tokens", "nan", "nan"], "--tokens nan nan"),
        (["--gpu", "L4", "--tokens", "inf", "5"], "--tokens inf 5"),
        (["--gpu", "L4", "--tokens", "20", "513"], "answers of 1 to 512"),
        (["--gpu", "L4", "--calibrate"], "has none that torch sees"),
        (["--gpu", "L4", "--set", "cluster.generators.max=100000000000"], "4096"),
        (["--gpu", "L4", "--set", "training.workers=100000000000"], "4096"),
        (["--gpu", "L4", "--set", "cluster.generators.gpus=1e-9"], "too little to be counted"),
        (["--nodes", "NODES"], "gpu (its name) and gpus (how many) go together"),
        (["--gpu", "L4", "--set", "model.base=no/such-model"], "no/such-model"),
        (["--gpu", "L4", "--calibrate", "--set", "model.quantization=nf4"], "--calibrate with model.quantization"),
    ],
)
def test_bad_input_ends_with_2_and_says_what_to_do(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], told: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    nodes = tmp_path / "nodes.yaml"
    nodes.write_text("nodes: [{gpus: 1, cpus: 8, memory_gib: 32}]")
    path = written(tmp_path, config_with(model__base=str(model)))
    (tmp_path / "cpus.yaml").write_text("nodes: [{cpus: 8, memory_gib: 32}]")
    files = {"NODES": str(nodes), "CPUS": str(tmp_path / "cpus.yaml")}
    given = [files.get(argument, argument) for argument in arguments]
    assert cli.exit_code(["plan", path, *given]) == 2
    said = capsys.readouterr().err
    assert told in said and ("remedy:" in said or "mistake" in said)
