"""The policy: base model, LoRA adapter, and the files that they travel as."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load as load_safetensors
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from rayalign.config.model import LoraSection, ModelSection
from rayalign.errors import ModelError
from rayalign.learning.folders import context_length, hash_model, resolve_model
from rayalign.learning.model import Policy, build_policy
from rayalign.learning.packing import collate_padded
from rayalign.learning.targets import adapted_modules
from rayalign.records import ADAPTER_CONFIG, ADAPTER_WEIGHTS

torch.set_num_threads(1)

ROOT = Path(__file__).parents[2]
BATCH = collate_padded([([1, 2, 3], [4, 5]), ([9], [8, 7, 6, 5, 4]), ([10, 11], [12])])
ATTENTION_AND_MLP = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def policy_at(folder: Path, **lora: object) -> Policy:
    section = LoraSection.model_validate({"r": 8, "alpha": 16, **lora})
    policy = build_policy(folder, ModelSection(base=str(folder), lora=section))
    policy.reset_adapter(0)
    return policy


@torch.no_grad()
def set_adapter(policy: Policy, seed: int) -> None:
    """An adapter that changes the model: also B is not zero."""
    policy.reset_adapter(seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(policy.named_parameters()):
        if "lora_B" in name:
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def logps(policy: Policy) -> torch.Tensor:
    return policy(BATCH)


@torch.no_grad()
def plain_logps(model: torch.nn.Module) -> torch.Tensor:
    """From all logits of a model of transformers or PEFT, without the code under test."""
    logits_BTV = model(input_ids=BATCH.input_ids_BT, attention_mask=BATCH.attention_mask_BT).logits
    logps_NV = logits_BTV.log_softmax(-1).flatten(0, 1)[BATCH.predicting_N]
    return logps_NV.gather(-1, BATCH.targets_N[:, None])[:, 0]


def base_logps(folder: Path) -> torch.Tensor:
    return plain_logps(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


def write_adapter(folder: str, out: str) -> None:
    """What the other process runs."""
    policy = policy_at(Path(folder))
    set_adapter(policy, 7)
    for name, content in policy.adapter_files("demo").items():
        (Path(out) / name).write_bytes(content)


@pytest.fixture(scope="module", autouse=True)
def other_process(
    llama_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen, Path]]:
    """Writes the same adapter under another hash seed; started first, as its imports take seconds."""
    out = tmp_path_factory.mktemp("other_process")
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    code = "import sys; from tests.unit.test_policy import write_adapter; write_adapter(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(llama_folder), str(out)]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
    with (out / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    yield process, out
    process.kill()
    process.wait()


def test_a_fresh_adapter_is_the_base(llama_folder: Path) -> None:
    """B is zero: adding A B / r x alpha = 0 changes no bit."""
    policy = policy_at(llama_folder)
    fresh = logps(policy)
    with policy.base_only():
        assert torch.equal(fresh, logps(policy))
    torch.testing.assert_close(fresh, base_logps(llama_folder), rtol=0, atol=1e-5)


def test_reset_depends_on_the_seed_alone(llama_folder: Path) -> None:
    """Not on torch's global generator, nor on what the adapter was before."""
    one, two = policy_at(llama_folder), policy_at(llama_folder)
    set_adapter(two, 99)
    one.reset_adapter(5)
    torch.manual_seed(1234)
    two.reset_adapter(5)
    files = one.adapter_files("demo")
    assert files == two.adapter_files("demo")
    two.reset_adapter(6)
    assert files != two.adapter_files("demo")


def test_reset_gives_every_a_values_within_its_bound(llama_folder: Path) -> None:
    """Uniform in +-1 / sqrt(inputs): 32 inputs -> 0.177, the down projection's 48 -> 0.144; the largest of >= 256
    values of each A is above 0.9 of the bound (all below it: 0.9^256 = 2e-12)."""
    policy = policy_at(llama_folder)
    named = dict(policy.named_parameters())
    a_weights = {name: parameter for name, parameter in named.items() if "lora_A" in name}
    assert len(a_weights) == 2 * len(ATTENTION_AND_MLP)
    for name, parameter in a_weights.items():
        bound = (48 if "down_proj" in name else 32) ** -0.5
        assert 0.9 * bound < float(parameter.detach().abs().max()) <= bound
    assert not any(bool(p.any()) for name, p in named.items() if "lora_B" in name)


def test_only_lora_weights_are_trainable(llama_folder: Path) -> None:
    policy = policy_at(llama_folder)
    trainable = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, _ in policy.named_parameters() if "lora_" in name}
    assert len(policy.trainable()) == len(trainable) == 2 * 2 * len(ATTENTION_AND_MLP)


