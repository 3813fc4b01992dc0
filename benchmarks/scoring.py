"""How fast answers are scored: rules per second in every way they can run, and a reward model beside its bare forward.

    sync, async, batch     a trivial rule in this process: per item, `async def`, on lists
    isolated ...           the same with `timeout_s`: in a child process that survives the rule
    reward model           tokens, batches, records and all, against bare forward passes on the same batches
    remote, cached         the example reward service on loopback, and the same answers again from the cache

    .venv/bin/python benchmarks/scoring.py [--device cuda] [--quick]

The last line is JSON: items per second, and the reward model's share of its bare forward's speed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

RULES = {
    "sync": ("def score(prompt, response): return float(len(response))\n", {}),
    "async": ("async def score(prompt, response): return float(len(response))\n", {}),
    "batch": ("def score(prompts, responses): return [float(len(r)) for r in responses]\n", {"batch": True}),
}
SHAPES = {
    "cpu": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 8},
    "cuda": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 20, "num_attention_heads": 16},
}


def make_inputs(count: int) -> tuple[list[Any], list[Any]]:
    """Prompts of the demo world with answers of 5 to 200 words."""
    from rayalign.demo import world
    from rayalign.records import Prompt, Sample

    rng, rows = random.Random(0), world.prompts()
    prompts, samples = [], []
    for i in range(count):
        row = rows[i % len(rows)]
        text = " ".join(rng.choices(world.WORDS, k=rng.randint(5, 200)))
        prompts.append(Prompt(str(i), row["messages"], [1], metadata=row["metadata"]))
        samples.append(Sample(str(i), 0, text, [1], [0.0], "stop", 0, 0))
    return prompts, samples


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median of some runs, after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure_rules(count: int, repeats: int) -> dict[str, float]:
    from rayalign.scoring.rules.file import RuleSource, compile_rule
    from rayalign.scoring.rules.scorer import IsolatedRuleScorer, RuleScorer

    prompts, samples = make_inputs(count)
    found = {}
    for name, (text, options) in RULES.items():
        source = RuleSource("rule.py", text, "score")
        scorers = {
            name: RuleScorer(name, "1", compile_rule(source), **options),
            f"isolated_{name}": IsolatedRuleScorer(name, source, timeout_s=10.0, **options),
        }
        for label, scorer in scorers.items():
            scores = scorer.score(prompts, samples)
            assert [score.reward for score in scores] == [float(len(sample.text)) for sample in samples]
            found[f"{label}_items_per_s"] = round(count / seconds(lambda s=scorer: s.score(prompts, samples), repeats))
            print(f"{label:16} {found[f'{label}_items_per_s']:>9,} items/s", flush=True)
            scorer.close()
    return found


def measure_reward_model(count: int, repeats: int, device: str) -> dict[str, float]:
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from rayalign.config.rewards import RewardModelScoring
    from rayalign.demo.language import build_tokenizer
    from rayalign.scoring.models.reward_model import RewardModelScorer
    from rayalign.scoring.models.text_model import plan_batches

    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "max_position_embeddings": 2048}
    dtype = "float32" if device == "cpu" else "bfloat16"
    with tempfile.TemporaryDirectory() as folder:
        LlamaForSequenceClassification(LlamaConfig(**SHAPES[device], **ids, num_labels=1)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        section = RewardModelScoring(type="reward_model", model=folder, dtype=dtype)
        scorer = RewardModelScorer(section, Path(folder), "", device)
    prompts, samples = make_inputs(count)
    rows = scorer.tokens(prompts, samples)
    batches = []
    for places in plan_batches([len(row) for row in rows], section.tokens_per_batch):
        longest = max(len(rows[place]) for place in places)
        padded = [rows[place] + [tokenizer.pad_token_id] * (longest - len(rows[place])) for place in places]
        batch = torch.tensor(padded, device=device)
        batches.append((batch, (batch != tokenizer.pad_token_id).long()))

    @torch.inference_mode()
    def bare() -> None:
        for batch, mask in batches:
            scorer._model(input_ids=batch, attention_mask=mask).logits.float().cpu()

    # In turns, so that a machine that slows down slows both; the first of each does not count.
    ours, theirs = [], []
    for _ in range(repeats + 1):
        theirs.append(timed(bare))
        ours.append(timed(lambda: scorer.score(prompts, samples)))
    wall, cpu = (statistics.median(t[i] / o[i] for t, o in zip(theirs[1:], ours[1:], strict=True)) for i in (0, 1))
    rate = count / statistics.median(wall for wall, _ in ours[1:])
    tokens = sum(map(len, rows)) / count
    print(f"reward model     {rate:9.1f} items/s of {tokens:.0f} tokens; share of the bare forward's speed {wall:.3f}")
    shares = {"reward_model_vs_bare": round(wall, 3), "reward_model_vs_bare_by_cpu_time": round(cpu, 3)}
    return {"reward_model_items_per_s": round(rate, 1), **shares}


def measure_cache(count: int, repeats: int) -> dict[str, float]:
    """The same answers scored again: the service is stopped by then, so that every score is a hit."""
    from rayalign.config.run import RunConfig
    from rayalign.scoring.service_scorers import build_service
    from rayalign.scoring.sources import ScorerSource

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    section = {"type": "remote", "url": f"http://127.0.0.1:{port}/score", "limits": {"retries": 8}}
    config = RunConfig.model_validate({
        "model": {"base": "demo"}, "prompts": {"source": "demo"}, "scoring": [section], "objective": {"type": "nca"},
    })  # fmt: skip
    prompts, samples = make_inputs(count)
    with tempfile.TemporaryDirectory() as folder:
        service = build_service(config.scoring[0], ScorerSource(), config.scorer_settings, Path(folder))
        server = subprocess.Popen([sys.executable, str(ROOT / "examples" / "reward_server.py"), str(port)])
        try:
            first: list[Any] = []
            wall, _ = timed(lambda: first.extend(service.score(prompts, samples)))
        finally:
            server.terminate()
            server.wait()
        again = service.score(prompts, samples)
        assert [score.reward for score in again] == [score.reward for score in first]
        assert all(score.status == "ok" for score in again)
        cached = seconds(lambda: service.score(prompts, samples), repeats)
        service.close()
    found = {"remote_items_per_s": round(count / wall), "cached_items_per_s": round(count / cached)}
    print(f"remote           {found['remote_items_per_s']:>9,} items/s")
    print(f"cached           {found['cached_items_per_s']:>9,} items/s", flush=True)
    return found


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of CPU: the second tells more where other processes share the cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="fewer items and repeats")
    parser.add_argument("--items", type=int, default=50_000, help="for the rules")
    parser.add_argument("--texts", type=int, default=256, help="for the reward model")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.quick:
        args.items, args.texts, args.repeats = 10_000, 64, 3
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    found = measure_rules(args.items, args.repeats)
    found |= measure_reward_model(args.texts, args.repeats, args.device)
    found |= measure_cache(args.items // 10, args.repeats)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
