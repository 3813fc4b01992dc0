"""Base models that a run cannot train and serve are refused before an actor starts: found, why, remedy."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    T5Config,
)

from rayalign.config.model import LoraSection
from rayalign.errors import ModelError
from rayalign.launch.inputs import Inputs, read_inputs
from rayalign.learning.folders import hash_folder, hash_model, resolve_model
from rayalign.learning.targets import adapted_modules, empty_adapter
from rayalign.records import ADAPTER_CONFIG
from rayalign.rendering.template import UNDATED
from tests.fakes import FakeReporter, make_config
from tests.tiny_run import make_base

torch.set_num_threads(1)
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ATTENTION = ["k_proj", "o_proj", "q_proj", "v_proj"]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("good"), context=512)


@pytest.fixture
def base(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole model, to be broken; the cache is the test's own."""
    monkeypatch.setenv("RAYALIGN_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(good, tmp_path / "base"))


def read(base: Path, said: list[str] | None = None, **changes: Any) -> Inputs:
    """What a run reads before it starts an actor."""
    prompts = base.parent / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"w{i} w{i + 1}"}) + "\n" for i in range(8)))
    model = {"base": str(base), **changes.pop("model", {})}
    config = make_config(
        model=model,
        prompts={"source": str(prompts), "per_round": 2, "holdout": 2, "max_tokens": 32},
        sampling={"responses": 2, "max_tokens": 8},
        **changes,
    )
    console = FakeReporter()
    inputs = read_inputs(config, base.parent, console, base.parent, UNDATED)  # type: ignore[arg-type]
    if said is not None:
        said += console.said
    return inputs


