"""GGUF files as models: the same logits and tokens as before they became one, or a reason why not."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rayalign.demo.language import build_tokenizer
from rayalign.errors import ModelError
from rayalign.learning.folders import hash_model, resolve_model
from rayalign.learning.gguf import notices
from tests.gguf_files import CHATML, MERGES, TOKENS, tiny_model, write_gguf

IDS_BT = torch.tensor([[1, 20, 30, 40, 50, 60, 2, 70, 80, 90, 100, 110]])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYALIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS_BT).logits


def converted_logits(folder: Path) -> torch.Tensor:
    return logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


SHAPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "llama", {"rope_theta": 5000.0, "rms_norm_eps": 1e-4}),
    "llama, own head": ("llama", "llama", {"tie_word_embeddings": False}),
    "llama, tied": ("llama", "llama", {"tie_word_embeddings": True}),
    "llama, wide heads": ("llama", "llama", {"head_dim": 32}),
    "qwen2": ("qwen2", "qwen2", {"rope_theta": 1e6}),
    "qwen3": ("qwen3", "qwen3", {"head_dim": 16, "rope_theta": 1e6}),
    "qwen3, wide heads": ("qwen3", "qwen3", {"head_dim": 32}),
    "gemma 3": ("gemma3_text", "gemma3", {"head_dim": 16, "sliding_window": 4, "query_pre_attn_scalar": 16}),
    "phi 3": ("phi3", "phi3", {"partial_rotary_factor": 0.5, "sliding_window": 4}),
}


@pytest.mark.parametrize(("kind", "architecture", "settings"), SHAPES.values(), ids=SHAPES)
def test_the_model_gives_the_same_logits_as_before(
    kind: str, architecture: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    model = tiny_model(kind, **settings)
    folder = resolve_model(str(write_gguf(tmp_path / "tiny.gguf", model, architecture)))
    torch.testing.assert_close(converted_logits(folder), logits(model), atol=2e-5, rtol=1e-4)
    assert notices(folder, "model.base") == []


@pytest.mark.parametrize(
    ("stored", "said", "gap"), [("F16", None, 0.02), ("BF16", None, 0.1), ("Q8_0", "Q8_0", 0.2), ("Q4_1", "Q4_1", 3)]
)
def test_only_quantised_weights_are_remarked_on(stored: str, said: str | None, gap: float, tmp_path: Path) -> None:
    model = tiny_model()
    folder = resolve_model(str(write_gguf(tmp_path / "tiny.gguf", model, stored=stored)))
    assert 0 < float((converted_logits(folder) - logits(model)).abs().max()) < gap
    found = notices(folder, "model.base tiny.gguf")
    assert bool(found) == (said is not None)
    assert said is None or f"model.base tiny.gguf: the weights in tiny.gguf were quantised ({said})" in found[0]


def test_a_file_is_converted_once_and_a_changed_one_again(tmp_path: Path, cache: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", tiny_model())
    first = resolve_model(str(file))
    checksum, changed = hash_model(first), (first / "config.json").stat().st_mtime_ns
    other_name = file.rename(tmp_path / "tiny.bin")
    write_gguf(file, tiny_model(seed=1))
    assert resolve_model(str(other_name)).name.endswith(first.name.rpartition("tiny")[2])
    assert hash_model(resolve_model(str(file))) != checksum
    assert (first / "config.json").stat().st_mtime_ns == changed
    assert json.loads((first / "config.json").read_text())["transformers_version"] == "5.0.0"
    assert not [path for path in cache.iterdir() if path.name.endswith(".partial")]


def test_a_folder_that_holds_only_a_gguf_file_is_that_model(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    file = write_gguf(tmp_path / "model" / "a.gguf", tiny_model())
    (tmp_path / "model" / "config.json").write_text("{}")
    assert resolve_model(str(file.parent)) == resolve_model(str(file))
    write_gguf(tmp_path / "model" / "b.gguf", tiny_model())
    with pytest.raises(ModelError, match=r"holds 2 GGUF files: a\.gguf, b\.gguf"):
        resolve_model(str(file.parent))


def test_template_special_tokens_and_digits_are_those_of_the_header(tmp_path: Path) -> None:
    folder = resolve_model(str(write_gguf(tmp_path / "tiny.gguf", tiny_model())))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)
    assert (len(tokenizer), tokenizer.chat_template) == (len(TOKENS), CHATML)
    turn = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, tokenize=False
    )
    assert turn == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    # A digit stands alone, so that the two spaces before it are one token: GPT-2 would keep one of them for the digit.
    assert tokenizer.convert_ids_to_tokens(tokenizer("in  7")["input_ids"]) == ["in", "ĠĠ", "7"]
    assert tokenizer.decode(tokenizer("the  tin, 72")["input_ids"]) == "the  tin, 72"
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [2]


@pytest.mark.parametrize(
    ("metadata", "begins"),
    [
        ({"tokenizer.ggml.add_bos_token": True}, True),
        ({"tokenizer.ggml.add_bos_token": None}, False),
        ({"tokenizer.ggml.add_bos_token": None, "tokenizer.ggml.pre": "llama-bpe"}, True),
        ({"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.pre": "llama-bpe"}, False),
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": None}, False),
    ],
)
def test_bos_stands_before_bare_text_where_the_header_says_so(
    metadata: dict[str, Any], begins: bool, tmp_path: Path
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", tiny_model(), metadata=metadata)
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(str(file)))
    ids = tokenizer("in")["input_ids"]
    assert ids == [1, TOKENS.index("in")] if begins else [TOKENS.index("in")]


def test_no_special_token_is_added_that_the_model_has_no_row_for(tmp_path: Path) -> None:
    """transformers' GPT-2 tokenizer brings `<|endoftext|>`, which this vocabulary does not have."""
    tokens = ["<s>", *TOKENS[1:]]
    file = write_gguf(tmp_path / "tiny.gguf", tiny_model(), metadata={"tokenizer.ggml.tokens": tokens})
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(str(file)))
    assert len(tokenizer) == len(TOKENS)
    assert max(tokenizer("<|endoftext|>")["input_ids"]) < len(TOKENS)


