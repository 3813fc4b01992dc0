"""The real learner: Ray Train and DeepSpeed against plain torch, and a worker that dies in the middle of a round."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rayalign.errors import GuardError
from rayalign.losses.nca import nca_loss
from rayalign.records import Groups, TokenSequence, TrainingGroup, Which
from rayalign.store.tables import parquet_bytes, read_parquet
from tests.integration.conftest import model_source
from tests.integration.learner_cases import learner_config, plain_torch_round, write_groups

pytestmark = pytest.mark.integration


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
    result = learner.update(1, groups, None, None)
    ours = load(result.adapter.files["adapter_model.safetensors"])
    expected, losses = plain_torch_round(demo_folder, learner_config(), root / groups.files[0])
    assert [step["loss"] for step in result.steps] == pytest.approx(losses, abs=1e-5)
    assert ours.keys() == expected.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], expected[name], rtol=0, atol=1e-4)
        assert float((ours[name] - expected[name]).abs().mean()) < 1e-7
    assert result.metrics["steps"] == 4
    moved = max(float(tensor.abs().max()) for name, tensor in ours.items() if "lora_B" in name)
    assert moved > 1e-3


def test_same_round_again_gives_the_same_bytes(learner, root: Path) -> None:
    groups = write_groups(root, 6, seed=3)
    first = learner.update(1, groups, None, None)
    second = learner.update(2, groups, first.adapter, first.adapter)
    assert learner.update(1, groups, None, None).adapter == first.adapter
    assert learner.update(2, groups, first.adapter, first.adapter).adapter == second.adapter
    assert second.adapter.sha256 != first.adapter.sha256


def test_the_reference_is_the_policy_that_sampled(learner, root: Path) -> None:
    """A stale round starts from `first` and compares with the base, which sampled; the loss of its one step by hand."""
    import torch

    groups = write_groups(root, 4, seed=5)
    first = learner.update(1, groups, None, None).adapter
    (objective,) = learner_config().objectives
    rows = [TrainingGroup.from_row(row) for row in read_parquet(root / groups.files[0])]

    def loss(reference: Which) -> float:
        found = []
        for row in rows:
            asked = [TokenSequence(row.prompt_token_ids, response) for response in row.response_token_ids]
            policy_GK, other_GK = (
                torch.tensor([[sum(logps) for logps in learner.logps(asked, which, first)]])
                for which in ("current", reference)
            )
            rewards_GK = torch.tensor([row.rewards])
            found.append(nca_loss(policy_GK, other_GK, rewards_GK, alpha=objective.alpha, beta=objective.beta).loss)
        return float(torch.stack(found).mean())

    fresh, stale = (learner.update(2, groups, first, sampler).steps[0]["loss"] for sampler in (first, None))
    assert fresh == pytest.approx(loss("current"), abs=1e-5)
    assert stale == pytest.approx(loss("base"), abs=1e-5) and abs(stale - fresh) > 1e-3


@pytest.mark.parametrize(("shift", "taken"), [(5e-4, True), (2e-3, False)])
def test_the_generators_reference_is_taken_where_it_is_the_learners(
    learner, root: Path, shift: float, taken: bool
) -> None:
    """Groups whose log-probabilities from sampling are the learner's own and a little; `training.reference_logps` is
    `auto`. A step's loss tells which were compared with: the learner's own ratios are 0 before the first step."""
    groups = write_groups(root, 4, seed=6)
    rows = [TrainingGroup.from_row(row) for row in read_parquet(root / groups.files[0])]
    asked = [TokenSequence(row.prompt_token_ids, tokens) for row in rows for tokens in row.response_token_ids]
    known = iter(learner.logps(asked, "base", None))
    changed = [
        {**row.to_row(), "response_logprobs": [[logp + shift for logp in next(known)] for _ in row.response_token_ids]}
        for row in rows
    ]
    (root / "known.parquet").write_bytes(parquet_bytes(changed, TrainingGroup.schema()))
    own, theirs = (learner.update(1, one, None, None) for one in (groups, Groups(["known.parquet"], 4, {})))
    assert own.metrics["reference_gap"] > 0.1, "the groups say -1 nat for every token"
    assert theirs.metrics["reference_gap"] == pytest.approx(shift, abs=1e-5)
    differs = abs(theirs.steps[0]["loss"] - own.steps[0]["loss"])
    assert differs > 1e-6 if taken else differs == 0
    assert (theirs.adapter == own.adapter) == (not taken)


def test_three_policies(learner, root: Path) -> None:
    """`current`, `round_start` and `base` are three different policies, whatever was asked before."""
    groups = write_groups(root, 6, seed=4)
    first = learner.update(1, groups, None, None).adapter
    second = learner.update(2, groups, first, first).adapter
    sequences = [TokenSequence([5, 6, 7], [8, 9])]
    answers = {w: learner.logps(sequences, w, second, first) for w in ("current", "round_start", "base")}
    assert answers["base"] != answers["round_start"] != answers["current"] != answers["base"]
    assert learner.logps(sequences, "current", first) == answers["round_start"]
    assert learner.logps(sequences, "base", None) == answers["base"]


def test_bad_reward_is_an_error_of_the_round_and_not_of_the_worker(learner, root: Path) -> None:
    groups = write_groups(root, 4, reward=float("nan"))
    with pytest.raises((GuardError, ValueError), match="reward"):
        learner.update(1, groups, None, None)
    assert learner.update(1, write_groups(root, 4), None, None).metrics["steps"] == 1


def controller_of(worker: int) -> int:
    """Ray Train's, which runs beside its worker."""
    beside = psutil.Process(worker).parent()
    assert beside is not None
    return next(one.pid for one in beside.children() if "ray::TrainController" in " ".join(one.cmdline()))


