"""A round's model on the disk, proven against what the run trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from rayalign.errors import ModelError, SyncError
from rayalign.learning.folders import load_model
from rayalign.learning.merged import MergedWeights
from rayalign.learning.weights import put_weights
from rayalign.records import FULL_WEIGHTS
from rayalign.rendering.renderer import ChatRenderer
from rayalign.store.model_files import model_files

TOKENIZER_FILES = ("*token*", "vocab*", "merges.txt", "*.model", "chat_template*")
"""Of a model's files, those that its tokenizer is read from."""
LOGIT_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 3e-5
"""Largest |difference| of a logit that merging in float32 may make, and its share of the largest |logit|: the larger
one holds, because what is rounded grows with the numbers (of a model of 30 layers merging made 3e-6 to 7e-6 of it; a
module left out makes more than 1e-3)."""


@dataclass(frozen=True, slots=True)
class MergeProof:
    """How far the merged model's logits are from those of base and adapter, all computed in float32."""

    dtype: str
    """The type of the weights as saved."""
    float32_gap: float
    """Largest |difference| before the weights were cast."""
    saved_gap: float
    """Largest |difference| of the weights as saved."""
    sequences: int


def write_merged(
    base: Path, adapter: Mapping[str, bytes], adapter_folder: Path, folder: Path, sequences_ST: Sequence[Sequence[int]]
) -> MergeProof:
    """Write base + adapter to `folder`: weights in the dtype of the base, all other files as the base has them.

    Args:
        adapter: the adapter's files by name.
        adapter_folder: the adapter as a PEFT folder.
        sequences_ST: token ids whose logits are compared.

    Raises:
        ModelError: the adapter cannot be merged, or the merged logits are further off than rounding can be.
    """
    try:
        weights = MergedWeights(base)
        weights.write(adapter, folder, torch.float32)
    except SyncError as error:
        raise ModelError(error.found, error.why, "export the adapter itself, without --merge") from error
    _copy_others(base, folder)
    expected = adapter_logits(base, adapter_folder, sequences_ST)
    gap = largest_difference(expected, plain_logits(folder, sequences_ST))
    if not gap <= (allowed := allowed_difference(expected)):
        raise ModelError(
            f"merged logits are up to {gap:.1e} off",
            f"at most {allowed:.1e} is allowed in float32",
            "export the adapter itself, without --merge, and please report this model",
        )
    dtypes = _dtypes(weights.paths())
    saved_gap = gap
    if dtypes != ["float32"]:
        weights.write(adapter, folder)
        saved_gap = largest_difference(expected, plain_logits(folder, sequences_ST))
    return MergeProof(" and ".join(dtypes), gap, saved_gap, len(sequences_ST))


def write_full(
    base: Path, files: Mapping[str, bytes], folder: Path, sequences_ST: Sequence[Sequence[int]]
) -> MergeProof:
    """Write a round's weights to `folder` as the run committed them, all other files as the base has them.

    Args:
        files: config and weights by name.
        sequences_ST: token ids whose logits are compared with those of the weights in the base's own class.

    Raises:
        ModelError: they are not those of this base, or the folder gives other logits when it is loaded.
    """
    _copy_others(base, folder, "*.safetensors.index.json")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    model = load_model(AutoModelForCausalLM, base, dtype=torch.float32)
    put_weights(model, files[FULL_WEIGHTS])
    expected = _logits(model, sequences_ST)
    gap = largest_difference(expected, plain_logits(folder, sequences_ST))
    if not gap <= allowed_difference(expected):
        raise ModelError(
            f"logits of the exported model are up to {gap:.1e} off",
            "the folder does not load as it was trained",
            "please report this model",
        )
    return MergeProof("float32", gap, gap, len(sequences_ST))


def copy_tokenizer(base: Path, folder: Path) -> None:
    """Put the base's tokenizer into a folder."""
    for path in sorted({path for pattern in TOKENIZER_FILES for path in base.glob(pattern) if path.is_file()}):
        shutil.copyfile(path, folder / path.name)


def write_template(folder: Path, renderer: ChatRenderer) -> None:
    """Make a folder's tokenizer render as the run did, and its model stop where the run's answers ended.

    Nothing changes where the base's own template was used, and ends its answers where the base stops.
    """
    if renderer.template is not None and renderer.template.jinja is not None:
        settings = folder / "tokenizer_config.json"
        kept = {name: value for name, value in _read(settings).items() if name != "chat_template"}
        settings.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / "chat_template.jinja").write_text(renderer.template.portable, encoding="utf-8")
    generation = folder / "generation_config.json"
    if renderer.stop_ids and (folder / "config.json").exists():
        facts = _read(generation)
        known = facts.get("eos_token_id", renderer.tokenizer.eos_token_id)
        ends = known if isinstance(known, list) else [] if known is None else [known]
        if missing := [end for end in renderer.stop_ids if end not in ends]:
            facts["eos_token_id"] = [*ends, *missing]
            generation.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, object]:
    """A JSON file's object; an empty one where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _copy_others(base: Path, folder: Path, left_out: str | None = None) -> None:
    """All files of a model but its weights."""
    for path in model_files(base):
        if path.suffix != ".safetensors" and not (left_out and path.match(left_out)):
            shutil.copyfile(path, folder / path.name)


def adapter_logits(base: Path, adapter: Path, sequences_ST: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """[T, V] float32 logits of each sequence, by plain PEFT."""
    model = load_model(AutoModelForCausalLM, base, dtype=torch.float32)
    return _logits(PeftModel.from_pretrained(model, str(adapter)), sequences_ST)


def plain_logits(folder: Path, sequences_ST: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """[T, V] float32 logits of each sequence, by plain transformers."""
    return _logits(load_model(AutoModelForCausalLM, folder, dtype=torch.float32), sequences_ST)


def largest_difference(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> float:
    """Largest |difference|; NaN where any is NaN, which exceeds no limit and is below none."""
    pairs = zip(expected, found, strict=True)
    return float(torch.stack([(left - right).abs().max() for left, right in pairs]).max())


def allowed_difference(expected: Sequence[torch.Tensor]) -> float:
    """How far off rounding may put a logit of these."""
    return max(LOGIT_TOLERANCE, RELATIVE_TOLERANCE * max(float(logits.abs().max()) for logits in expected))


@torch.no_grad()
def _logits(model: torch.nn.Module, sequences_ST: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    model.eval()
    return [model(input_ids=torch.tensor([list(ids)])).logits[0] for ids in sequences_ST]


def _dtypes(paths: Sequence[Path]) -> list[str]:
    """The types of a checkpoint's floating-point tensors, in alphabetical order."""
    found = set()
    for path in paths:
        with safe_open(path, "pt") as file:
            tensors = (file.get_tensor(name) for name in file.keys())  # noqa: SIM118 - not a dict
            found |= {str(t.dtype).removeprefix("torch.") for t in tensors if t.is_floating_point()}
    return sorted(found)
