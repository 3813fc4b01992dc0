"""A base that is loaded parameter by parameter is the one that transformers loads, and is never whole in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
)

from rayalign.config.model import LoraSection, ModelSection
from rayalign.learning.model import build_policy
from rayalign.learning.packing import collate_padded
from rayalign.learning.sharded import load_sharded, whole_while_running
from tests.alive_bytes import AliveBytes

torch.set_num_threads(1)
ROWS = [([1, 2, 3], [4, 5]), ([1, 2, 3], [6, 7, 8]), ([9], [8, 7])]


class Apart:
    """Keeps all values away from the parameters, which are empty unless gathered, as on one rank of ZeRO-3."""

    reads = True

    def __init__(self) -> None:
        self.values: dict[int, torch.Tensor] = {}

    def shard(self, parameter: torch.nn.Parameter) -> None:
        self.values[id(parameter)] = parameter.data.clone()
        parameter.data = torch.empty(0, dtype=parameter.dtype)

    @contextmanager
    def gather(self, parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
        mine = [parameter for parameter in parameters if id(parameter) in self.values]
        for parameter in mine:
            assert parameter.numel() == 0, "gathered twice"
            parameter.data = self.values[id(parameter)]
        yield
        for parameter in mine:
            parameter.data = torch.empty(0, dtype=parameter.dtype)


class Half(Apart):
    """Keeps half of each parameter, as each of two ranks does."""

    def shard(self, parameter: torch.nn.Parameter) -> None:
        self.values[id(parameter)] = parameter.data.flatten()[: parameter.numel() // 2].clone()
        parameter.data = torch.empty(0, dtype=parameter.dtype)


def whole(model: PreTrainedModel, sharding: Apart) -> dict[str, torch.Tensor]:
    with sharding.gather(list(model.parameters())):
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def folders(llama_folder: Path, qwen_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(3)
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64, n_positions=64))
    mixtral = MixtralForCausalLM(
        MixtralConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
                      num_key_value_heads=2, vocab_size=64, num_local_experts=2, max_position_embeddings=64)
    )  # fmt: skip
    found = {"llama": llama_folder, "qwen, tied": qwen_folder}
    for name, model in {"gpt2": gpt2, "mixtral": mixtral}.items():
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
    found["two files"] = tmp_path_factory.mktemp("two")
    LlamaForCausalLM.from_pretrained(llama_folder).save_pretrained(found["two files"], max_shard_size="15KB")
    assert len(list(found["two files"].glob("*.safetensors"))) > 1
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["llama", "qwen, tied", "gpt2", "two files"])
def test_it_is_the_model_that_transformers_loads(folders: dict[str, Path], name: str, dtype: torch.dtype) -> None:
    expected, sharding = AutoModelForCausalLM.from_pretrained(folders[name], dtype=dtype), Apart()
    model = load_sharded(folders[name], dtype, "cpu", sharding)
    assert model is not None and not model.training
    assert all(parameter.numel() == 0 for parameter in model.parameters())
    assert len(sharding.values) == len(list(expected.parameters()))
    ours = whole(model, sharding)
    assert ours.keys() == expected.state_dict().keys()
    for key, value in expected.state_dict().items():
        assert value.dtype == ours[key].dtype and torch.equal(value, ours[key]), key
    for key, value in expected.named_buffers():
        assert torch.equal(value, model.get_buffer(key)), key


@pytest.mark.parametrize("name", ["llama", "qwen, tied"])
def test_a_policy_on_it_gives_the_same_log_probs(folders: dict[str, Path], name: str) -> None:
    """Its checks, which compute, included: what they find of the model is the same."""
    section = ModelSection(base="x", lora=LoraSection(r=8, alpha=16))
    expected = build_policy(folders[name], section).eval()
    expected.reset_adapter(0)
    sharding = Apart()
    policy = build_policy(folders[name], section, sharding=sharding).eval()
    policy.reset_adapter(0)
    assert policy.shares_prompts == expected.shares_prompts is True
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in policy.modules())
    with torch.no_grad(), whole_while_running(policy.model, sharding.gather):
        torch.testing.assert_close(policy(collate_padded(ROWS)), expected(collate_padded(ROWS)), rtol=0, atol=1e-6)
    assert policy.adapter_files("x") == expected.adapter_files("x")


def _renamed(folder: Path, out: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name.removeprefix("model."): tensor for name, tensor in tensors.items()}, out / "model.safetensors")


def _quantised(folder: Path, out: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name].to(torch.float8_e4m3fn)}, out / "model.safetensors")


def _tied_and_stored_twice(folder: Path, out: Path) -> None:
    save_file(load_file(folder / "model.safetensors"), out / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))


@pytest.mark.parametrize("change", [_renamed, _quantised, _tied_and_stored_twice])
def test_a_checkpoint_that_is_converted_is_left_to_transformers(
    llama_folder: Path, tmp_path: Path, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text((llama_folder / "config.json").read_text())
    change(llama_folder, tmp_path)
    sharding = Apart()
    assert load_sharded(tmp_path, torch.float32, "cpu", sharding) is None
    assert not sharding.values and "is loaded whole on every worker" in caplog.text


def test_experts_that_are_joined_while_loading_are_left_to_transformers(folders: dict[str, Path]) -> None:
    assert load_sharded(folders["mixtral"], torch.float32, "cpu", Apart()) is None


@pytest.mark.parametrize("reads", [True, False])
def test_no_rank_ever_holds_the_whole_base(tmp_path: Path, reads: bool) -> None:
    """Of two: at most its half, the parameter that is read, and a copy of it while it is shared out."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 8, "num_attention_heads": 4}
    base = LlamaForCausalLM(LlamaConfig(**shape, vocab_size=128, max_position_embeddings=64))
    base.save_pretrained(tmp_path)
    sizes = [parameter.nbytes for parameter in base.parameters()]
    layer = sum(parameter.nbytes for parameter in base.model.layers[0].parameters())
    del base
    sharding = Half()
    sharding.reads = reads
    with AliveBytes() as alive:
        model = load_sharded(tmp_path, torch.float32, "cpu", sharding)
    assert model is not None
    assert sum(sizes) / 2 <= alive.peak < sum(sizes) / 2 + layer < 0.65 * sum(sizes)
    with AliveBytes() as alive:
        for parameter in AutoModelForCausalLM.from_pretrained(tmp_path).parameters():
            parameter.detach()
    assert sum(sizes) <= alive.peak < 1.01 * sum(sizes), "what transformers loads, as it is counted here"
