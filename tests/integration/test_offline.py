"""CUT on real judgments: one round over the whole file, without sampling, served by vLLM at the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rayalign.demo.policy import demo_policy
from rayalign.learning.folders import load_tokenizer
from rayalign.records import ADAPTER_WEIGHTS, FROM_DATASET
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import read_parquet

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
JUDGMENTS = ROOT.parent / "shared" / "data" / "cut_judgments_iter1.json"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> RoundDir:
    """The only round of `configs/cut_offline.yaml` on the file."""
    if not JUDGMENTS.exists():
        pytest.skip(f"{JUDGMENTS} is not there")
    folder = tmp_path_factory.mktemp("offline")
    settings = [f"samples.source={JUDGMENTS}", f"run.dir={folder}", "prompts.holdout=32", "evaluation.greedy=false"]
    command = [sys.executable, "-m", "rayalign", "run", str(ROOT / "configs" / "cut_offline.yaml")]
    done = subprocess.run(
        [*command, *(part for text in settings for part in ("--set", text))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return RunDir(folder / "cut-offline").round(1)


def test_every_row_is_read_and_positives_are_down_sampled(first: RoundDir) -> None:
    """287 flawed rows and int(287 x 0.25) = 71 of the 713 others; the rest is set aside by name."""
    rows = [row for shard in range(32) for row in first.read_shard("train", shard) or []]
    verdicts = [row.scores[0].verdict for row in rows]
    assert (verdicts.count("flawed"), verdicts.count("perfect"), len(rows)) == (287, 713, 1000)
    assert {row.sample.adapter_version for row in rows} == {FROM_DATASET}
    groups = first.committed("groups")
    assert groups is not None
    assert groups["groups"]["stats"] == {
        "responses": 358.0, "negatives": 287.0, "positives": 713.0, "positives_kept": 71.0,
    }  # fmt: skip
    assert groups["groups"]["dropped"] == {"only_positives_set_aside": 642}


def test_both_streams_of_every_row_end_in_the_same_tokens(first: RoundDir) -> None:
    """And these are the tokens of the dataset's own text."""
    tokenizer = load_tokenizer(demo_policy())
    texts = {
        (row.sample.prompt_id, row.sample.index): row.sample.text
        for shard in range(32)
        for row in first.read_shard("train", shard) or []
    }
    flawed = 0
    for name in (first.root / "groups").names():
        for group in read_parquet(first.root / "groups" / name):
            (index,), (ids,), (judged,) = (
                group[key] for key in ("response_indices", "response_token_ids", "judged_prompt_token_ids")
            )
            assert ids == [*tokenizer(texts[group["prompt_id"], index])["input_ids"], tokenizer.eos_token_id]
            flawed += bool(judged)
            assert bool(judged) == (group["verdicts"] == ["flawed"])
    assert flawed == 287


def test_one_epoch_was_trained_and_the_adapter_is_served(first: RoundDir) -> None:
    """358 groups in steps of 8 are 45; the sync proof compared generator and learner under the new adapter."""
    adapter = first.committed("adapter")
    assert adapter is not None and len(adapter["steps"]) == 45
    assert (first.root / "adapter" / ADAPTER_WEIGHTS).exists()
    report = first.report()
    assert report is not None
    assert report["sync"]["version"] == 1
    assert report["sync"]["canary_gap"] < 0.02
    assert report["metrics"]["pass_rate"]["n"] == 32 * 4