def refusal(base: Path, **changes: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read(base, **changes)
    error = caught.value
    assert error.found and error.why and error.remedy and error.exit_code == 2
    return error


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; null removes one."""
    found = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def reweigh(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def shard(folder: Path) -> None:
    """The same model in several files and an index; transformers leaves the single file of before."""
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / WEIGHTS).unlink()
    assert len(list(folder.glob("*.safetensors"))) > 1


def of_kind(folder: Path, model: torch.nn.Module) -> None:
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder)  # type: ignore[operator]


def add_tokens(folder: Path, *tokens: str, special: bool = False) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(tokens), special_tokens=special)
    tokenizer.save_pretrained(folder)
    return tokenizer


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def an_adapter(folder: Path) -> None:
    for path in [folder / "config.json", folder / WEIGHTS]:
        path.unlink()
    (folder / ADAPTER_CONFIG).write_text(json.dumps({"base_model_name_or_path": "my/base", "r": 8}))
    (folder / "adapter_model.safetensors").write_bytes(b"x")


def adapter_and_config(folder: Path) -> None:
    config = (folder / "config.json").read_text()
    an_adapter(folder)
    (folder / "config.json").write_text(config)
    torch.save({}, folder / "training_args.bin")


def leavings(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    for name in ("training_args.bin", "optimizer.pt", "rng_state_0.pth"):
        torch.save({}, folder / name)


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def lost_shard(folder: Path) -> None:
    shard(folder)
    sorted(folder.glob("*.safetensors"))[1].unlink()


def truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-100])


def twice(folder: Path) -> None:
    """A tensor in two shards, as after two saves into one folder."""
    shard(folder)
    first, second = sorted(folder.glob("*.safetensors"))[:2]
    save_file({**load_file(second), **load_file(first)}, second, {"format": "pt"})


def eight_bits(folder: Path, dtype: torch.dtype) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    reweigh(folder, lambda weights: weights.update({name: weights[name].to(dtype)}))


def t5(folder: Path) -> None:
    T5Config(architectures=["T5ForConditionalGeneration"]).save_pretrained(folder)


def vision(folder: Path) -> None:
    edit(folder / "config.json", architectures=["LlavaForConditionalGeneration"])


def reward_model(folder: Path) -> None:
    of_kind(folder, LlamaForSequenceClassification(LlamaConfig(**SHAPE, vocab_size=64, num_labels=1)))


REFUSED: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "two added tokens": (
        lambda folder: add_tokens(folder, "<think>", "</think>"),
        "'<think>' (64), '</think>' (65)",
        "the model's embedding ends at 63",
        "resize_token_embeddings",
    ),
    "an added special token": (
        lambda folder: add_tokens(folder, "<pad>", special=True),
        "'<pad>' (64)",
        "1 tokens are the tokenizer's alone",
        "resize",
    ),
    "gptq": (
        lambda folder: edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "has gptq weights",
        "quantised already",
        "model.quantization: nf4",
    ),
    "awq": (
        lambda folder: edit(folder / "config.json", quantization_config={"quant_method": "awq"}),
        "has awq weights",
        "quantised already",
        "name the model that it was made from",
    ),
    "bitsandbytes": (
        lambda folder: edit(
            folder / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}
        ),
        "has bitsandbytes weights",
        "quantised already",
        "name the model that it was made from",
    ),
    "quantised inside": (
        lambda folder: edit(folder / "config.json", text_config={"quantization_config": {"quant_method": "fp8"}}),
        "has fp8 weights",
        "quantised already",
        "name the model",
    ),
    "fp8 without a config": (
        lambda folder: eight_bits(folder, torch.float8_e4m3fn),
        "weights of type F8_E4M3",
        "quantised already",
        "name the model",
    ),
    "int8 without a config": (
        lambda folder: eight_bits(folder, torch.int8),
        "weights of type I8",
        "quantised already",
        "name the model",
    ),
    "pickled": (pickled, "has no model.safetensors", "pickled (pytorch_model.bin)", "save_pretrained(NEW)"),
    "no weights": (
        lambda folder: (folder / WEIGHTS).unlink(),
        "has no model.safetensors",
        "no weights in safetensors format",
        "fetch the model again",
    ),
    "unnamed weights": (
        lambda folder: (folder / WEIGHTS).rename(folder / "weights.safetensors"),
        "has no model.safetensors",
        "weights.safetensors is not named by an index",
        "rename it",
    ),
    "a lost shard": (lost_shard, "lacks model-00002-of-", "1 of which are not there", "fetch the model again"),
    "an index of nothing": (
        lambda folder: (folder / INDEX).write_text('{"weight_map": {}}'),
        "is no index of weights",
        "weight_map",
        "fetch the model again",
    ),
    "an index that leads out of the folder": (
        lambda folder: (folder / INDEX).write_text('{"weight_map": {"a": "../base/model.safetensors"}}'),
        "is no index of weights",
        "of the same folder",
        "save_pretrained",
    ),
    "a broken index": (
        lambda folder: (folder / INDEX).write_text("{"),
        "is not JSON",
        "column",
        "fetch the model again",
    ),
    "a truncated file": (truncated, "model.safetensors is damaged", "a download that broke off", "fetch"),
    "an empty file": (lambda folder: (folder / WEIGHTS).write_bytes(b""), "is damaged", "header", "fetch"),
    "a tensor in two files": (twice, "is in model-00001-of-", "cannot be known", "new folder"),
    "weights of git-lfs": (
        lambda folder: (folder / WEIGHTS).write_text(POINTER),
        "model.safetensors is a pointer of git-lfs",
        "not been fetched",
        "git lfs pull",
    ),
    "a tokenizer of git-lfs": (
        lambda folder: (folder / "tokenizer.json").write_text(POINTER),
        "tokenizer.json is a pointer of git-lfs",
        "not been fetched",
        "git lfs pull",
    ),
    "a config of git-lfs": (
        lambda folder: (folder / "config.json").write_text(POINTER),
        "config.json is a pointer of git-lfs",
        "not been fetched",
        "git lfs pull",
    ),
    "a missing tensor": (
        lambda folder: reweigh(folder, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight")),
        "lacks model.layers.1.mlp.up_proj.weight",
        "would be random",
        "save_pretrained",
    ),
    "a missing head": (
        lambda folder: reweigh(folder, lambda weights: weights.pop("lm_head.weight")),
        "lacks lm_head.weight",
        "would be random",
        "save_pretrained",
    ),
    "layers that the config does not know": (
        lambda folder: edit(folder / "config.json", num_hidden_layers=1),
        "has model.layers.1.input_layernorm.weight, ",
        "9 tensors of its files have no place in the model that its config.json describes",
        "fetch the config.json",
    ),
    "a head for values": (
        lambda folder: reweigh(folder, lambda weights: weights.update({"v_head.summary.weight": torch.zeros(1, 32)})),
        "has v_head.summary.weight",
        "1 tensors of its files",
        "save the model again",
    ),
    "rows that the config does not know": (
        lambda folder: edit(folder / "config.json", vocab_size=72),
        "has shape [64, 32]",
        "its config.json makes that [72, 32]",
        "together",
    ),
    "a config that is no JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        "config.json is not JSON",
        "column",
        "fetch the model again",
    ),
    "a config that is a list": (
        lambda folder: (folder / "config.json").write_text("[]"),
        "is no JSON object",
        "describes no model",
        "fetch the model again",
    ),
    "no config": (
        lambda folder: (folder / "config.json").unlink(),
        "has no config.json",
        "not a Hugging Face model folder",
        "point model.base at the folder that holds config.json",
    ),
    "no architectures": (
        lambda folder: edit(folder / "config.json", architectures=None),
        "model without architectures",
        "causal language model",
        "name a model of that kind",
    ),
    "an encoder with a decoder": (t5, "is a T5ForConditionalGeneration", "causal language model", "of that kind"),
    "a model that sees": (vision, "is a LlavaForConditionalGeneration", "causal language model", "of that kind"),
    "a reward model": (reward_model, "is a LlamaForSequenceClassification", "causal language model", "of that kind"),
    "an unknown architecture": (
        lambda folder: edit(folder / "config.json", model_type="no_such", architectures=["NoSuchForCausalLM"]),
        "cannot be loaded",
        "no_such",
        "check that the folder",
    ),
    "code of its own": (
        lambda folder: edit(
            folder / "config.json", model_type="no_such", auto_map={"AutoConfig": "configuration_no_such.Config"}
        ),
        "cannot be loaded",
        "code of its own, which is not run",
        "built in",
    ),
    "weights that only transformers would read": (
        lambda folder: edit(folder / "config.json", transformers_weights="weights.safetensors"),
        "names weights.safetensors as its weights",
        "only transformers would read that",
        "rename the file",
    ),
    "an adapter": (an_adapter, "has no config.json", "a PEFT adapter of my/base", "name that base"),
    "an adapter with its base's config": (
        adapter_and_config,
        "has no model.safetensors",
        "a PEFT adapter of my/base",
        "name that base",
    ),
    "what a training leaves": (
        leavings,
        "has no model.safetensors",
        "no weights in safetensors format",
        "fetch the model again",
    ),
    "no tokenizer": (no_tokenizer, "has no tokenizer", "would know no words", "tokenizer.save_pretrained"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_the_policy_is_refused(base: Path, case: str) -> None:
    damage, found, why, remedy = REFUSED[case]
    damage(base)
    error = refusal(base)
    assert error.found.startswith("model.base: ")
    assert found in error.found and why in error.why and remedy in error.remedy


def test_a_whole_model_is_read(base: Path) -> None:
    said: list[str] = []
    inputs = read(base, said)
    assert inputs.model == base and inputs.model_sha256 == hash_model(base)
    assert not [line for line in said if "left out" in line]
    shard(base)
    assert read(base).model == base


def test_constants_of_older_models_are_no_weights(base: Path) -> None:
    names = [f"model.layers.{layer}.self_attn.rotary_emb.inv_freq" for layer in (0, 1)]
    reweigh(base, lambda weights: weights.update({name: torch.ones(4) for name in names}))
    assert read(base).model == base


def test_a_resized_model_is_read(base: Path) -> None:
    tokenizer = add_tokens(base, "<think>", "</think>")
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(base)
    assert read(base).model == base


def test_a_placeholder_of_what_is_no_text_may_have_no_row(base: Path) -> None:
    """As a text model has it whose tokenizer serves its family's models that see, too."""
    add_tokens(base, "<image_soft_token>", special=True)
    edit(base / "tokenizer_config.json", image_token="<image_soft_token>")
    assert read(base).model == base
    add_tokens(base, "<other>")
    assert "'<other>' (65)" in refusal(base).found


def test_a_tied_head_needs_no_tensor(base: Path) -> None:
    edit(base / "config.json", tie_word_embeddings=True)
    reweigh(base, lambda weights: weights.pop("lm_head.weight"))
    assert read(base).model == base


def test_a_tied_head_is_the_embedding(base: Path) -> None:
    """transformers takes a stored head that differs, and vLLM does not."""
    edit(base / "config.json", tie_word_embeddings=True)
    error = refusal(base)
    assert "lm_head.weight that is not its model.embed_tokens.weight" in error.found
    assert "tie_word_embeddings" in error.why and "tie_word_embeddings: false" in error.remedy
    reweigh(base, lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"].clone()}))
    assert read(base).model == base


def foreign(folder: Path) -> list[str]:
    """Files beside the model that a loader could take for it."""
    other = {"model.layers.0.mlp.up_proj.weight": torch.full((48, 32), 9.0)}
    names = ["adapter_model.safetensors", "consolidated.safetensors", "optimizer.safetensors", "old-00001.safetensors"]
    for name in names:
        save_file(other, folder / name, {"format": "pt"})
    (folder / ADAPTER_CONFIG).write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x"}))
    (folder / "consolidated.safetensors.index.json").write_text("{}")
    (folder / "params.json").write_text("{}")
    return sorted([*names, ADAPTER_CONFIG, "consolidated.safetensors.index.json", "params.json"])


@pytest.mark.parametrize("sharded", [False, True])
def test_only_the_files_of_the_index_are_the_model(base: Path, sharded: bool) -> None:
    if sharded:
        shard(base)
    plain = hash_model(base), hash_folder(base)
    beside = foreign(base)
    said: list[str] = []
    inputs = read(base, said)
    assert inputs.model_sha256 == plain[0] == hash_model(base)
    assert hash_folder(inputs.model) == plain[1]
    assert inputs.model != base
    assert not {path.name for path in inputs.model.iterdir()} & set(beside)
    assert f"model.base: {', '.join(beside)} beside the model left out" in said
    expected = AutoModelForCausalLM.from_pretrained(base.parent / "cache" / "linked" / inputs.model.name).state_dict()
    assert float(expected["model.layers.0.mlp.up_proj.weight"].abs().max()) < 9
    assert read(base).model == inputs.model


def test_an_index_goes_before_a_single_file(base: Path) -> None:
    """transformers would read the single file, vLLM the index: everything reads what the index names."""
    whole = (base / WEIGHTS).read_bytes()
    shard(base)
    plain = hash_model(base)
    (base / WEIGHTS).write_bytes(whole)
    inputs = read(base)
    assert inputs.model_sha256 == plain
    assert not (inputs.model / WEIGHTS).exists()


def test_links_follow_the_folder(base: Path) -> None:
    """A changed file gives new links: none stands for what the folder held before."""
    foreign(base)
    before = resolve_model(str(base))
    reweigh(base, lambda weights: weights["lm_head.weight"].add_(1))
    (base / "chat_template.jinja").write_text("{{ messages }}")
    after = resolve_model(str(base))
    assert after != before and (after / "chat_template.jinja").read_text() == "{{ messages }}"
    assert hash_model(after) == hash_model(base)


def test_a_cache_that_cannot_be_written_is_said(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(base)
    monkeypatch.setenv("RAYALIGN_CACHE", str(base / "config.json"))
    error = refusal(base)
    assert "adapter_config.json beside the model" in error.found and "RAYALIGN_CACHE" in error.remedy


@pytest.mark.parametrize(
    ("targets", "found", "why"),
    [
        (["embed_tokens"], "embed_tokens", "embed_tokens is an embedding"),
        (["q_proj", "lm_head"], "lm_head", "lm_head is the output head"),
        (["q_proj", "qkv"], "qkv", "no such linear module"),
        (["input_layernorm"], "input_layernorm", "no such linear module"),
        ([], "an empty list", "nothing would be trained"),
    ],
)
def test_targets_that_are_not_there_are_refused(base: Path, targets: list[str], found: str, why: str) -> None:
    error = refusal(base, model={"lora": {"targets": targets}})
    assert error.found == f"model.lora.targets: {found}"
    assert why in error.why
    assert error.remedy == "choose from down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"


def mixtral(folder: Path) -> None:
    config = MixtralConfig(
        **SHAPE, vocab_size=64, num_key_value_heads=2, num_local_experts=4, max_position_embeddings=512
    )
    of_kind(folder, MixtralForCausalLM(config))


def qwen_moe(folder: Path) -> None:
    config = Qwen2MoeConfig(
        **SHAPE, vocab_size=64, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24,
        shared_expert_intermediate_size=24, max_position_embeddings=512,
    )  # fmt: skip
    of_kind(folder, Qwen2MoeForCausalLM(config))


@pytest.mark.parametrize("make", [mixtral, qwen_moe])
def test_experts_get_no_adapter_and_attention_does(base: Path, make: Callable[[Path], object]) -> None:
    make(base)
    sync = {"mode": "adapter"}
    on_gpus = {"sync": sync, "cluster": {"generators": {"gpus": 1}, "learner": {"gpus": 1}}}
    for targets in ("all-linear", ["q_proj", "down_proj"] if make is qwen_moe else ["q_proj", "w1"]):
        error = refusal(base, model={"lora": {"targets": targets}}, **on_gpus)
        assert error.found.startswith("model.lora.targets: ")
        assert "k_proj, o_proj, q_proj" in error.remedy
    assert read(base, model={"lora": {"targets": ATTENTION}}, **on_gpus).model == base
    assert adapted_modules(base, LoraSection(targets=ATTENTION)) == ATTENTION
    attention = {"lora": {"targets": ATTENTION}}
    for changes in ({"model": attention}, {"model": attention, "sync": sync}, {"model": {"full": True}}):
        error = refusal(base, **changes)
        assert "has experts (model.layers.0.mlp.experts." in error.found and "sync.mode: adapter" in error.remedy


@pytest.mark.parametrize("cap", [30.0, None])
def test_logits_that_are_capped_are_refused_before_an_actor_starts(base: Path, cap: float | None) -> None:
    config = Gemma2Config(
        **SHAPE, vocab_size=64, num_key_value_heads=2, head_dim=8, max_position_embeddings=512,
        final_logit_softcapping=cap,
    )  # fmt: skip
    of_kind(base, Gemma2ForCausalLM(config))
    if cap is None:
        assert read(base).model == base
        return
    error = refusal(base)
    assert error.found.startswith("model.base: Gemma2ForCausalLM (final_logit_softcapping 30.0) changes its logits")
    assert error.exit_code == 2 and error.remedy == "use a model without logit soft-capping or scaling"


def test_what_peft_adapts_is_what_the_check_says(base: Path) -> None:
    """PEFT takes names such as down_proj for experts' tensors; of those that the check lets through it adapts just the
    linear modules."""
    from peft import get_peft_model, get_peft_model_state_dict

    from rayalign.learning.model import lora_config

    qwen_moe(base)
    section = LoraSection(targets=[*ATTENTION, "shared_expert_gate"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora_config(section))
    saved = {name.partition(".lora_")[0] for name in get_peft_model_state_dict(model)}
    tried = load_bytes(empty_adapter(base, section)["adapter_model.safetensors"])
    assert saved == {name.partition(".lora_")[0] for name in tried}
    assert {name.rpartition(".")[2] for name in saved} == {*ATTENTION, "shared_expert_gate"}


def load_bytes(content: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", content[:8])
    return {name: facts for name, facts in json.loads(content[8 : 8 + length]).items() if name != "__metadata__"}


def test_layers_that_keep_their_weights_transposed_are_refused(base: Path) -> None:
    of_kind(base, GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64, n_positions=512)))
    error = refusal(base)
    assert "c_attn is a Conv1D" in error.found and "model.full: true" in error.remedy
    assert "c_attn" in refusal(base, model={"lora": {"targets": ["c_attn"]}}).found
    assert read(base, model={"full": True}).model == base


def test_merging_needs_the_names_of_the_checkpoint(base: Path) -> None:
    """A checkpoint of the bare trunk: transformers reads it, merging by name would change nothing."""
    reweigh(base, bare)
    error = refusal(base, sync={"mode": "merged"})
    assert "the checkpoint has no model.layers.0" in error.found and "sync.mode: adapter" in error.remedy
    assert read(base, sync={"mode": "adapter"}).model == base
    assert "not in" in refusal(base, model={"full": True}).found


def bare(weights: dict[str, torch.Tensor]) -> None:
    for name in list(weights):
        if name.startswith("model."):
            weights[name.removeprefix("model.")] = weights.pop(name)


def stage(base: Path, kind: str = "sft", **model: Any) -> Any:
    """What a training stage checks of its base."""
    from rayalign.config.stages import StageConfig
    from rayalign.learning.folder_checks import check_stage_base

    config = StageConfig.model_validate({"model": {"base": str(base), **model}, "data": {"source": "demo"}})
    lora = None if config.model.full else config.model.lora
    return check_stage_base(resolve_model(str(base)), lora, rewards=kind == "reward_model")


def test_a_base_of_a_stage_is_judged_too(base: Path) -> None:
    assert len(stage(base)) == 64
    stage(base, "reward_model")
    for kind in ("sft", "reward_model"):
        with pytest.raises(ModelError, match=r"model\.lora\.targets: qkv"):
            stage(base, kind, lora={"targets": ["qkv"]})
        stage(base, kind, full=True)
    reward_model(base)
    stage(base, "reward_model")
    with pytest.raises(ModelError, match=r"lacks lm_head\.weight"):
        stage(base)
    reweigh(base, lambda weights: weights.pop("model.norm.weight"))
    with pytest.raises(ModelError, match=r"lacks model\.norm\.weight"):
        stage(base, "reward_model")


@pytest.mark.parametrize("case", ["two added tokens", "gptq", "pickled", "a truncated file", "weights of git-lfs"])
def test_what_no_stage_can_train(base: Path, case: str) -> None:
    damage, found, why, remedy = REFUSED[case]
    damage(base)
    for kind in ("sft", "reward_model"):
        with pytest.raises(ModelError) as caught:
            stage(base, kind)
        assert found in caught.value.found and why in caught.value.why and remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("case", "refused"),
    [
        ("two added tokens", True),
        ("pickled", True),
        ("a truncated file", True),
        ("gptq", False),
        ("a reward model", True),
    ],
)
def test_what_may_be_a_judge(base: Path, case: str, refused: bool) -> None:
    """A judge is only asked: vLLM serves quantised weights."""
    from rayalign.launch.models import scorer_model

    edit(base / "config.json", max_position_embeddings=4096)
    REFUSED[case][0](base)
    held = {"type": "judge", "transport": "vllm", "model": str(base), "template": "rating", "max_tokens": 64}
    config = make_config(scoring=[held])
    if not refused:
        assert scorer_model(config.scoring[0], config)[0] == base
        return
    with pytest.raises(ModelError) as caught:
        scorer_model(config.scoring[0], config)
    assert caught.value.found.startswith("scoring.model: ") and caught.value.why and caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "processes", "told"),
    [
        ({}, 3, "has 4 attention heads, and cluster.generators.tensor_parallel is 3"),
        ({"intermediate_size": 45}, 2, "has 45 feed-forward units"),
        ({"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2}, 3, "has 2 key-value heads"),
    ],
)
def test_layers_that_cannot_be_shared_out_evenly_are_refused(
    base: Path, changes: dict[str, int], processes: int, told: str
) -> None:
    edit(base / "config.json", **changes)
    error = refusal(base, cluster={"generators": {"tensor_parallel": processes}})
    assert told in error.found and "set cluster.generators.tensor_parallel to a divisor" in error.remedy


def test_layers_that_can_be_shared_out_are_taken(base: Path) -> None:
    """Of two key-value heads each is shared by two of four processes."""
    for processes in (2, 4):
        read(base, cluster={"generators": {"tensor_parallel": processes}})
