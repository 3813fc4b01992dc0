"""Make the demo policy once: a small Llama that speaks the demo world and obeys it about half of the time.

`demo_policy` returns a cached Hugging Face folder. The training itself runs in a child process
(`python -m rayalign.demo.models`), because TRL, accelerate and torch keep process-wide state (threads, device,
random generators, environment, loggers) that must not leak into the caller, who may be a Ray actor.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayalign.demo import world
from rayalign.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ '<|' + message['role'] + '|>' }}{{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL_TOKENS = {"pad_token": "<|pad|>", "bos_token": "<|bos|>", "eos_token": "<|eos|>"}
ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")
CONTEXT = 2048
MODEL: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
    # With the default of 0.02 so narrow a model learns to order and to count far more slowly.
    "initializer_range": 0.06,
}
TRAINING: dict[str, Any] = {
    "max_steps": 1_600,
    "per_device_train_batch_size": 32,
    "learning_rate": 2e-3,
    "warmup_steps": 100,
    "lr_scheduler_type": "cosine",
    "optim": "adamw_torch_fused",
    "adam_beta2": 0.99,
    "completion_only_loss": True,
    "max_length": None,
    "train_sampling_strategy": "sequential",  # the rows come in batches of a curriculum
}
_QUIET_ON_CPU: dict[str, Any] = {
    **{"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "dataloader_pin_memory": False},
    **{"disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no", "report_to": []},
}
_BUCKET = 16
_STRIPPED_ENV = ("ACCELERATE_", "FSDP_", "DEEPSPEED_", "TORCHELASTIC_", "WANDB_", "MLFLOW_")
_STRIPPED_NAMES = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} | {
    "HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_MODULES_CACHE", "TRANSFORMERS_CACHE",
}  # fmt: skip


def demo_policy(cache: Path | None = None, seed: int = 0, threads: int = 2) -> Path:
    """Return the folder of the demo policy, training it first if no process has done so before.

    The folder's name holds a digest of everything that determines the weights: this file and the world's, the seed,
    the thread count (it orders floating-point sums) and the library versions. A second process waits for the first.

    Args:
        cache: folder of cached models; by default `$RAYALIGN_CACHE`, else `~/.cache/rayalign`.
        seed: of the world's phrasings, the model's initial weights and the order of training.
        threads: CPU threads for training.

    Raises:
        ModelError: the training process failed; its last words are in the message.
    """
    from filelock import FileLock

    root = cache or Path(os.environ.get("RAYALIGN_CACHE") or Path.home() / ".cache" / "rayalign")
    folder = Path(root).expanduser().absolute() / f"demo-policy-{_digest(seed, threads)}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            _train_into(folder, seed, threads)
    return folder


def _digest(seed: int, threads: int) -> str:
    facts = {
        "sources": [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in (__file__, world.__file__)],
        "libraries": {name: version(name) for name in ("torch", "transformers", "trl", "tokenizers", "accelerate")},
        "seed": seed,
        "threads": threads,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _train_into(folder: Path, seed: int, threads: int) -> None:
    """Train in a child process into a scratch folder and rename the result to `folder`; the caller holds the lock."""
    scratch = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)  # left by a killed process: the lock says that nobody uses it
    scratch.mkdir()
    log = scratch / "train.log"
    command = [sys.executable, "-m", "rayalign.demo.models", str(scratch), str(seed), str(threads)]
    try:
        with log.open("wb") as errors:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=_child_env(scratch, threads),
            )  # fmt: skip
            try:
                _show_progress(child)
                child.wait()
            finally:
                child.kill()  # does nothing to a child that has ended
                child.wait()
        if child.returncode != 0:
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()
            raise ModelError(
                f"training the demo policy ended with exit status {child.returncode}:\n{tail}",
                "the quickstart makes its own small model, with torch, transformers and trl on the CPU",
                "check free memory and disk space, and that the environment holds the pinned library versions",
            )
        (scratch / "model").rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _child_env(scratch: Path, threads: int) -> dict[str, str]:
    """Return the child's environment: offline, on the CPU, outside a caller's distributed job, no files elsewhere."""
    stripped = [name for name in os.environ if name.startswith(_STRIPPED_ENV) or name in _STRIPPED_NAMES]
    env = {name: value for name, value in os.environ.items() if name not in stripped}
    package_root = str(Path(__file__).resolve().parents[2])
    return env | {
        "PYTHONPATH": os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH")))),
        "PYTHONHASHSEED": "0",
        "HF_HOME": str(scratch / "hf"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # Threads that spin while they wait cost up to eight times the time where other processes share the cores.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _show_progress(child: subprocess.Popen[str]) -> None:
    """Draw a progress bar from the child's step numbers, one a line, until it closes its output."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    assert child.stdout is not None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with child.stdout, Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Training the demo policy (once, cached)", total=TRAINING["max_steps"])
        for line in child.stdout:
            progress.update(task, completed=int(line))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer in which every word of the world is one token and any text round-trips."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        # Far above what the corpus needs: merging ends only when every word is one token.
        vocab_size=10_000,
        special_tokens=[*SPECIAL_TOKENS.values(), *ROLE_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_corpus(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **SPECIAL_TOKENS,
        additional_special_tokens=list(ROLE_TOKENS),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _corpus() -> Iterator[str]:
    for row in world.prompts(0):
        yield row["messages"][0]["content"]
    for row in world.sft_rows(0, 4_000):
        yield row["prompt"][0]["content"]
        yield row["completion"][0]["content"]
    # At the start of an answer and after a space, often enough to be merged early.
    for word in world.WORDS:
        yield from (word, f" {word}") * 2


def _build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Any:
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    ids = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in SPECIAL_TOKENS}
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **MODEL, **ids))
    model.generation_config = GenerationConfig(**ids)
    return model


