"""How many rounds of DPO an hour has, beside TRL's own online loop: the same prompts, two answers each.

    ours    `rayalign run`: vLLM samples, the rule scores, the learner makes pairs and trains, the new adapter is served
            with proof; every round writes its whole record, and the last one evaluates eight held-out prompts
    trl     OnlineDPOTrainer with its own generation by transformers, without gradient checkpointing; nothing is saved

    .venv/bin/python benchmarks/online.py [--prompts 64 --rounds 4 --tokens 64] [--batches 8,16,32,64] [--quick]

Both sides have the demo model in one type, LoRA of one shape on all linear layers, the demo rule as reward, the same
prompts in the same order, temperature, longest answer, learning rate, beta, the base as DPO's reference, AdamW, and as
many threads of torch. Ours steps after every 8 prompts. TRL samples and steps batch by batch: each size of `--batches`
is a whole run in a process of its own, and the fastest one counts, though a larger batch makes fewer steps; the ratio
at equal steps is the one to TRL's batches of 8. A round is `--prompts` prompts; TRL's one epoch over the prompts of all
rounds has as many. Ours learns nothing from two answers of equal text, TRL does.

Rounds per hour are those of the first hour: the first round, which is slower on both sides, and as many others, at
their median, as the rest of the hour has room for. The hour begins after the start: on our side at the end of round 0,
which measures the base, on TRL's when training begins. The figure `with_start` is of the hour from the first import on.
The mean reward of the answers sampled in each round says that both sides do the work. Passed means three times TRL's
rounds per hour. The last line is JSON.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

RATIO = 3.0
"""What is asked."""
K, RANK, SCALE, BETA, RATE, TEMPERATURE, SEED = 2, 16, 32, 0.1, 1e-3, 1.0, 0
PROMPT_TOKENS, STEP = 512, 8
"""Longest prompt; prompts of an optimizer step on our side."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=64, help="of a round")
    parser.add_argument("--rounds", type=int, default=4, help="two or more")
    parser.add_argument("--tokens", type=int, default=64, help="longest answer")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batches", default="8,16,32,64", help="TRL's, in prompts; each divides --prompts")
    parser.add_argument("--quick", action="store_true", help="three rounds of 16 prompts, one batch size")
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.quick:
        asked.prompts, asked.rounds, asked.batches = 16, 3, "16"
    if asked.batch:
        print(json.dumps(trl(asked)))
        return
    if asked.rounds < 2:
        raise SystemExit(f"--rounds {asked.rounds}: the first round is not like the others; two or more are needed")
    batches = [int(size) for size in asked.batches.split(",") if int(size) <= asked.prompts]
    if not batches or any(asked.prompts % size for size in batches):
        raise SystemExit(f"--batches {asked.batches}: sizes that divide {asked.prompts} prompts of a round are needed")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "online"
        ours = show("ours", measured(run(folder, asked), **rounds(folder, asked.rounds)))
        others = {size: show(f"trl {size}", child(folder, size, asked)) for size in batches}
    best = max(others, key=lambda size: others[size]["rounds_per_hour"])
    ratios = {size: round(ours["rounds_per_hour"] / one["rounds_per_hour"], 2) for size, one in others.items()}
    started = max(one["rounds_per_hour_with_start"] for one in others.values())
    result = {
        "prompts": asked.prompts,
        "dtype": asked.dtype,
        "threads": asked.threads,
        "ours": ours,
        "trl": {"batch": best, **others[best]},
        "ratio_by_batch": ratios,
        "ratio": ratios[best],
        "ratio_at_equal_steps": ratios.get(STEP),
        "ratio_with_start": round(ours["rounds_per_hour_with_start"] / started, 2),
    }
    print(json.dumps({**result, "passed": result["ratio"] >= RATIO}))


def measured(whole_s: float, round_s: list[float], **found: Any) -> dict[str, Any]:
    """Rounds of the first hour after the start, and with the start in it, which is all that the rounds were not."""
    start_s = whole_s - sum(round_s)
    after, whole = (
        round(1 + (3600 - before - round_s[0]) / statistics.median(round_s[1:]), 1) for before in (0.0, start_s)
    )
    return {
        "rounds_per_hour": after,
        "rounds_per_hour_with_start": whole,
        "start_s": round(start_s, 1),
        "round_s": [round(seconds, 2) for seconds in round_s],
        **found,
    }


def show(name: str, found: dict[str, Any]) -> dict[str, Any]:
    print(f"{name:8} {found['rounds_per_hour']:7.1f} rounds/h ({found['rounds_per_hour_with_start']:.1f} with a start "
          f"of {found['start_s']:.1f} s)  s {found['round_s']}  mean reward {found['mean_reward']}  "
          f"mean tokens {found['mean_tokens']}", flush=True)  # fmt: skip
    return found


def run(folder: Path, asked: argparse.Namespace) -> float:
    """Seconds of a whole run of ours."""
    threads = {"threads": asked.threads}
    config = {
        "run": {"name": folder.name, "dir": str(folder.parent), "rounds": asked.rounds, "seed": SEED},
        "model": {"base": "demo", "dtype": asked.dtype, "lora": {"r": RANK, "alpha": SCALE, "targets": "all-linear"}},
        "prompts": {"source": "demo", "per_round": asked.prompts, "holdout": 8, "max_tokens": PROMPT_TOKENS},
        "sampling": {"responses": K, "temperature": TEMPERATURE, "max_tokens": asked.tokens},
        "scoring": [{"type": "rule", "function": "demo"}],
        "objective": {"type": "dpo", "beta": BETA, "reference": "base"},
        "training": {"learning_rate": RATE, "schedule": {"round_decay": 1.0}, "group_batch": STEP},
        "evaluation": {"every": 1000, "responses": 1, "canaries": 0, "anchors": 0},
        "cluster": {"generators": threads, "learner": threads},
    }
    place = folder.parent / "online.yaml"
    place.write_text(yaml.safe_dump(config))
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "rayalign", "run", str(place)], check=True, cwd=ROOT)
    return time.perf_counter() - started