def test_special_tokens_outside_the_alphabet_of_bytes_stay_whole(tmp_path: Path) -> None:
    """DeepSeek's, which transformers spells in bytes and then cuts up."""
    bos = "<\uff5cbegin▁of▁sentence\uff5c>"
    tokens = [bos, *TOKENS[1:]]
    metadata = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.add_bos_token": True}
    file = write_gguf(tmp_path / "tiny.gguf", tiny_model(), metadata=metadata)
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(str(file)))
    assert tokenizer("in")["input_ids"] == [0, TOKENS.index("in")]
    assert tokenizer(f"{bos}in", add_special_tokens=False)["input_ids"] == [0, TOKENS.index("in")]
    assert (tokenizer.decode([0, TOKENS.index("in")], skip_special_tokens=True), len(tokenizer)) == ("in", len(tokens))


def test_what_lies_beside_the_file_is_not_read(tmp_path: Path) -> None:
    wanted = AutoTokenizer.from_pretrained(resolve_model(str(write_gguf(tmp_path / "tiny.gguf", tiny_model()))))
    (tmp_path / "model").mkdir()
    build_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "gpt2"}')
    file = write_gguf(tmp_path / "model" / "other.gguf", tiny_model(seed=1))
    found = AutoTokenizer.from_pretrained(resolve_model(str(file.parent)))
    assert found.backend_tokenizer.to_str() == wanted.backend_tokenizer.to_str()
    assert found.chat_template == wanted.chat_template == CHATML


def test_a_word_that_is_a_token_is_one_without_merges_where_the_header_says_llama_3(tmp_path: Path) -> None:
    tokens = [*TOKENS[:-1], "zq"]
    lists = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": MERGES[:-1]}
    for pre, wanted in (("llama-bpe", ["zq"]), ("smollm", ["z", "q"])):
        file = write_gguf(tmp_path / f"{pre}.gguf", tiny_model(), metadata={**lists, "tokenizer.ggml.pre": pre})
        tokenizer = AutoTokenizer.from_pretrained(resolve_model(str(file)))
        assert tokenizer.convert_ids_to_tokens(tokenizer("zq", add_special_tokens=False)["input_ids"]) == wanted


@pytest.mark.parametrize("prefix", [True, False, None])
def test_pieces_begin_with_a_space_unless_the_header_says_no(prefix: bool | None, tmp_path: Path) -> None:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, 1, 1, 1],
        "tokenizer.ggml.scores": [0.0] * 259 + [-1.0, -2.0, -0.5],
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.add_space_prefix": prefix,
        "tokenizer.ggml.add_bos_token": None,
        "tokenizer.ggml.padding_token_id": None,
    }
    file = write_gguf(tmp_path / "tiny.gguf", tiny_model(vocab_size=len(tokens)), metadata=metadata)
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(str(file)))
    assert tokenizer.convert_ids_to_tokens(tokenizer("a")["input_ids"]) == ["<s>", "a" if prefix is False else "▁a"]
    assert tokenizer.decode(tokenizer("a a", add_special_tokens=False)["input_ids"]) == "a a"


