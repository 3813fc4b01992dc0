"""A whole run whose base has bfloat16 weights, with two learner workers; what that costs a token's log-ratio."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from rayalign.records import AdapterFiles
from rayalign.store.run_dir import RunDir
from tests.integration.test_run import check_complete, finish, start

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ANSWERS = 64
Tokens = tuple[list[int], list[int]]


@pytest.fixture(scope="module")
def run_dir(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("runs")
    output = finish(start(folder, "model.dtype=bfloat16", "training.workers=2"))
    assert "Traceback" not in output
    return RunDir(folder / "quickstart")


def test_every_round_is_trained_proven_and_better(run_dir: RunDir) -> None:
    check_complete(run_dir)
    assert {one["name"] for one in run_dir.info["attempts"][-1]["actors"]} >= {"learner-0", "learner-1"}
    reports = [round_dir.report() or {} for round_dir in run_dir.rounds()]
    for report in reports[1:]:
        assert report["sync"]["canary_gap"] < 0.02 < report["sync"]["moved"]
    rates = [report["metrics"]["pass_rate"]["value"] for report in reports]
    assert rates[0] + 0.1 < min(rates[1:])


def test_log_ratios_are_those_of_float32_within_the_noise_of_the_layers(run_dir: RunDir, demo_folder: Path) -> None:
    """Adapter minus base of each sampled token, by the learner's own path."""
    import torch

    round_dir = run_dir.round(2)
    adapter = round_dir.adapter()
    assert adapter is not None and adapter.files is not None
    prompts = {prompt.id: prompt.token_ids for prompt in round_dir.read_prompts(0, 1 << 10)}
    sampled = [row.sample for shard in round_dir.shards("train") for row in round_dir.read_shard("train", shard) or []]
    rows = [(prompts[sample.prompt_id], sample.token_ids) for sample in sampled[:ANSWERS]]
    exact = torch.tensor(log_ratios(demo_folder, "float32", adapter.files, rows))
    found = torch.tensor(log_ratios(demo_folder, "bfloat16", adapter.files, rows))
    gap = (found - exact).abs().mean()
    rms = (found - exact).square().mean().sqrt()
    print(f"{len(exact)} tokens: mean |log-ratio| {exact.abs().mean():.4f}, |difference| {gap:.4f}, rms {rms:.4f}")
    print(f"mean log-ratio {exact.mean():.4f} in float32, {found.mean():.4f} in bfloat16")
    assert gap < 0.2 * exact.abs().mean()
    assert abs(found.mean() - exact.mean()) < 0.05 * exact.abs().mean()


def log_ratios(
    base: Path, dtype: Literal["float32", "bfloat16"], adapter: AdapterFiles, rows: list[Tokens]
) -> list[float]:
    import torch

    from rayalign.config.model import LoraSection, ModelSection
    from rayalign.learning.model import build_policy
    from rayalign.learning.step import token_logps_of

    lora = LoraSection(r=16, alpha=32, targets="all-linear")
    policy = build_policy(base, ModelSection(base=str(base), dtype=dtype, lora=lora))
    policy.load_adapter(adapter.files)
    policy.eval()

    def logps() -> list[float]:
        found = token_logps_of(policy, rows, "cpu", 2048, policy.collate, packed=policy.shares_prompts)
        return [logp for row in found for logp in row]

    with torch.no_grad():
        adapted = logps()
        with policy.base_only():
            return [one - other for one, other in zip(adapted, logps(), strict=True)]