def test_base_only_turns_the_adapter_off_and_on_again(llama_folder: Path) -> None:
    policy = policy_at(llama_folder)
    set_adapter(policy, 3)
    adapted, trainable = logps(policy), len(policy.trainable())
    with policy.base_only():
        off = logps(policy)
    torch.testing.assert_close(off, base_logps(llama_folder), rtol=0, atol=1e-5)
    assert float((adapted - off).abs().max()) > 0.1
    assert torch.equal(logps(policy), adapted)
    assert len(policy.trainable()) == trainable


def test_base_only_turns_it_on_again_after_an_error(llama_folder: Path) -> None:
    policy = policy_at(llama_folder)
    set_adapter(policy, 3)
    adapted, trainable = logps(policy), len(policy.trainable())
    with pytest.raises(KeyError), policy.base_only():
        raise KeyError
    assert torch.equal(logps(policy), adapted)
    assert len(policy.trainable()) == trainable


def test_a_saved_adapter_loads_bit_by_bit(llama_folder: Path) -> None:
    one, two = policy_at(llama_folder), policy_at(llama_folder)
    set_adapter(one, 3)
    files = one.adapter_files("demo")
    assert set(files) == {ADAPTER_CONFIG, ADAPTER_WEIGHTS}
    assert not torch.equal(logps(one), logps(two))
    two.load_adapter(files)
    assert two.adapter_files("demo") == files
    assert torch.equal(logps(one), logps(two))


def test_saved_files_are_a_copy(llama_folder: Path) -> None:
    policy = policy_at(llama_folder)
    set_adapter(policy, 3)
    files = policy.adapter_files("demo")
    before = load_safetensors(files[ADAPTER_WEIGHTS])
    set_adapter(policy, 4)
    policy.load_adapter(files)
    after = load_safetensors(policy.adapter_files("demo")[ADAPTER_WEIGHTS])
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_saved_config(llama_folder: Path) -> None:
    text = policy_at(llama_folder).adapter_files("my/base")[ADAPTER_CONFIG].decode()
    assert str(llama_folder) not in text
    assert '"/' not in text
    config = json.loads(text)
    assert list(config) == sorted(config)
    assert config["base_model_name_or_path"] == "my/base"
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (8, 16, 0.0)
    assert (config["peft_type"], config["task_type"], config["inference_mode"]) == ("LORA", "CAUSAL_LM", True)
    assert config["target_modules"] == sorted(config["target_modules"])
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == set(ATTENTION_AND_MLP)


def test_the_configs_targets_are_sorted(llama_folder: Path) -> None:
    policy = policy_at(llama_folder, targets=["v_proj", "q_proj", "o_proj"])
    config = json.loads(policy.adapter_files("demo")[ADAPTER_CONFIG])
    assert config["target_modules"] == ["o_proj", "q_proj", "v_proj"]
    assert len(policy.trainable()) == 2 * 2 * 3


def test_peft_loads_the_files(llama_folder: Path, tmp_path: Path) -> None:
    policy = policy_at(llama_folder)
    set_adapter(policy, 3)
    for name, content in policy.adapter_files("demo").items():
        (tmp_path / name).write_bytes(content)
    base = AutoModelForCausalLM.from_pretrained(llama_folder, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    torch.testing.assert_close(plain_logps(loaded), logps(policy), rtol=0, atol=1e-5)


@pytest.mark.parametrize("other", [{"r": 16}, {"targets": ["q_proj"]}])
def test_an_adapter_of_another_shape_is_refused_and_changes_nothing(llama_folder: Path, other: dict) -> None:
    policy = policy_at(llama_folder)
    set_adapter(policy, 3)
    before = policy.adapter_files("demo")
    with pytest.raises(ModelError, match="another model or rank"):
        policy.load_adapter(policy_at(llama_folder, **other).adapter_files("demo"))
    assert policy.adapter_files("demo") == before


@pytest.mark.parametrize("model", ["llama", "qwen"])
def test_all_linear_leaves_out_the_head(request: pytest.FixtureRequest, model: str) -> None:
    """And names just the modules that PEFT then adapts, so that an engine reserves the right ones."""
    folder = request.getfixturevalue(f"{model}_folder")
    assert adapted_modules(folder, LoraSection()) == ATTENTION_AND_MLP
    saved = load_safetensors(policy_at(folder).adapter_files("demo")[ADAPTER_WEIGHTS])
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in saved} == set(ATTENTION_AND_MLP)


