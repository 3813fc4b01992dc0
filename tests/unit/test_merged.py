"""Merged weights: the checkpoint with scale * B A added, by name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rayalign.config.model import LoraSection, ModelSection
from rayalign.errors import SyncError
from rayalign.learning.merged import MergedWeights
from rayalign.learning.model import build_policy
from rayalign.learning.packing import collate_padded
from rayalign.records import ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterFiles

torch.set_num_threads(1)
IDS = torch.tensor([[1, 2, 3, 4, 5]])


def trained(folder: Path) -> tuple[AdapterFiles, torch.Tensor]:
    """(an adapter, log-probabilities of tokens 3-5 under it)."""
    policy = build_policy(folder, ModelSection(base=str(folder), lora=LoraSection(r=8, alpha=16)))
    policy.reset_adapter(0)
    with torch.no_grad():
        for name, parameter in sorted(policy.named_parameters()):
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))
        logps = policy(collate_padded([([1, 2], [3, 4, 5])]))
    files = policy.adapter_files("x")
    return AdapterFiles(3, hashlib.sha256(files[ADAPTER_WEIGHTS]).hexdigest(), files), logps


@pytest.mark.parametrize("family", ["llama_folder", "qwen_folder"])
def test_merged_model_is_the_model_with_its_adapter(family: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(family)
    adapter, expected = trained(folder)
    merged, plain = (AutoModelForCausalLM.from_pretrained(folder) for _ in range(2))
    merged.load_state_dict(dict(MergedWeights(folder).tensors(adapter.files)), strict=False)
    with torch.no_grad():
        logits = merged(IDS).logits[0].log_softmax(-1)
        before = plain(IDS).logits[0].log_softmax(-1)
    found = logits[1:4].gather(-1, IDS[0, 2:, None])[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert float((before - logits).abs().mean()) > 0.01


def test_without_an_adapter_it_is_the_checkpoint(llama_folder: Path) -> None:
    state = AutoModelForCausalLM.from_pretrained(llama_folder).state_dict()
    tensors = dict(MergedWeights(llama_folder).tensors(None))
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in tensors)


def test_what_cannot_be_merged_is_refused_before_the_first_tensor(llama_folder: Path, tmp_path: Path) -> None:
    adapter, _ = trained(llama_folder)
    config = json.loads(adapter.files[ADAPTER_CONFIG])
    weights = MergedWeights(llama_folder)
    other = {**adapter.files, ADAPTER_CONFIG: json.dumps({**config, "use_rslora": True}).encode()}
    with pytest.raises(SyncError, match="use_rslora"):
        weights.tensors(other)
    elsewhere = adapter.files[ADAPTER_WEIGHTS].replace(b"layers.1.", b"layers.9.")
    with pytest.raises(SyncError, match=r"no model.layers.9\S+ \(7 such tensors\)(.|\n)*sync.mode: adapter"):
        weights.tensors({**adapter.files, ADAPTER_WEIGHTS: elsewhere})
    with pytest.raises(SyncError, match=r"no \*\.safetensors"):
        MergedWeights(tmp_path)
