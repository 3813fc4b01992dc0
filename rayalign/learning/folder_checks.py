"""Whether a base model can be trained and served, told before an actor starts: from configs and headers alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from rayalign.config.model import LoraSection, ModelSection
from rayalign.errors import ModelError, SyncError
from rayalign.learning.fit import check_fit
from rayalign.learning.folders import first_line, load_config, load_tokenizer
from rayalign.learning.merged import check_names
from rayalign.learning.remade import check_count, layers_of
from rayalign.learning.targets import HEADS, KEY as TARGETS, adapted_layers, check_targets, first_expert
from rayalign.store.model_checks import Stored, check_causal, check_files
from rayalign.store.pretrained import LoadingInfo, check_loaded, check_vocabulary, embedding_rows, load_pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

KEY = "model.base"
HEAD = "lm_head"
LOGIT_CHANGES = (
    "final_logit_softcapping",
    "logits_soft_cap",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_multiplier",
)
"""What configs call a cap or a scale of the logits; None, 0 or 1 is none."""
NEW_PARTS = (*HEADS, "pooler", "pre_classifier", "sequence_summary", "logits_proj")
"""What of a reward model its base need not have."""


def check_policy(
    folder: Path, section: ModelSection, *, merges: bool, gpu: bool, remade: bool | int = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a base, after refusing one that a run cannot train and serve.

    Args:
        merges: whether the generator gets adapters merged into the base's weights.
        gpu: whether the generator runs on one.
        remade: layers whose activations are remade in the backward pass, as the config says.

    Raises:
        ModelError: it is incomplete, quantised or of another tokenizer, or cannot be trained as the config says.
    """
    tensors = check_files(folder, KEY)
    model, tokenizer = _complete(AutoModelForCausalLM, folder), load_tokenizer(folder)
    check_vocabulary(tokenizer, embedding_rows(model), folder, KEY)
    _check_head(model, tensors, folder)
    check_layers(model, folder, merges=merges, gpu=gpu, remade=remade)
    if section.full:
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        remedy = "save the base again with save_pretrained, or train an adapter"
        check_fit(model, shapes, "the base's checkpoint", remedy)
    else:
        _check_adapter(model, tensors, section.lora, merges=merges)
    return tokenizer


def check_layers(model: PreTrainedModel, folder: Path, *, merges: bool, gpu: bool, remade: bool | int) -> None:
    """Refuse a model whose layers cannot be trained and served as the config says; its weights are not looked at.

    The other arguments are those of `check_policy`.

    Raises:
        ModelError: it has fewer layers than are to be remade, or experts where they cannot be served.
    """
    check_count(remade, len(layers_of(model)))
    if (merges or not gpu) and (expert := first_expert(model)):
        raise ModelError(
            f"{KEY}: {folder} has experts ({expert})",
            "on a CPU vLLM has no kernels for experts beside adapters, and experts that are replaced while it runs are "
            "read wrongly",
            f"name a model without experts, or on GPUs set sync.mode: adapter and {TARGETS} to attention's modules",
        )


def check_kind(folder: Path) -> None:
    """Refuse a base by what its config.json says that it is.

    Raises:
        ModelError: it is no causal language model, or its logits are not just the head of its last hidden state.
    """
    config = load_config(folder)
    check_causal(folder, KEY, encoder_decoder=config.is_encoder_decoder)
    text = config.get_text_config()
    for name in LOGIT_CHANGES:
        # A config keeps whatever its file says; what its class does not know does nothing.
        if hasattr(type(text), name) and (value := getattr(text, name)) not in (None, 0, 1):
            raise logits_error(f"{(config.architectures or ['it'])[0]} ({name} {value})")


def logits_error(model: str) -> ModelError:
    return ModelError(
        f"{KEY}: {model} changes its logits after the output head",
        "log-probabilities from hidden states would be wrong",
        "use a model without logit soft-capping or scaling",
    )