@pytest.mark.parametrize("victim", ["worker", "controller"])
def test_killed_in_the_middle_of_a_round(learner, root: Path, victim: str) -> None:
    """Ray Train restarts the group, or is itself started anew; the coordinator hands the round out again, and the same
    adapter comes out."""
    groups = write_groups(root, 400, seed=7)
    undisturbed = learner.update(1, groups, None, None).adapter
    (worker,) = learner.ready()

    def kill() -> None:
        time.sleep(1.0)
        os.kill(worker["pid"] if victim == "worker" else controller_of(worker["pid"]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    result = learner.update(1, groups, None, None)
    killer.join()
    (replacement,) = learner.ready()
    assert replacement["pid"] != worker["pid"]
    assert result.adapter == undisturbed


def test_an_error_on_one_of_two_ranks_ends_the_wait_for_both(local_ray: None, demo_folder: Path, root: Path) -> None:
    """The other rank waits for it inside a collective, which nobody waits for."""
    from rayalign.actors.learner import RayLearner

    groups = write_groups(root, 8, seed=8)
    rows = [TrainingGroup.from_row(row).to_row() for row in read_parquet(root / groups.files[0])]
    rows[3]["rewards"][0] = float("nan")
    (root / "one_bad.parquet").write_bytes(parquet_bytes(rows, TrainingGroup.schema()))
    config = learner_config(group_batch=8, workers=2)
    learner = RayLearner(model_source(demo_folder), config, root, root / "two", str(root), cpus=0.5)
    try:
        assert len(learner.ready()) == 2
        with pytest.raises((GuardError, ValueError), match="reward"):
            learner.update(1, Groups(["one_bad.parquet"], 8, {}), None, None)
    finally:
        learner.close()


@pytest.mark.slow
def test_a_worker_out_of_memory_tries_again_with_half_the_tokens(
    local_ray: None, demo_folder: Path, root: Path
) -> None:
    """The first worker may take half a gigabyte more than it has, enough for threads and files; the next one any."""
    from rayalign.actors.learner import RayLearner

    groups = write_groups(root, 800, seed=7)
    config = learner_config(group_batch=800, tokens_per_micro_batch=65_536)
    learner = RayLearner(model_source(demo_folder), config, root, root / "scarce", str(root), cpus=0.5)
    try:
        [described] = learner.ready()
        worker = psutil.Process(described["pid"])
        worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + 2**29, -1))
        result = learner.update(1, groups, None, None)
        assert result.metrics["budget_halvings"] == 1 and result.metrics["steps"] == 1
        assert not worker.is_running()
        # What comes later keeps to it.
        assert learner.update(2, groups, result.adapter, result.adapter).metrics["budget_halvings"] == 1
    finally:
        learner.close()