def test_named_targets_are_checked(llama_folder: Path) -> None:
    assert adapted_modules(llama_folder, LoraSection(targets=["v_proj", "q_proj"])) == ["q_proj", "v_proj"]
    with pytest.raises(ModelError) as caught:
        adapted_modules(llama_folder, LoraSection(targets=["q_proj", "qkv", "c_attn"]))
    assert caught.value.found == "model.lora.targets: c_attn, qkv"
    assert caught.value.remedy == f"choose from {', '.join(ATTENTION_AND_MLP)}"


def gemma(folder: Path, softcap: float | None) -> Path:
    """A random Gemma 2 with logits as large as a trained model's: std 0.7 x sqrt(32) = 4, the largest around 12."""
    torch.manual_seed(0)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 8,
    }
    config = Gemma2Config(
        **shape, vocab_size=64, num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.7,
        final_logit_softcapping=softcap,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_soft_capped_model_is_refused(tmp_path: Path) -> None:
    """30 tanh(12 / 30) = 11.4, more than 1 % from 12: log-probabilities from hidden states would be wrong."""
    with pytest.raises(ModelError, match="Gemma2ForCausalLM changes its logits after the output head"):
        policy_at(gemma(tmp_path, 30.0))


def test_the_same_model_without_the_cap_is_taken(tmp_path: Path) -> None:
    policy = policy_at(gemma(tmp_path, None))
    torch.testing.assert_close(logps(policy), base_logps(tmp_path), rtol=0, atol=1e-4)


def test_a_model_folder_is_taken_as_it_is(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_model(str(llama_folder)) == llama_folder.resolve()
    monkeypatch.chdir(llama_folder.parent)
    assert resolve_model(llama_folder.name) == llama_folder.resolve()
    assert context_length(llama_folder) == 64


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        resolve_model(str(tmp_path))
    assert caught.value.found == f"model.base: {tmp_path} has no config.json"
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "no-such-model", "not a name", "/no/such/folder"])
def test_an_unknown_model_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        resolve_model(name)
    assert caught.value.found == f"model.base: {name!r} cannot be loaded"
    assert "there is no such folder, and as a hub id it failed: " in caught.value.why
    assert "\n" not in caught.value.why
    assert "`demo`" in caught.value.remedy


def test_of_a_hub_repository_only_the_model_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not its maker's own format, which would be as large again, nor pickles."""
    files = ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json", "chat_template.jinja"]
    others = ["consolidated.safetensors", "original/consolidated.00.pth", "original/params.json", "pytorch_model.bin"]
    asked: list[str] = []

    def snapshot(repo: str, **patterns: list[str]) -> str:
        asked.extend(huggingface_hub.utils.filter_repo_objects([*files, *others], **patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert resolve_model("some/model") == tmp_path
    assert asked == files


def test_an_error_of_the_hub_without_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def times_out(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", times_out)
    with pytest.raises(ModelError, match="as a hub id it failed: TimeoutError"):
        resolve_model("no-such-owner/no-such-model")


def test_a_broken_model_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type"}')
    for load in (context_length, lambda folder: build_policy(folder, ModelSection(base="x"))):
        with pytest.raises(ModelError) as caught:
            load(tmp_path)
        assert caught.value.found == f"model.base: {tmp_path} cannot be loaded"
        assert "no-such-type" in caught.value.why
        assert caught.value.remedy


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def test_the_hash_changes_with_one_byte_and_one_name(llama_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(llama_folder, tmp_path / "copy"))
    hashes = [hash_model(llama_folder)]
    assert hash_model(copy) == hashes[0]
    for name in ("model.safetensors", "config.json"):
        flip_byte(copy / name)
        hashes.append(hash_model(copy))
    (copy / "model.safetensors").rename(copy / "other.safetensors")
    hashes.append(hash_model(copy))
    assert len(set(hashes)) == 4


def test_the_hash_leaves_out_what_is_no_model(llama_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(llama_folder, tmp_path / "copy"))
    (copy / "README.md").write_text("hello")
    assert hash_model(copy) == hash_model(llama_folder)


def test_the_same_bytes_from_a_process_with_another_hash_seed(
    llama_folder: Path, tmp_path: Path, other_process: tuple[subprocess.Popen, Path]
) -> None:
    """The adapter's checksum is compared between processes, and its targets are a set in PEFT."""
    process, out = other_process
    write_adapter(str(llama_folder), str(tmp_path))
    assert process.wait(timeout=120) == 0, (out / "log").read_text()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        assert (out / name).read_bytes() == (tmp_path / name).read_bytes(), name
