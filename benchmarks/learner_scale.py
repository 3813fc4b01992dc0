"""How the cost of a round's update grows with its groups: seconds per response token, and peak memory.

Each size runs in a process of its own: the real worker under DeepSpeed on a small random Llama, from the round's
Parquet file to the adapter, its reference pass included, after a first update that is not counted. Small rounds are
repeated until they have taken a good part of the time of the large one: a second alone says little about a minute.

    .venv/bin/python benchmarks/learner_scale.py

The last line is JSON: seconds per response token of the largest round over the smallest one's, the same of peak memory,
and by how much memory grew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
SIZES = (64, 512, 4096)
K = 4
VOCAB = 512


def write_model(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    shape = {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(**shape, vocab_size=VOCAB, max_position_embeddings=1024)).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1", unk_token="w0").save_pretrained(folder)


def write_groups(path: Path, count: int) -> int:
    """Returns how many response tokens there are."""
    from rayalign.records import TrainingGroup
    from rayalign.store.tables import parquet_bytes

    rng, total, rows = random.Random(0), 0, []

    def tokens(low: int, high: int) -> list[int]:
        return [rng.randrange(3, VOCAB) for _ in range(rng.randint(low, high))]

    for i in range(count):
        responses = [tokens(16, 64) for _ in range(K)]
        logprobs = [[-6.0] * len(response) for response in responses]
        rewards = [rng.random() for _ in responses]
        group = TrainingGroup(str(i), tokens(32, 128), list(range(K)), responses, logprobs, rewards)
        rows.append(group.to_row())
        total += sum(map(len, responses))
    path.write_bytes(parquet_bytes(rows, TrainingGroup.schema()))
    return total


def child(folder: Path, count: int) -> None:
    os.environ |= {"DS_ACCELERATOR": "cpu", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    import torch
    import torch.distributed as dist

    torch.set_num_threads(os.cpu_count() or 1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous-{count}", rank=0, world_size=1)
    from rayalign.actors.coordinator import UpdateWork
    from rayalign.actors.learner_worker import LearnerWorker
    from rayalign.config.run import RunConfig
    from rayalign.store.folder import Folder

    config: dict[str, Any] = {
        "model": {"base": "demo"},
        "prompts": {"source": "demo"},
        "scoring": [{"type": "rule", "function": "demo"}],
        "objective": {"type": "nca"},
        "training": {"learning_rate": 1e-4},
    }
    worker = LearnerWorker(RunConfig.model_validate(config), folder / "model", 0, 1)
    worker.update(UpdateWork(1, Folder(folder), [f"{min(SIZES)}.parquet"], None, None))
    seconds, losses = [], set()
    for _ in range(max(1, max(SIZES) // (4 * count))):
        result = worker.update(UpdateWork(1, Folder(folder), [f"{count}.parquet"], None, None))
        assert result is not None
        seconds.append(result.metrics["seconds"])
        losses.add(result.metrics["loss"])
    assert len(losses) == 1, "the same round, from the same weights"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": sum(seconds) / len(seconds), "fastest": min(seconds), "memory": memory}))
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.folder, args.child)
        return
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model")
        for count in SIZES:
            tokens = write_groups(folder / f"{count}.parquet", count)
            command = [sys.executable, __file__, "--child", str(count), "--folder", name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{count} groups failed:\n{done.stderr[-3000:]}")
            result = json.loads(done.stdout.splitlines()[-1])
            found.append({"per_token": result["seconds"] / tokens, "memory": result["memory"]})
            speed, memory = 1e6 * found[-1]["per_token"], result["memory"] / 2**20
            print(f"{count:5} groups  {tokens:8} response tokens  {result['seconds']:7.2f} s", end="  ")
            fastest = 1e6 * result["fastest"] / tokens
            print(f"{speed:6.1f} us per token (fastest {fastest:.1f})  {memory:7.0f} MiB", flush=True)
    first, last = found[0], found[-1]
    print(json.dumps({
        "time_per_token_4096_vs_64": round(last["per_token"] / first["per_token"], 3),
        "memory_4096_vs_64": round(last["memory"] / first["memory"], 3),
        "memory_growth_mib": round((last["memory"] - first["memory"]) / 2**20),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
