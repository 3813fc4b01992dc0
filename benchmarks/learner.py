"""How fast one update of the learner is, beside the ways others do it: response tokens per second and peak memory.

    ours        packed groups, log-probabilities of response tokens only, reference log-probabilities stored
    release     as the NCA release does it: K padded copies of the prompt, full logits, a reference forward every step
    pass        ours after a reference pass of its own, as in the first epoch of a round that does not take the
                generator's log-probabilities
    trl         TRL's DPOTrainer at K = 2 with precomputed reference log-probabilities

Every variant runs in a process of its own (peak memory is the process's), on the same groups, weights and settings;
both sides use PyTorch's fused attention and one group per micro-batch (`--budget`, tokens, gives ours more).

    .venv/bin/python benchmarks/learner.py [--device cuda] [--quick]

The last line is JSON: ratios of response tokens per second and of peak memory, and the share of the measured matmul
peak that the useful operations reach.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

SHAPES = {
    "cpu": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 11, "num_attention_heads": 8},
    "cuda": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 20, "num_attention_heads": 16},
}
CASES = {
    "short": {"prompt": (128, 256), "vocab": 32_000, "k": 4},
    "long": {"prompt": (512, 1024), "vocab": 32_000, "k": 4},
    "pairs": {"prompt": (512, 1024), "vocab": 32_000, "k": 2},
    "small_vocab": {"prompt": (128, 256), "vocab": 512, "k": 4},
}
RESPONSE = (32, 192)
BETA, ALPHA = 0.1, 0.5


def make_model(case: str, device: str) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from rayalign.learning.attention import register

    register()
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[device], vocab_size=CASES[case]["vocab"], max_position_embeddings=4096)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = LlamaForCausalLM(config).to(device=device, dtype=dtype)
    return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))


def make_groups(case: str, count: int) -> list[Any]:
    from rayalign.records import TrainingGroup

    rng, spec = random.Random(0), CASES[case]

    def tokens(low: int, high: int) -> list[int]:
        return [rng.randrange(3, spec["vocab"]) for _ in range(rng.randint(low, high))]

    groups = []
    for i in range(count):
        responses = [tokens(*RESPONSE) for _ in range(spec["k"])]
        rewards = [rng.random() for _ in responses]
        indices = list(range(len(responses)))
        groups.append(
            TrainingGroup(str(i), tokens(*spec["prompt"]), indices, responses, [[] for _ in indices], rewards)
        )
    return groups


def response_tokens(groups: list[Any]) -> int:
    return sum(len(response) for group in groups for response in group.response_token_ids)


class Ours:
    """A round of our learner on plain torch: one backward per micro-batch, the reference stored from sampling
    (`training.reference_logps: generator`); with `reference`, after a pass of its own for the reference."""

    def __init__(self, case: str, device: str, budget: int, *, reference: bool = False) -> None:
        from rayalign.config.objective import DPOObjective, NCAObjective
        from rayalign.learning.lora import fuse_lora
        from rayalign.learning.model import Policy
        from rayalign.learning.weights import AdapterWeights

        model = make_model(case, device)
        fuse_lora(model)
        self.policy = Policy(AdapterWeights(model)).train()
        self.device, self.budget = device, budget
        pairs = CASES[case]["k"] == 2
        self.objective = (
            DPOObjective(type="dpo", beta=BETA) if pairs else NCAObjective(type="nca", alpha=ALPHA, beta=BETA)
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
    """K padded rows per group, full logits of policy and reference at every step; one group per micro-batch."""

    def __init__(self, case: str, device: str) -> None:
        self.model = make_model(case, device).train()
        self.device = device

    def __call__(self, groups: list[Any]) -> float:
        import torch

        from rayalign.learning.packing import collate_padded
        from rayalign.losses import nca_loss

        total = 0.0
        for group in groups:
            rows = [(group.prompt_token_ids, response) for response in group.response_token_ids]
            batch = collate_padded(rows).to(self.device)
            with torch.no_grad(), self.model.disable_adapter():
                reference = self._logps(batch, rows)
            rewards = torch.tensor([group.rewards], device=self.device)
            output = nca_loss(self._logps(batch, rows)[None], reference[None], rewards, alpha=ALPHA, beta=BETA)
            (output.loss / len(groups)).backward()
            total += float(output.loss.detach()) / len(groups)
        return total

    def _logps(self, batch: Any, rows: list[Any]) -> Any:
        logits = self.model(
            input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT, use_cache=False
        ).logits
        labels = batch.input_ids_BT[:, 1:]
        logps = logits[:, :-1].float().log_softmax(-1).gather(-1, labels[:, :, None])[:, :, 0]
        mask = batch.attention_mask_BT[:, 1:].clone()
        for row, (prompt, _) in enumerate(rows):
            mask[row, : len(prompt) - 1] = 0
        return (logps * mask).sum(-1)


def train_trl(case: str, groups: list[Any], repeats: int) -> list[float]:
    """Seconds per optimizer step over all groups with TRL's DPOTrainer, the reference precomputed."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times.append(time.perf_counter() - self.start)

    words = {f"w{i}": i for i in range(CASES[case]["vocab"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="w0"))
    from tokenizers.pre_tokenizers import WhitespaceSplit

    backend.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="w1", pad_token="w2", unk_token="w0")

    def text(ids: list[int]) -> str:
        return " ".join(f"w{i}" for i in ids)

    rows = []
    for group in groups:
        best, worst = group.rewards.index(max(group.rewards)), group.rewards.index(min(group.rewards))
        responses = group.response_token_ids
        rows.append({"prompt": text(group.prompt_token_ids) + " ", "chosen": text(responses[best][:-1]),
                     "rejected": text(responses[worst][:-1])})  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            output_dir=folder, beta=BETA, precompute_ref_log_probs=True, per_device_train_batch_size=1,
            gradient_accumulation_steps=len(groups), num_train_epochs=repeats + 1, learning_rate=1e-6, report_to=[],
            max_length=None, save_strategy="no", use_cpu=True, bf16=False, gradient_checkpointing=False,
            disable_tqdm=True, logging_strategy="no", dataloader_pin_memory=False,
        )  # fmt: skip
        model = make_model(case, "cpu")
        trainer = DPOTrainer(
            model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
            callbacks=[Clock()],
        )  # fmt: skip
        trainer.train()
    return times[1:]