def test_llama_3s_factors_for_long_contexts_arrive(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    model = tiny_model(rope_parameters=rope, head_dim=64, max_position_embeddings=131072)
    plain = 500000.0 ** (-torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    factors = (plain / model.model.rotary_emb.inv_freq.double()).float().numpy()
    assert math.isclose(factors.max(), 32, rel_tol=1e-5)

    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors["rope_freqs.weight"] = factors

    folder = resolve_model(str(write_gguf(tmp_path / "tiny.gguf", model, tensors=add)))
    assert json.loads((folder / "config.json").read_text())["rope_parameters"] == rope
    torch.testing.assert_close(converted_logits(folder), logits(model), atol=2e-5, rtol=1e-4)


def drop(name: str) -> Any:
    return lambda tensors: tensors.pop(name)


def add(name: str) -> Any:
    return lambda tensors: tensors.__setitem__(name, np.ones(8, np.float32))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no tokenizer": ({"metadata": {"tokenizer.ggml.tokens": None}}, "holds no tokenizer"),
    "a tokenizer of another kind": ({"metadata": {"tokenizer.ggml.model": "rwkv"}}, "rwkv"),
    "an unknown architecture": ({"architecture": "rwkv6"}, "rwkv6"),
    "one part of several": ({"metadata": {"split.count": 3}}, "one of 3 parts"),
    "an adapter": ({"metadata": {"general.type": "adapter"}}, "than a model: adapter"),
    "a tensor too few": ({"tensors": drop("blk.1.ffn_up.weight")}, "model.layers.1.mlp.up_proj.weight missing"),
    "a tensor too many": ({"tensors": add("blk.0.attn_sinks.weight")}, "numbers in it"),
    "unknown factors": ({"tensors": add("rope_freqs.weight")}, "rope_freqs.weight"),
    "a longer context": (
        {"metadata": {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}},
        "rope.scaling.type = yarn",
    ),
    "heads that turn in part": (
        {"metadata": {"llama.rope.dimension_count": 8, "llama.attention.key_length": 16}},
        "of 16",
    ),
    "a window that the model has not": ({"metadata": {"llama.attention.sliding_window": 32}}, "sliding_window = 32"),
    "an end that is no token": ({"metadata": {"tokenizer.ggml.eos_token_id": 9999}}, ""),
}


@pytest.mark.parametrize(("how", "found"), REFUSED.values(), ids=REFUSED)
def test_what_transformers_would_read_wrongly_is_refused(how: dict[str, Any], found: str, tmp_path: Path) -> None:
    file = _written(tmp_path / "tiny.gguf", **how)
    with pytest.raises(ModelError) as caught:
        resolve_model(str(file))
    assert found in str(caught.value)
    assert all((caught.value.why, caught.value.remedy, str(file) in caught.value.found))
    assert caught.value.exit_code == 2


def _written(path: Path, architecture: str = "llama", **how: Any) -> Path:
    file = write_gguf(path, tiny_model(), **how)
    if architecture != "llama":
        # In the place of the name, which is as long.
        file.write_bytes(file.read_bytes().replace(b"llama", architecture.encode()))
    return file


@pytest.mark.parametrize("share", [0.0, 0.00005, 0.003, 0.05, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused(share: float, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", tiny_model())
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match=r"tiny\.gguf (cannot be read as a|is no) GGUF file"):
        resolve_model(str(file))


@pytest.mark.parametrize("position", [4, 8, 16, 24, 32, 44])
def test_a_damaged_header_is_refused(position: int, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", tiny_model())
    data = bytearray(file.read_bytes())
    data[position : position + 4] = b"\xff\xff\xff\x7f"
    file.write_bytes(data)
    with pytest.raises(ModelError, match=r"tiny\.gguf cannot be"):
        resolve_model(str(file))


def test_a_name_that_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.gguf cannot be opened"):
        resolve_model(str(tmp_path / "gone.gguf"))
    (tmp_path / "weights.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match=r"weights\.bin is no GGUF file"):
        resolve_model(str(tmp_path / "weights.bin"))


def test_the_package_that_reads_them_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", tiny_model())
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match="pip install gguf"):
        resolve_model(str(file))


def test_what_a_header_leaves_open_is_said(tmp_path: Path) -> None:
    metadata = {"tokenizer.ggml.pre": "newest", "llama.residual_scale": 0.5}
    folder = resolve_model(str(write_gguf(tmp_path / "tiny.gguf", tiny_model(), metadata=metadata)))
    scale, splitting = notices(folder, "model.base")
    assert "llama.residual_scale is not read" in scale
    assert "how newest splits text is not known here" in splitting
