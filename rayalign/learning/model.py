"""The policy: a base model with what is trained of it, and its log-probabilities."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from rayalign.config.model import LoraSection, ModelSection
from rayalign.errors import ModelError
from rayalign.learning.attention import NAME as ATTENTION, make_layout, register
from rayalign.learning.folder_checks import logits_error
from rayalign.learning.folders import first_line, load_model
from rayalign.learning.lora import fuse_lora
from rayalign.learning.packing import Batch, Row, collate_packed, collate_padded
from rayalign.learning.remade import remake_activations
from rayalign.learning.sharded import Gather, Sharding, load_sharded, whole_while_running
from rayalign.learning.sharing import rows_to_try, same, same_but_rounded
from rayalign.learning.weights import AdapterWeights, FullWeights, TrainedWeights
from rayalign.learning.windows import layer_windows, windows_asked
from rayalign.losses.logprobs import is_frozen_linear, token_logps
from rayalign.store.pretrained import move

_log = logging.getLogger(__name__)


class Policy(torch.nn.Module):
    """A causal language model in training; `forward` gives response log-probabilities.

    Model and log-probabilities live in one module so that a sharding engine can gather what the forward needs.

    Args:
        weights: the model, and what of it is trained.
        gather: context in which parameters are whole, where an engine keeps parts of them.
    """

    def __init__(self, weights: TrainedWeights, gather: Gather | None = None) -> None:
        super().__init__()
        self.model = weights.model
        self._weights = weights
        self._gather: Gather = gather or (lambda parameters: contextlib.nullcontext())
        base = weights.base
        self._quantised = [
            module for module in self.model.modules() if type(module).__module__.startswith("bitsandbytes")
        ]
        self.eval()
        self._windows = layer_windows(base.config)
        # Seen before anything hooks into the model.
        self._frozen_head = is_frozen_linear(_output_head(base))
        self._plain_attention = base.config._attn_implementation
        with whole_while_running(self.model, gather) if gather else contextlib.nullcontext():
            self._check_head(base)
            self.shares_prompts = self._can_share()

    def train(self, mode: bool = True) -> Self:
        """Quantised layers stay in training mode: in the other, bitsandbytes rounds otherwise, and on CPU it repacks
        its 4-bit weights at the first call, after which gradients no longer pass through them."""
        super().train(mode)
        for module in self._quantised:
            module.training = True
        return self

    def look_again(self) -> None:
        """See whether prompts can be shared on another device too, to which the model was moved."""
        self.shares_prompts = self.shares_prompts and self._can_share()

    def collate(self, rows: Sequence[Row]) -> Batch:
        """Rows in the form that this model computes fastest: packed where its attention allows, else padded."""
        longest = max(len(prompt) + len(response) for prompt, response in rows)
        if self.shares_prompts and (self._packs_windows or all(w is None or longest <= w for w in self._windows)):
            return collate_packed(rows)
        return collate_padded(rows)

    def forward(self, batch: Batch) -> torch.Tensor:
        """[N] float32 log-probabilities of `batch.targets_N` (nats, temperature 1)."""
        base = self._weights.base
        if batch.packed:
            # A 4D mask is taken as it is, so that none is made for all pairs; the layout says who sees whom.
            inputs = {
                "attention_mask": batch.input_ids_BT.new_ones(1, 1, 1, 1),
                "position_ids": batch.position_ids_1T,
                "layout": make_layout(batch.trees, batch.input_ids_BT.device, {w for w in self._windows if w}),
            }
        else:
            inputs = {"attention_mask": batch.attention_mask_BT}
        trunk = getattr(base, base.base_model_prefix)
        hidden_BTH = trunk(input_ids=batch.input_ids_BT, use_cache=False, **inputs).last_hidden_state
        hidden_NH = hidden_BTH.flatten(0, 1)[batch.predicting_N]
        head = _output_head(base)
        with self._gather(list(head.parameters())):
            return token_logps(hidden_NH, batch.targets_N, head, frozen_linear=self._frozen_head)

    @torch.no_grad()
    def _check_head(self, base: PreTrainedModel) -> None:
        """Refuse models whose logits are not just the head of the last hidden state (soft-capped, scaled)."""
        ids = torch.tensor([[1, 2, 3]], device=base.device)
        hidden = getattr(base, base.base_model_prefix)(input_ids=ids, use_cache=False).last_hidden_state
        ours, theirs = _output_head(base)(hidden), base(input_ids=ids, use_cache=False).logits
        if not torch.allclose(ours.float(), theirs.float(), rtol=1e-2, atol=1e-2):
            raise logits_error(type(base).__name__)

    @torch.no_grad()
    def _can_share(self) -> bool:
        """Whether packed and padded agree on this model: attention that takes no layout, or more than one, does not."""
        base, plain = self._weights.base, self._plain_attention
        self._packs_windows = False
        assert plain is not None
        device, vocabulary = base.device, int(base.config.get_text_config().vocab_size)
        rounded = base.dtype != torch.float32 or bool(self._quantised)
        rows = rows_to_try(vocabulary, rounded=rounded)
        training = self.training
        self.eval()
        if base.config._attn_implementation != plain:
            base.set_attn_implementation(plain)
        try:
            expected = self(collate_padded(rows).to(device))
            base.set_attn_implementation(ATTENTION)
            with windows_asked() as asked:
                packed = self(collate_packed(rows).to(device))
            agrees = same(packed, expected)
            if rounded and not agrees:
                agrees = same_but_rounded(self, rows, expected, vocabulary, device)
            # No row here is as long as a window: what layers say of theirs is compared with the config.
            self._packs_windows = asked == self._windows
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            agrees = False
            _log.warning("%s takes no layout: %s", type(base).__name__, first_line(error))
        finally:
            self.train(training)
        if not agrees:
            base.set_attn_implementation(plain)
            _log.warning("%s: responses do not share their prompt; same result, slower", type(base).__name__)
        return agrees

    def trainable(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def base_only(self) -> contextlib.AbstractContextManager[None]:
        """Context in which the policy is the base model."""
        return self._weights.base_only()

    def adapter_files(self, base_name: str) -> dict[str, bytes]:
        """What is trained as files by name, the same bytes for the same weights; `weights_file` names the weights."""
        return self._weights.files(base_name)

    def load_adapter(self, files: Mapping[str, bytes]) -> None:
        """Take the weights of `adapter_files`.

        Raises:
            ModelError: they do not fit this model.
        """
        self._weights.load(files)

    def reset_adapter(self, seed: int) -> None:
        """Start anew: the policy equals the base. Fresh LoRA weights depend on `seed` alone."""
        self._weights.reset(seed)


def _output_head(base: PreTrainedModel) -> torch.nn.Module:
    head = base.get_output_embeddings()
    assert head is not None
    return head


def build_policy(
    folder: Path,
    section: ModelSection,
    device: str = "cpu",
    *,
    checkpointing: bool | int = False,
    sharding: Sharding | None = None,
) -> Policy:
    """Load the base model, quantised if the config says so, and put a LoRA adapter on it unless all is trained.

    Args:
        checkpointing: remake activations in the backward pass, of all layers or of so many.
        sharding: who keeps the parameters in parts, whole only while a module runs (ZeRO-3), from loading on.
    """
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[section.dtype]
    register()
    base = None if sharding is None else load_sharded(folder, dtype, device, sharding)
    if base is None:
        base = load_model(AutoModelForCausalLM, folder, **load_options(section.quantization, dtype, device))
        if section.quantization == "none":
            move(base, device)
    return policy_on(base, folder, section, checkpointing=checkpointing, sharding=sharding)


def policy_on(
    base: PreTrainedModel,
    folder: Path,
    section: ModelSection,
    *,
    checkpointing: bool | int = False,
    sharding: Sharding | None = None,
) -> Policy:
    """The policy on a base that is loaded; arguments as of `build_policy`."""
    base.config.use_cache = False
    sharded = sharding is not None
    weights = FullWeights(base, folder) if section.full else _adapter(base, section.lora, fuse=not sharded)
    remake_activations(base, checkpointing, sharded=sharded)
    return Policy(weights, None if sharding is None else sharding.gather).train()


def _adapter(base: PreTrainedModel, section: LoraSection, *, fuse: bool) -> AdapterWeights:
    model = get_peft_model(base, lora_config(section))
    if not isinstance(model, PeftModel):
        raise ModelError("PEFT made no adapter", "the model has no linear layer that it can adapt")
    if fuse:
        fuse_lora(model)
    return AdapterWeights(model)


def load_options(quantization: str, dtype: torch.dtype, device: str) -> dict[str, object]:
    """Arguments of `from_pretrained` for weights of this type, quantised (bitsandbytes) unless it is `none`."""
    if quantization == "none":
        return {"dtype": dtype}
    return {"dtype": dtype, "quantization_config": _quantization(quantization, dtype), "device_map": {"": device}}


def _quantization(kind: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def make_optimizer(kind: str, parameters: Sequence[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW without weight decay; the learning rate is set at every step."""
    if kind == "paged_adamw":
        from bitsandbytes.optim.adamw import PagedAdamW32bit

        return PagedAdamW32bit(parameters, lr=1.0, weight_decay=0.0)
    return torch.optim.AdamW(parameters, lr=1.0, weight_decay=0.0)


def lora_config(section: LoraSection, task: str = "CAUSAL_LM") -> LoraConfig:
    return LoraConfig(
        r=section.r,
        lora_alpha=int(section.alpha) if float(section.alpha).is_integer() else section.alpha,  # pyright: ignore
        lora_dropout=section.dropout,
        target_modules=section.targets,
        task_type=task,
    )
