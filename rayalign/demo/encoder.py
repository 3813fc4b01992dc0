"""Make the demo world's encoder once: a tiny BERT, trained so that right answers to the same constraints are close.

It learns by InfoNCE from pairs of right answers, and knows neither prompts nor the rule. Similarity to a prompt's right
answer then says something about an answer's quality, but not all: `quality.json` in its folder holds how far it agrees
with the rule on flawed answers to held-out prompts.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
from pathlib import Path
from typing import Any

from rayalign.demo import world
from rayalign.demo.cache import CachedModel, Report, child_main
from rayalign.demo.language import build_tokenizer

MODEL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.06,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
STEPS = 500
BATCH = 64
LEARNING_RATE = 2e-3
TEMPERATURE = 0.1
POOLING = "cls"
QUALITY_FILE = "quality.json"
HELD_OUT_PROMPTS, ANSWERS = 250, 8
_MODEL = CachedModel("rayalign.demo.encoder", "encoder", STEPS)


def demo_encoder(cache: Path | None = None, seed: int = 0, threads: int = 1) -> Path:
    """Return the folder of the demo encoder, training it first if no process has done so before.

    Raises:
        ModelError: the training process failed; its last words are in the message.
    """
    return _MODEL.folder(cache, seed, threads)


def quality(folder: Path) -> dict[str, float]:
    """`rank_correlation` and `pair_accuracy` of similarity and rule among the answers to one prompt, both means."""
    return json.loads((folder / QUALITY_FILE).read_text())


def pairs(rng: random.Random, n: int) -> list[tuple[str, str]]:
    """Two right answers to each of `n` different training constraints, about half of which differ by one from another.

    Neighbours make each other's answers the negatives that are hardest to tell apart.
    """
    pool, near = _neighbours()
    chosen: dict[int, None] = {}
    while len(chosen) < n:
        one = rng.randrange(len(pool))
        chosen[one] = None
        if near[one] and len(chosen) < n:
            chosen[rng.choice(near[one])] = None
    return [(world.answer(pool[i], rng), world.answer(pool[i], rng)) for i in chosen]


@functools.cache
def _neighbours() -> tuple[list[world.Constraints], list[list[int]]]:
    """All training constraints, and of each the places of those that differ from it in one kind."""
    pool = world.combinations("train")
    near = [
        [i for i, other in enumerate(pool) if sum(one[kind] != other[kind] for kind in world.KINDS) == 1]
        for one in pool
    ]
    return pool, near


def judged_answers(seed: int, prompts: int, answers: int) -> list[tuple[str, list[str], list[float]]]:
    """(target, answers, the rule's rewards) of held-out constraints; answers have no to three flaws."""
    rng = random.Random(f"demo encoder holdout {seed}")
    combos = world.combinations("holdout")
    rows = []
    for _ in range(prompts):
        constraints = rng.choice(combos)
        target = world.answer(constraints, rng)
        texts = [world.answer(constraints, rng, rng.randint(0, 3)) for _ in range(answers)]
        rows.append((target, texts, [world.score("", text, {"constraints": constraints}) for text in texts]))
    return rows


def _tokenizer() -> Any:
    from tokenizers.processors import TemplateProcessing

    tokenizer = build_tokenizer()
    ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<|bos|>", "<|eos|>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|bos|> $A <|eos|>", special_tokens=ids)
    tokenizer.chat_template = None
    tokenizer.model_max_length = MODEL["max_position_embeddings"]
    return tokenizer


def _fit(scratch: Path, seed: int, threads: int, report: Report) -> None:
    """Train in this process; save model, tokenizer, pooling and quality to `scratch`/model."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **MODEL)
    model = BertModel(config, add_pooling_layer=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS, pct_start=0.1)
    rng = random.Random(f"demo encoder {seed}")
    for step in range(STEPS):
        batch = pairs(rng, BATCH)
        texts = [first for first, _ in batch] + [second for _, second in batch]
        loss = _info_nce(model(**tokenizer(texts, padding=True, return_tensors="pt")).last_hidden_state[:, 0])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        report(step + 1)
    folder = scratch / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (folder / QUALITY_FILE).write_text(json.dumps(_measure(folder, seed)))


def _info_nce(hidden_2BH: Any) -> Any:
    """Each text must find its partner (B rows further) among all other texts of the batch, by cosine."""
    import torch

    vectors_2BH = torch.nn.functional.normalize(hidden_2BH, dim=-1)
    logits = (vectors_2BH @ vectors_2BH.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)).roll(len(logits) // 2))


def _measure(folder: Path, seed: int) -> dict[str, float]:
    """How far similarity to the target orders the answers to one prompt as the rule does."""
    import numpy as np
    from scipy.stats import rankdata

    from rayalign.scoring.models.encoder import Encoder

    encoder = Encoder(folder, POOLING)
    correlations, right, compared = [], 0.0, 0
    for target, texts, rewards in judged_answers(seed, HELD_OUT_PROMPTS, ANSWERS):
        target_D, *vectors = encoder.embed([target, *texts])
        similarities = [float(vector @ target_D) for vector in vectors]
        if len(set(rewards)) > 1:
            correlations.append(float(np.corrcoef(rankdata(similarities), rankdata(rewards))[0, 1]))
        for a, b in itertools.combinations(range(len(texts)), 2):
            if rewards[a] != rewards[b]:
                right += (similarities[a] > similarities[b]) == (rewards[a] > rewards[b])
                compared += 1
    return {"rank_correlation": sum(correlations) / len(correlations), "pair_accuracy": right / compared}


if __name__ == "__main__":
    child_main(_fit)