def matmul_peak(device: str) -> float:
    """Best measured FLOP/s of a square matmul in the dtype of the benchmark."""
    import torch

    size, dtype = (1536, torch.float32) if device == "cpu" else (8192, torch.bfloat16)
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = 0.0
    for _ in range(12):
        start = time.perf_counter()
        for _ in range(4):
            a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 4 * 2 * size**3 / (time.perf_counter() - start))
    return best


def useful_flops(case: str, device: str, groups: list[Any]) -> float:
    """FLOPs of one update: 4 N per token for the frozen linear layers, attention over the pairs that see each other,
    the head on response tokens; nothing is counted twice. The reference pass adds its forward part."""
    shape, vocab = SHAPES[device], CASES[case]["vocab"]
    hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
    linear = layers * (4 * hidden * hidden + 3 * hidden * shape["intermediate_size"])
    forward = 0.0
    for group in groups:
        prompt, lengths = len(group.prompt_token_ids), [len(r) for r in group.response_token_ids]
        tokens = prompt + sum(length - 1 for length in lengths)
        pairs = prompt * (prompt + 1) / 2 + sum((n - 1) * prompt + (n - 1) * n / 2 for n in lengths)
        forward += 2 * linear * tokens + 4 * pairs * hidden * layers + 2 * sum(lengths) * vocab * hidden
    attention = sum(
        4
        * hidden
        * layers
        * (p * (p + 1) / 2 + sum((n - 1) * p + (n - 1) * n / 2 for n in map(len, g.response_token_ids)))
        for g in groups
        for p in [len(g.prompt_token_ids)]
    )
    # Backward: as much again for weights that get no gradient of their own, twice for attention.
    return forward + (forward + attention)


def child(args: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    groups = make_groups(args.case, args.groups)
    if args.child == "trl":
        times, loss = train_trl(args.case, groups, args.repeats), float("nan")
    else:
        variant: Any = Release(args.case, args.device)
        if args.child != "release":
            variant = Ours(args.case, args.device, args.budget, reference=args.child == "pass")
        times = []
        for repeat in range(args.repeats + 1):
            start = time.perf_counter()
            loss = variant(groups)
            if args.device == "cuda":
                torch.cuda.synchronize()
            if repeat:
                times.append(time.perf_counter() - start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if args.device == "cuda":
        memory = torch.cuda.max_memory_allocated()
    peak = matmul_peak(args.device) if args.child == "ours" else 0.0
    print(json.dumps({"seconds": statistics.median(times), "memory": memory, "loss": loss, "peak": peak}))


def measure(variant: str, case: str, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", variant, "--case", case, "--device", args.device]
    command += ["--groups", str(args.groups), "--repeats", str(args.repeats), "--budget", str(args.budget)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{variant} {case} failed:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    result["rate"] = response_tokens(make_groups(case, args.groups)) / result["seconds"]
    print(f"{case:12} {variant:8} {result['rate']:9.0f} response tokens/s  {result['memory'] / 2**30:6.2f} GiB  "
          f"{result['seconds']:7.2f} s  loss {result['loss']:.6f}", flush=True)  # fmt: skip
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="fewer groups and repeats")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--budget", type=int, default=1, help="tokens per micro-batch; at least one group")
    parser.add_argument("--case", choices=CASES, default="long", help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    if args.quick:
        args.groups, args.repeats = 4, 1
    found: dict[str, Any] = {}
    for case in ("short", "long", "small_vocab"):
        ours, own_pass, release = (measure(variant, case, args) for variant in ("ours", "pass", "release"))
        found[f"vs_release_{case}"] = round(ours["rate"] / release["rate"], 2)
        found[f"vs_release_{case}_with_reference_pass"] = round(own_pass["rate"] / release["rate"], 2)
        if case == "long":
            found["memory_vs_release_long"] = round(ours["memory"] / release["memory"], 3)
            flops = useful_flops(case, args.device, make_groups(case, args.groups))
            found["mfu"] = round(flops / ours["seconds"] / ours["peak"], 3)
    if args.device == "cpu":
        ours, trl = measure("ours", "pairs", args), measure("trl", "pairs", args)
        found["vs_trl_k2_long"] = round(ours["rate"] / trl["rate"], 2)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
