"""DeepSpeed ZeRO 1, 2 and 3 on one and two workers, without Ray: all are the same round."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.run import RunConfig
from rayalign.records import FULL_WEIGHTS, TrainingGroup
from rayalign.store.folder import Folder
from rayalign.store.tables import read_parquet
from tests.integration.learner_cases import groups_of, learner_config, plain_torch_round, write_groups
from tests.integration.learner_ranks import ROWS
from tests.processes import run_ranks

pytestmark = pytest.mark.integration
GROUPS = 14
STEPS = {"group_batch": 3}
"""Five steps."""

SAME: dict[str, dict[str, Any]] = {
    "zero1": {},
    "zero2": {"zero_stage": 2},
    "zero3": {"zero_stage": 3},
    "one group at a time": {"tokens_per_micro_batch": 1},
    "all groups at once": {"tokens_per_micro_batch": 10**6, "zero_stage": 3},
    "checkpointing": {"gradient_checkpointing": True, "zero_stage": 2},
    "checkpointing zero3": {"gradient_checkpointing": True, "zero_stage": 3},
    "paged": {"optimizer": "paged_adamw", "zero_stage": 2},
    "two layers remade": {"gradient_checkpointing": 2},
    "two layers remade zero3": {"gradient_checkpointing": 2, "zero_stage": 3},
    "optimizer offloaded": {"offload": ["optimizer"]},
    "optimizer offloaded zero2": {"offload": ["optimizer"], "zero_stage": 2},
    "parameters offloaded": {"offload": ["parameters"], "zero_stage": 3},
    "both offloaded": {"offload": ["optimizer", "parameters"], "zero_stage": 3},
}
FULL = {f"all weights zero{stage}": {"zero_stage": stage, "learning_rate": 1e-4} for stage in (1, 2)}
GENERATOR = "reference from the generator"
QUANTISED = {f"{kind} zero{stage}": (kind, stage) for kind in ("nf4", "int8") for stage in (1, 2)}
AUTO = "alpha by the rewards"
ALPHA = 0.1
"""The default."""
DIVERGES = {f"diverges zero{stage}": {"zero_stage": stage, "learning_rate": 1e30} for stage in (1, 2, 3)}


def variants() -> dict[str, RunConfig]:
    configs = {name: learner_config(**STEPS, **training) for name, training in {**SAME, **DIVERGES}.items()}
    configs |= {name: all_weights(learner_config(**STEPS, **training)) for name, training in FULL.items()}
    auto = {"objective": {"type": "nca", "alpha": "auto"}}
    configs[AUTO] = RunConfig.model_validate({**learner_config(**STEPS).to_dict(), **auto})
    configs[GENERATOR] = learner_config(**STEPS, reference_logps="generator")
    for name, (kind, stage) in QUANTISED.items():
        configs[name] = quantised(learner_config(**STEPS, zero_stage=stage), kind)
    return configs


def quantised(config: RunConfig, kind: str) -> RunConfig:
    return RunConfig.model_validate({**config.to_dict(), "model": {"base": "demo", "quantization": kind}})


def all_weights(config: RunConfig) -> RunConfig:
    return RunConfig.model_validate({**config.to_dict(), "model": {"base": "demo", "full": True}})


@pytest.fixture(scope="module", params=[pytest.param(1, marks=pytest.mark.slow), 2], ids=["1 worker", "2 workers"])
def results(request: pytest.FixtureRequest, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What every variant gave, by name."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    groups = write_groups(folder, GROUPS)
    job = {"model": str(demo_folder), "folder": str(folder), "files": groups.files, "out": str(folder),
           "reward_spread": ALPHA,
           "variants": {name: config.to_dict() for name, config in variants().items()}}  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    run_ranks("tests.integration.learner_ranks", request.param, folder / "job.json")
    found = {name: pickle.loads((folder / f"{name}.pickle").read_bytes()) for name in job["variants"]}
    return {"model": demo_folder, "folder": folder, "file": groups.files[0], "workers": request.param, **found}


@pytest.mark.parametrize("name", SAME)
def test_every_stage_is_plain_torch(results: Any, name: str, demo_folder: Path) -> None:
    """As in `test_learner`: single elements whose gradient is all but zero may differ by a tenth of a step."""
    import torch
    from safetensors.torch import load

    expected, losses = plain_torch_round(demo_folder, learner_config(**STEPS), results["folder"] / results["file"])
    first = results[name]["first"]
    assert [step["loss"] for step in first.steps] == pytest.approx(losses, abs=1e-5)
    assert len(losses) == 5
    ours = load(first.adapter.files["adapter_model.safetensors"])
    assert ours.keys() == expected.keys()
    for tensor in ours:
        torch.testing.assert_close(ours[tensor], expected[tensor], rtol=0, atol=1e-4)
        assert float((ours[tensor] - expected[tensor]).abs().mean()) < 1e-6


@pytest.mark.parametrize("name", FULL)
def test_all_weights_are_plain_torchs(results: Any, name: str, demo_folder: Path) -> None:
    """Clipped and stepped over every weight, the tied one once. Five steps of at most 1e-4 each."""
    import torch
    from safetensors.torch import load, load_file

    config = all_weights(learner_config(**STEPS, **FULL[name]))
    expected, losses = plain_torch_round(demo_folder, config, results["folder"] / results["file"])
    first = results[name]["first"]
    assert [step["loss"] for step in first.steps] == pytest.approx(losses, abs=1e-5)
    ours, base = load(first.adapter.files[FULL_WEIGHTS]), load_file(demo_folder / FULL_WEIGHTS)
    assert ours.keys() == expected.keys() == base.keys()
    for tensor in ours:
        torch.testing.assert_close(ours[tensor], expected[tensor], rtol=0, atol=1e-4)
        assert float((ours[tensor] - expected[tensor]).abs().mean()) < 1e-6
        assert float((ours[tensor] - base[tensor]).abs().max()) > 1e-4


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_losses_of_five_steps_are_plain_torchs(results: Any, name: str, demo_folder: Path) -> None:
    config = quantised(learner_config(**STEPS), QUANTISED[name][0])
    _, losses = plain_torch_round(demo_folder, config, results["folder"] / results["file"])
    assert [step["loss"] for step in results[name]["first"].steps] == pytest.approx(losses, abs=1e-3)
    assert len(losses) == 5


@pytest.mark.parametrize("name", [*SAME, *FULL, *QUANTISED])
def test_rounds_follow_each_other(results: Any, name: str) -> None:
    """The second round starts from the first one's adapter with fresh optimizer state, and the base stays the base."""
    found = results[name]
    assert found["base"] == found["before"] == found["after_all"]
    assert found["trained"] != found["base"]
    assert found["second_again"].adapter == found["second"].adapter != found["first"].adapter


