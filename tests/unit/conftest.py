"""Folders on a disk and on an object store, and tiny models; torch is imported only by the tests that ask for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayalign.store.folder import Folder
from tests.object_store import ObjectStore


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty folder, once on each kind of storage."""
    if request.param == "local":
        return Folder(tmp_path)
    store: ObjectStore = request.getfixturevalue("object_store")
    return Folder(store.uri(tmp_path.name))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama: hidden 32, 2 layers, vocabulary 64, untied head.

    Weights are large (std 0.3), so that log-probabilities differ from a uniform -ln 64 and a wrong position shows.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        **shape, vocab_size=64, num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3
    )
    folder = tmp_path_factory.mktemp("llama")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 of the same size, with biases in its attention and the embedding tied to the head."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(1)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(
        **shape, vocab_size=64, num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3,
        tie_word_embeddings=True,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("qwen")
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder
