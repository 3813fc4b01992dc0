"""The ways to make one update that `benchmarks/learner.py` compares."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.learner_parts.cases import CASES, make_model

BETA, ALPHA = 0.1, 0.5
ROWS_AT_ONCE = 4
"""Rows that the release's side holds at a time. NCA's loss is a sum over responses, so that a larger group in slices
makes the operations and gradients of all its rows at once, in the memory of four."""


class Ours:
    """A round of our learner on plain torch: one backward per micro-batch, the reference stored from sampling
    (`training.reference_logps: generator`); with `reference`, after a pass of its own for the reference. Pairs learn by
    DPO, larger groups by NCA."""

    def __init__(self, case: str, device: str, dtype: str, k: int, budget: int, *, reference: bool = False) -> None:
        from rayalign.config.objective import DPOObjective, NCAObjective
        from rayalign.learning.lora import fuse_lora
        from rayalign.learning.model import Policy
        from rayalign.learning.weights import AdapterWeights

        model = make_model(case, device, dtype)
        fuse_lora(model)
        self.policy = Policy(AdapterWeights(model)).train()
        self.device, self.budget = device, budget
        self.objective = (
            DPOObjective(type="dpo", beta=BETA) if k == 2 else NCAObjective(type="nca", alpha=ALPHA, beta=BETA)
        )
        self.reference = reference

    def __call__(self, groups: list[Any]) -> float:
        from rayalign.learning.objective import count_units
        from rayalign.learning.plan import plan_steps
        from rayalign.learning.step import (
            StepContext,
            group_tokens,
            micro_batch_loss,
            reference_sums,
            token_logps_of,
        )
        from rayalign.learning.streams import streams_of

        policy, objectives = self.policy, [self.objective]
        if self.reference:

            def score(rows: Any) -> Any:
                return token_logps_of(policy, rows, self.device, self.budget, policy.collate, packed=True)

            references = reference_sums(score, dict(enumerate(groups)), objectives)
        else:
            keys = [("response", i) for i in range(len(groups[0].rewards))]
            references = {i: dict.fromkeys(keys, 0.0) for i in range(len(groups))}
        context = StepContext(objectives, 1, self.device, policy.collate)
        tokens = [group_tokens(streams_of(group, {"response"}), packed=True) for group in groups]
        (step,) = plan_steps(tokens, seed=0, round_index=1, epochs=1, group_batch=len(groups),
                             tokens_per_micro_batch=self.budget, workers=1)  # fmt: skip
        units, total = count_units(objectives, groups), 0.0
        for batch in step.ranks[0]:
            loss, _ = micro_batch_loss(
                policy, [groups[g] for g in batch], [references[g] for g in batch], context, units
            )
            loss.backward()
            total += float(loss.detach())
        return total


class Release:
    """K padded rows per group, full logits of policy and reference at every step; one group per micro-batch, and of a
    large one a few rows."""

    def __init__(self, case: str, device: str, dtype: str) -> None:
        self.model = make_model(case, device, dtype).train()
        self.device = device

    def __call__(self, groups: list[Any]) -> float:
        import torch

        from rayalign.learning.packing import collate_padded
        from rayalign.losses import nca_loss

        total = 0.0
        for group in groups:
            batch = collate_padded([(group.prompt_token_ids, response) for response in group.response_token_ids])
            batch, prompt = batch.to(self.device), len(group.prompt_token_ids)
            rewards_1K = torch.tensor([group.rewards], device=self.device)
            slices = torch.arange(batch.rows).split(ROWS_AT_ONCE)
            for rows in slices:
                with torch.no_grad(), self.model.disable_adapter():
                    reference_K = self._logps(batch, prompt, rows)
                policy_K = self._logps(batch, prompt, rows)
                output = nca_loss(policy_K[None], reference_K[None], rewards_1K, alpha=ALPHA, beta=BETA)
                (output.loss / len(groups)).backward()
                total += float(output.loss.detach()) / len(groups)
            # A row that is not in a slice is at log-ratio 0 there, where all rows together have a loss of 2 log 2.
            total -= (len(slices) - 1) * 2 * math.log(2) / len(groups)
        return total

    def _logps(self, batch: Any, prompt: int, rows: Any) -> Any:
        """[K] summed log-probabilities of the responses in `rows`, 0 for the others."""
        ids, attended = batch.input_ids_BT[rows], batch.attention_mask_BT[rows]
        logits = self.model(input_ids=ids, attention_mask=attended, use_cache=False).logits
        logps = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[:, :, 0]
        mask = attended[:, 1:].clone()
        mask[:, : prompt - 1] = 0
        return logps.new_zeros(batch.rows).index_add(0, rows.to(logps.device), (logps * mask).sum(-1))


def make_side(name: str, case: str, device: str, dtype: str, k: int, budget: int) -> Callable[[list[Any]], float]:
    """A way by its name: a call makes forward and backward of some groups, and returns the loss."""
    if name == "release":
        return Release(case, device, dtype)
    return Ours(case, device, dtype, k, budget, reference=name == "pass")


def train_trl(case: str, dtype: str, groups: list[Any], repeats: int) -> float:
    """Seconds of an optimizer step over all groups with TRL's DPOTrainer, the reference precomputed; the median."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    times: list[float] = []
    rows = []
    for group in groups:
        best, worst = group.rewards.index(max(group.rewards)), group.rewards.index(min(group.rewards))
        responses = group.response_token_ids
        rows.append({"prompt": _text(group.prompt_token_ids) + " ", "chosen": _text(responses[best][:-1]),
                     "rejected": _text(responses[worst][:-1])})  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            output_dir=folder, beta=BETA, precompute_ref_log_probs=True, per_device_train_batch_size=1,
            gradient_accumulation_steps=len(groups), num_train_epochs=repeats + 1, learning_rate=1e-6, report_to=[],
            max_length=None, save_strategy="no", use_cpu=True, bf16=False, gradient_checkpointing=False,
            disable_tqdm=True, logging_strategy="no", dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = DPOTrainer(
            model=make_model(case, "cpu", dtype), args=config, train_dataset=Dataset.from_list(rows),
            processing_class=_word_tokenizer(case), callbacks=[_clock(times)],
        )  # fmt: skip
        trainer.train()
    return statistics.median(times[1:])


def _clock(times: list[float]) -> Any:
    """Puts the seconds of every optimizer step into `times`."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times.append(time.perf_counter() - self.start)

    return Clock()


def _word_tokenizer(case: str) -> Any:
    """A tokenizer whose words are w0, w1, ..., one for each token of the vocabulary."""
    from tokenizers import Tokenizer, models
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(CASES[case]["vocab"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="w0"))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="w1", pad_token="w2", unk_token="w0")


def _text(ids: list[int]) -> str:
    return " ".join(f"w{i}" for i in ids)