def check_split(folder: Path, processes: int, key: str, pool: str) -> None:
    """Refuse a model whose layers cannot be shared out evenly among an engine's processes.

    Args:
        key: what named the model, for errors.
        pool: what says how many processes, for errors.

    Raises:
        ModelError: its attention heads, or the width of its feed-forward layers, do not divide.
    """
    config = load_config(folder).get_text_config()
    for what, name in (("attention heads", "num_attention_heads"), ("feed-forward units", "intermediate_size")):
        count = getattr(config, name, None)
        if isinstance(count, int) and count % processes:
            raise ModelError(
                f"{key}: {folder} has {count} {what}, and {pool}.tensor_parallel is {processes}",
                "each process of an engine takes an equal part of every layer",
                f"set {pool}.tensor_parallel to a divisor of {count}",
            )
    groups = getattr(config, "num_key_value_heads", None) or processes
    if groups % processes and processes % groups:
        raise ModelError(
            f"{key}: {folder} has {groups} key-value heads, and {pool}.tensor_parallel is {processes}",
            "each process of an engine takes an equal part of them, or several share one",
            f"set {pool}.tensor_parallel to a divisor or a multiple of {groups}",
        )


def check_stage_base(folder: Path, lora: LoraSection | None, *, rewards: bool) -> PreTrainedTokenizerBase:
    """The tokenizer of a base, after refusing one that a training stage cannot train.

    Args:
        lora: the stage's adapter; None where all weights are trained.
        rewards: whether a reward model is trained, whose head may be new.

    Raises:
        ModelError: it is of another kind, is incomplete, quantised or of another tokenizer, or lacks a target.
    """
    check_files(folder, KEY)
    if rewards:
        model = _complete(AutoModelForSequenceClassification, folder, unused=NEW_PARTS, num_labels=1)
    else:
        model = _complete(AutoModelForCausalLM, folder)
    tokenizer = load_tokenizer(folder)
    check_vocabulary(tokenizer, embedding_rows(model), folder, KEY)
    if lora is not None:
        check_targets(model, lora)
    return tokenizer


def _check_head(model: PreTrainedModel, tensors: dict[str, Stored], folder: Path) -> None:
    """Refuse an output head of its own where the config ties it to the embedding.

    transformers then takes the stored one, and vLLM the embedding: generator and learner would be two models.
    """
    tied = getattr(model.config, "tie_word_embeddings", False)
    head, embedding = f"{HEAD}.weight", _stored_name(model, tensors)
    if not tied or head not in tensors or embedding is None:
        return
    one, other = (_read(tensors[name].path, name) for name in (head, embedding))
    if not torch.equal(one, other):
        raise ModelError(
            f"{KEY}: {folder} has a {head} that is not its {embedding}",
            "its config.json ties the two (tie_word_embeddings), and of these only one would be served",
            "set tie_word_embeddings: false in config.json if the head was trained, or remove it from the weights",
        )


def _stored_name(model: PreTrainedModel, tensors: dict[str, Stored]) -> str | None:
    """The name of the embedding's tensor in the files."""
    embedding = model.get_input_embeddings()
    named = [f"{name}.weight" for name, module in model.named_modules() if module is embedding]
    return next((name for name in named if name in tensors), None)


def _read(path: Path, name: str) -> torch.Tensor:
    with safe_open(path, "pt") as file:
        return file.get_tensor(name)


def _complete(
    auto_class: type[_BaseAutoModelClass], folder: Path, *, unused: tuple[str, ...] = (), **options: object
) -> PreTrainedModel:
    """The model without memory for its weights, all of which its files have."""
    loaded: tuple[PreTrainedModel, LoadingInfo] = load_pretrained(
        auto_class.from_pretrained,
        folder,
        key=KEY,
        why=first_line,
        remedy="check that the folder holds a model of a kind that transformers knows",
        device_map="meta",
        dtype="float32",
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    check_loaded(loaded[1], folder, KEY, unused=unused, heads=bool(unused))
    return loaded[0]


def _check_adapter(model: PreTrainedModel, tensors: dict[str, Stored], section: LoraSection, *, merges: bool) -> None:
    layers = adapted_layers(model, section)
    if merges:
        try:
            check_names([f"{name}.weight" for name in layers], tensors)
        except SyncError as error:
            raise ModelError(f"{KEY}: {error.found}", error.why, error.remedy) from None