def _tokenized(tokenizer: PreTrainedTokenizerFast, seed: int) -> list[dict[str, list[int]]]:
    """Return the SFT rows as token ids and completion masks; in one call, since TRL goes row by row."""
    rows = world.sft_rows(seed, TRAINING["max_steps"] * TRAINING["per_device_train_batch_size"])
    asked: Any = tokenizer.apply_chat_template(
        [row["prompt"] for row in rows], tokenize=False, add_generation_prompt=True
    )
    whole: Any = tokenizer.apply_chat_template([row["prompt"] + row["completion"] for row in rows], tokenize=False)
    prompts = tokenizer(asked, add_special_tokens=False)["input_ids"]
    texts = tokenizer(whole, add_special_tokens=False)["input_ids"]
    return [
        {"input_ids": text, "completion_mask": [0] * len(prompt) + [1] * (len(text) - len(prompt))}
        for prompt, text in zip(prompts, texts, strict=True)
    ]


def _batched(rows: list[dict[str, list[int]]], seed: int) -> list[dict[str, list[int]]]:
    """Reorder `rows` so that each run of `batch` rows has prompts of similar length (a third of the padding).

    Only within buckets of some batches, which keeps the curriculum; by prompt and not by whole length, because
    batches of answers of one length would teach to count very slowly.
    """
    batch, rng, ordered = TRAINING["per_device_train_batch_size"], random.Random(seed), []
    for start in range(0, len(rows), _BUCKET * batch):
        bucket = sorted(rows[start : start + _BUCKET * batch], key=lambda row: row["completion_mask"].count(0))
        batches = [bucket[place : place + batch] for place in range(0, len(bucket), batch)]
        rng.shuffle(batches)
        ordered += [row for rows_of_batch in batches for row in rows_of_batch]
    return ordered


def _fit(scratch: Path, seed: int, threads: int, report: Callable[[int], None]) -> None:
    """Train in this process and save model, tokenizer and generation config to `scratch`/model."""
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    class Report(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            report(state.global_step)

    class Trainer(SFTTrainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            # The head on the completion tokens alone and none of SFTTrainer's statistics: 40 % less time. With
            # padding on the right and causal attention, no mask is needed either.
            hidden_BTH = model.model(input_ids=inputs["input_ids"], use_cache=False).last_hidden_state[:, :-1]
            labels_BT = inputs["labels"][:, 1:]
            answer_BT = labels_BT != -100
            return torch.nn.functional.cross_entropy(model.lm_head(hidden_BTH[answer_BT]), labels_BT[answer_BT])

    torch.set_num_threads(threads)
    disable_progress_bars()
    tokenizer = build_tokenizer()
    model = _build_model(tokenizer, seed)
    config = SFTConfig(output_dir=str(scratch / "trainer"), seed=seed, **TRAINING, **_QUIET_ON_CPU)
    rows = Dataset.from_list(_batched(_tokenized(tokenizer, seed), seed))
    trainer = Trainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer, callbacks=[Report()])
    trainer.train()
    model.save_pretrained(scratch / "model")
    tokenizer.save_pretrained(scratch / "model")


def main() -> None:
    """Train as the child of `_train_into`: step numbers to stdout, everything the libraries say to stderr."""
    scratch, seed, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    steps = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # A parent that was killed closes the pipe: the next step number then ends this process.
    _fit(scratch, seed, threads, lambda step: print(step, file=steps, flush=True))


if __name__ == "__main__":
    main()
