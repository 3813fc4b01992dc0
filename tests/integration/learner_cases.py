"""Groups to learn from, and the same round in plain torch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rayalign.config.run import RunConfig
from rayalign.config.training import TrainingSection
from rayalign.records import Groups, TrainingGroup, weights_file
from rayalign.store.tables import parquet_bytes
from tests.integration.conftest import small_config


def write_groups(root: Path, count: int, *, seed: int = 0, reward: float | None = None) -> Groups:
    """Ragged groups of random tokens: 2-5 responses of 1-12 tokens."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        size = rng.randint(2, 5)
        tokens = [[rng.randrange(3, 90) for _ in range(rng.randint(1, 12))] for _ in range(size)]
        group = TrainingGroup(
            prompt_id=f"p{i:03d}",
            prompt_token_ids=[rng.randrange(3, 90) for _ in range(rng.randint(3, 20))],
            response_indices=list(range(size)),
            response_token_ids=tokens,
            response_logprobs=[[-1.0] * len(t) for t in tokens],
            rewards=[rng.random() if reward is None else reward for _ in range(size)],
        )
        rows.append(group.to_row())
    name = f"groups-{count}-{seed}.parquet"
    (root / name).write_bytes(parquet_bytes(rows, TrainingGroup.schema()))
    return Groups([name], count, {})


def learner_config(**training: object) -> RunConfig:
    return small_config(training={"group_batch": 4, "tokens_per_micro_batch": 120, "learning_rate": 1e-3, **training})


def groups_of(rank: int, workers: int, groups: Sequence[TrainingGroup], training: TrainingSection) -> list[int]:
    """Which groups a worker has in the first round, in order; the model shares prompts."""
    from rayalign.learning.plan import plan_steps
    from rayalign.learning.step import group_tokens
    from rayalign.learning.streams import streams_of

    tokens = [group_tokens(streams_of(group, {"response"}), packed=True) for group in groups]
    steps = plan_steps(tokens, seed=0, round_index=1, epochs=1, group_batch=training.group_batch,
                       tokens_per_micro_batch=training.tokens_per_micro_batch, workers=workers)  # fmt: skip
    return sorted({group for step in steps for batch in step.ranks[rank] for group in batch})


def plain_torch_round(folder: Path, config: RunConfig, file: Path) -> tuple[dict[str, Any], list[float]]:
    """(trained weights, loss of each step) after the first round, from a loop without Ray and DeepSpeed."""
    import torch
    from safetensors.torch import load

    from rayalign.learning.model import build_policy
    from rayalign.learning.objective import count_units
    from rayalign.learning.plan import plan_steps
    from rayalign.learning.step import (
        StepContext,
        group_tokens,
        learning_rate,
        micro_batch_loss,
        reference_sums,
        token_logps_of,
    )
    from rayalign.learning.streams import streams_of
    from rayalign.store.folder import Folder
    from rayalign.store.tables import read_parquet

    torch.set_num_threads(1)
    groups = [TrainingGroup.from_row(row) for row in read_parquet(Folder(file))]
    policy = build_policy(folder, config.model)
    policy.reset_adapter(config.run.seed)
    references = reference_sums(
        lambda rows: token_logps_of(policy, rows, "cpu", 10**6, policy.collate),
        dict(enumerate(groups)),
        config.objectives,
    )
    training = config.training
    tokens = [group_tokens(streams_of(g, {"response"}), packed=policy.shares_prompts) for g in groups]
    steps = plan_steps(tokens, seed=0, round_index=1, epochs=1, group_batch=training.group_batch,
                       tokens_per_micro_batch=training.tokens_per_micro_batch, workers=1)  # fmt: skip
    optimizer = torch.optim.AdamW(policy.trainable(), weight_decay=0.0)
    losses = []
    for number, step in enumerate(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(training, 1, number, len(steps))
        units = count_units(config.objectives, [groups[g] for batch in step.ranks[0] for g in batch])
        context = StepContext(config.objectives, 1, "cpu", policy.collate)
        losses.append(0.0)
        for batch in step.ranks[0]:
            chosen = [groups[g] for g in batch]
            loss, _ = micro_batch_loss(policy, chosen, [references[g] for g in batch], context, units)
            loss.backward()
            losses[-1] += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(policy.trainable(), training.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    files = policy.adapter_files("demo")
    return load(files[weights_file(files)]), losses