@pytest.mark.parametrize("name", [*SAME, *FULL, *QUANTISED, *DIVERGES])
def test_no_engine_outlives_its_round(results: Any, name: str) -> None:
    """Each would hold an optimizer's state, and be called at each forward pass. Under ZeRO 3 one is always open."""
    assert results[name]["engines"] == (variants()[name].training.zero_stage == 3)


@pytest.mark.parametrize("name", list(SAME))
def test_log_probs_come_in_the_order_of_what_was_asked(results: Any, demo_folder: Path, name: str) -> None:
    """Workers share them out: of three rows one worker has one and the other two; of one row one has none."""
    from rayalign.learning.model import build_policy
    from rayalign.learning.step import token_logps_of

    policy = build_policy(demo_folder, learner_config().model).eval()
    with policy.base_only():
        expected = token_logps_of(policy, ROWS, "cpu", 4096)
    found = results[name]
    assert [len(row) for row in found["base"]] == [3, 1, 3] and len(found["alone"]) == 1
    for row, other in zip([*found["base"], *found["alone"]], [*expected, expected[0]], strict=True):
        assert row == pytest.approx(other, abs=2e-5)


@pytest.mark.parametrize("name", [name for name, training in SAME.items() if training.get("zero_stage") == 3])
def test_zero_3_never_holds_the_whole_base(results: Any, name: str) -> None:
    """Until the learner is ready, beside what stage 1 has besides: a worker's part and one parameter."""
    from safetensors.numpy import load_file

    sizes = [tensor.nbytes for tensor in load_file(results["model"] / FULL_WEIGHTS).values()]
    beside = results["zero1"]["peak"] - sum(sizes)
    assert beside > 0
    most = sum(sizes) / results["workers"] + max(sizes)
    assert results[name]["peak"] - beside <= most
    if results["workers"] > 1:
        assert most < 0.8 * sum(sizes)


def test_reference_from_the_generator(results: Any) -> None:
    """The groups say -1 nat for every token (`write_groups`), which is not what the learner finds: the gap is told, of
    the first groups that each worker has."""
    import torch

    from rayalign.actors.learner_worker import COMPARED
    from rayalign.learning.model import build_policy
    from rayalign.learning.packing import collate_padded

    ours, learners = results[GENERATOR]["first"], results["zero1"]["first"]
    assert ours.steps[0]["loss"] != pytest.approx(learners.steps[0]["loss"], abs=1e-3)
    model = build_policy(results["model"], learner_config().model)
    model.reset_adapter(0)
    rows = [TrainingGroup.from_row(row) for row in read_parquet(Folder(results["folder"] / results["file"]))]
    workers, gaps = results["workers"], []
    training = learner_config(**STEPS).training
    compared = [index for rank in range(workers) for index in groups_of(rank, workers, rows, training)[:COMPARED]]
    for group in [rows[index] for index in compared]:
        with torch.no_grad():
            batch = collate_padded([(group.prompt_token_ids, tokens) for tokens in group.response_token_ids])
            gaps += (model(batch) + 1.0).abs().tolist()
    assert ours.metrics["reference_gap"] == pytest.approx(sum(gaps) / len(gaps), rel=1e-4)


def test_an_alpha_that_the_rewards_set_is_every_workers(results: Any) -> None:
    """The same number, given or taken from the rewards' spread, makes the same round; the metrics have it."""
    ours, given = results[AUTO], results["zero1"]
    assert ours["first"].adapter == given["first"].adapter
    assert ours["first"].metrics["alpha"] == ALPHA and "alpha" not in given["first"].metrics
    assert ours["second"].adapter != given["second"].adapter, "with the next round's own"


@pytest.mark.parametrize("name", DIVERGES)
def test_what_is_not_finite_is_never_stepped_on(results: Any, name: str) -> None:
    """The first step throws the weights away; the second one's loss is refused on all workers, twice the same way."""
    found = results[name]
    assert len(found["refused"]) == 2
    assert all("not finite" in message and "round 1" in message for message in found["refused"])
    assert found["base"] == found["after_all"]
