"""The real learner: Ray Train and DeepSpeed against plain torch, and a worker that dies in the middle of a round."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayalign.config import RunConfig
from rayalign.errors import GuardError
from rayalign.records import TrainingGroup
from rayalign.run_dir import RunDir, parquet_bytes
from rayalign.stages import Groups, TokenSequence
from tests.integration.conftest import model_source, small_config

pytestmark = pytest.mark.integration


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


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def learner(local_ray: None, demo_folder: Path, root: Path) -> Iterator:
    from rayalign.actors.learner import RayLearner

    learner = RayLearner(model_source(demo_folder), learner_config(), root, root / "train", str(root), cpus=0.5)
    learner.ready()
    yield learner
    learner.close()


def test_update_equals_plain_torch(learner, root: Path, demo_folder: Path) -> None:
    """One round of 14 ragged groups in 4 steps: the same LoRA weights as a loop of plain torch.

    Adam turns a rounding error into part of a step (1e-3) where a gradient is all but zero, so single elements get a
    tenth of a step; the mean over all must be a thousand times smaller.
    """
    import torch
    from safetensors.torch import load

    groups = write_groups(root, 14)
    result = learner.update(1, groups, None)
    ours = load(result.adapter.files["adapter_model.safetensors"])
    expected = plain_torch_round(demo_folder, learner_config(), RunDir(root).root / groups.files[0])
    assert ours.keys() == expected.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], expected[name], rtol=0, atol=1e-4)
        assert float((ours[name] - expected[name]).abs().mean()) < 1e-7
    assert result.metrics["steps"] == 4
    moved = max(float(tensor.abs().max()) for name, tensor in ours.items() if "lora_B" in name)
    assert moved > 1e-3


def plain_torch_round(folder: Path, config: RunConfig, file: Path):
    import torch
    from peft import get_peft_model_state_dict

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
    from rayalign.run_dir import read_parquet

    torch.set_num_threads(1)
    groups = [TrainingGroup.from_row(row) for row in read_parquet(file)]
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
    for number, step in enumerate(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(training, 1, number, len(steps))
        units = count_units(config.objectives, [groups[g] for batch in step.ranks[0] for g in batch])
        context = StepContext(config.objectives, 1, "cpu", policy.collate)
        for batch in step.ranks[0]:
            chosen = [groups[g] for g in batch]
            loss, _ = micro_batch_loss(policy, chosen, [references[g] for g in batch], context, units)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.trainable(), training.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return {name: tensor.detach() for name, tensor in get_peft_model_state_dict(policy.model).items()}


def test_same_round_again_gives_the_same_bytes(learner, root: Path) -> None:
    groups = write_groups(root, 6, seed=3)
    first = learner.update(1, groups, None)
    second = learner.update(2, groups, first.adapter)
    assert learner.update(1, groups, None).adapter == first.adapter
    assert learner.update(2, groups, first.adapter).adapter == second.adapter
    assert second.adapter.sha256 != first.adapter.sha256


def test_three_policies(learner, root: Path) -> None:
    """`current`, `round_start` and `base` are three different policies, whatever was asked before."""
    groups = write_groups(root, 6, seed=4)
    first = learner.update(1, groups, None).adapter
    second = learner.update(2, groups, first).adapter
    sequences = [TokenSequence([5, 6, 7], [8, 9])]
    answers = {w: learner.logps(sequences, w, second, first) for w in ("current", "round_start", "base")}
    assert answers["base"] != answers["round_start"] != answers["current"] != answers["base"]
    assert learner.logps(sequences, "current", first) == answers["round_start"]
    assert learner.logps(sequences, "base", None) == answers["base"]


def test_bad_reward_is_an_error_of_the_round_and_not_of_the_worker(learner, root: Path) -> None:
    groups = write_groups(root, 4, reward=float("nan"))
    with pytest.raises((GuardError, ValueError), match="reward"):
        learner.update(1, groups, None)
    assert learner.update(1, write_groups(root, 4), None).metrics["steps"] == 1


def test_worker_killed_in_the_middle_of_a_round(learner, root: Path, wait_for) -> None:
    """Ray Train restarts the group, the coordinator hands it the round again: the same adapter comes out."""
    groups = write_groups(root, 400, seed=7)
    undisturbed = learner.update(1, groups, None).adapter
    (worker,) = learner.ready()

    def kill() -> None:
        time.sleep(1.0)
        os.kill(worker["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    result = learner.update(1, groups, None)
    killer.join()
    (replacement,) = learner.ready()
    assert replacement["pid"] != worker["pid"]
    assert result.adapter == undisturbed