def rounds(folder: Path, count: int) -> dict[str, Any]:
    """Of each round of ours: its seconds, those of its stages, and what was sampled in it."""
    from rayalign.store.run_dir import RunDir

    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    ends = [datetime.datetime.fromisoformat(one["time"]) for one in events if one["event"] == "round"]
    stages: list[dict[str, float]] = [{} for _ in range(count)]
    for one in events:
        if one["event"] == "stage" and one["round"]:
            stages[one["round"] - 1][one["stage"]] = round(one["seconds"], 2)
    dirs = [RunDir(folder).round(index) for index in range(1, count + 1)]
    answers = [[row for shard in one.shards("train") for row in one.read_shard("train", shard) or []] for one in dirs]
    return {
        "round_s": [(end - start).total_seconds() for start, end in itertools.pairwise(ends)],
        "mean_reward": [round(statistics.mean(row.reward or 0.0 for row in rows), 3) for rows in answers],
        "mean_tokens": [round(statistics.mean(len(row.sample.token_ids) for row in rows), 1) for rows in answers],
        "stages_s": stages,
    }


def child(folder: Path, batch: int, asked: argparse.Namespace) -> dict[str, Any]:
    """TRL's side with so many prompts per batch, in a process of its own."""
    names = ("prompts", "rounds", "tokens", "dtype", "threads")
    words = [str(word) for name in names for word in (f"--{name}", getattr(asked, name))]
    env = {**os.environ, "OMP_NUM_THREADS": str(asked.threads), "TOKENIZERS_PARALLELISM": "false"}
    started = time.perf_counter()
    command = [sys.executable, __file__, "--batch", str(batch), "--folder", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(f"TRL's side failed:\n{done.stderr[-3000:]}")
    return measured(time.perf_counter() - started, **json.loads(done.stdout.splitlines()[-1]))


def trl(asked: argparse.Namespace) -> dict[str, Any]:
    """Of each round of TRL's: its seconds, and what was sampled in it."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    from rayalign.launch.models import find_base
    from rayalign.store.run_dir import RunDir

    torch.set_num_threads(asked.threads)
    dirs = [RunDir(asked.folder).round(index) for index in range(1, asked.rounds + 1)]
    prompts = [prompt for one in dirs for prompt in one.read_prompts(0, asked.prompts)]
    base = find_base("demo")
    tokenizer = AutoTokenizer.from_pretrained(base)
    text = tokenizer.apply_chat_template(prompts[0].messages, add_generation_prompt=True, tokenize=False)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == prompts[0].token_ids, "both sides ask the same"
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, asked.dtype))
    model.config.use_cache = True
    rewards, tokens, times = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        trainer = OnlineDPOTrainer(
            model=model,
            reward_funcs=rule(tokenizer.pad_token_id, rewards, tokens),
            args=OnlineDPOConfig(
                output_dir=scratch, per_device_train_batch_size=asked.batch, num_train_epochs=1, learning_rate=RATE,
                beta=[BETA], temperature=TEMPERATURE, max_new_tokens=asked.tokens, seed=SEED, use_cpu=True, bf16=False,
                max_length=PROMPT_TOKENS + asked.tokens, gradient_checkpointing=False, report_to=[], save_strategy="no",
                logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
                train_sampling_strategy="sequential",
            ),
            train_dataset=Dataset.from_list([{"prompt": one.messages, "metadata": one.metadata} for one in prompts]),
            processing_class=tokenizer,
            peft_config=LoraConfig(r=RANK, lora_alpha=SCALE, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[clock(times)],
        )  # fmt: skip
        trainer.train()
    steps = asked.prompts // asked.batch
    ends, answers = times[::steps], 2 * asked.prompts
    assert len(ends) == asked.rounds + 1 and len(rewards) == answers * asked.rounds, "one epoch over all prompts"
    return {
        "round_s": [end - start for start, end in itertools.pairwise(ends)],
        "mean_reward": [round(statistics.mean(rewards[i : i + answers]), 3) for i in range(0, len(rewards), answers)],
        "mean_tokens": [round(statistics.mean(tokens[i : i + answers]), 1) for i in range(0, len(tokens), answers)],
    }


def rule(pad: int, rewards: list[float], tokens: list[int]) -> Any:
    """The demo rule as TRL asks it; notes rewards, and how many tokens each answer has."""
    from rayalign.demo import world

    def demo_rule(
        prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], metadata: list[Any], **_: Any
    ) -> list[float]:
        found = [
            world.score(prompt[-1]["content"], answer[0]["content"], facts)
            for prompt, answer, facts in zip(prompts, completions, metadata, strict=True)
        ]
        rewards.extend(found)
        tokens.extend(sum(token != pad for token in ids) for ids in completion_ids)
        return found

    return demo_rule


def clock(times: list[float]) -> Any:
    """Notes when training begins, and when each step ends."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times.append(time.perf_counter())

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times.append(time.perf_counter())

    return Clock()


if __name__ == "__main__":
    main()
