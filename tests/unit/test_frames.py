"""`rayalign.load_metrics` and `load_samples`: a run as tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pytest

import rayalign
from rayalign.errors import DataError, RunFolderError
from rayalign.loop.run import run_rounds
from rayalign.store.run_dir import RunDir
from tests.fakes import make_config, make_run

CONFIG = make_config(run={"name": "fake", "rounds": 2}, evaluation={"responses": 2, "every": 2, "greedy": True})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """40 prompts a round with 4 answers each; round 1 is not evaluated."""
    run_rounds(made := make_run(tmp_path_factory.mktemp("runs") / "fake", CONFIG))
    return made.run_dir


def test_metrics_are_those_of_the_reports(run: RunDir) -> None:
    found = rayalign.load_metrics(str(run.root))
    assert list(found.columns) == ["round", "purpose", "metric", "value", "n", "ci_low", "ci_high"]
    measured = found[found.purpose == "evaluation"]
    assert sorted(set(measured["round"])) == [0, 2]
    report = json.loads((run.root.local_path() / "rounds/0002/report.json").read_text())
    last = measured[measured["round"] == 2].set_index("metric")
    assert sorted(last.index) == sorted(report["metrics"])
    for name, metric in report["metrics"].items():
        row = last.loc[name]
        assert [row["value"], int(row["n"]), [row.ci_low, row.ci_high]] == [
            metric["value"],
            metric["n"],
            metric["ci95"],
        ]
    trained = found[found.purpose == "train"]
    assert sorted(set(trained["round"])) == [1, 2] and trained["n"].isna().all()
    saved = json.loads((run.root.local_path() / "rounds/0001/report.json").read_text())["training"]
    assert dict(zip(trained[trained["round"] == 1].metric, trained[trained["round"] == 1].value, strict=True)) == saved


def test_samples_are_those_of_the_shards(run: RunDir) -> None:
    found = rayalign.load_samples(run.root.local_path())
    counts = found.groupby(["round", "purpose"]).size().to_dict()
    assert counts == {(0, "evaluation"): 80, (1, "train"): 160, (2, "evaluation"): 80, (2, "train"): 160}
    assert not found.duplicated(["round", "purpose", "prompt_id", "index"]).any()
    mine = found[(found["round"] == 1) & (found.purpose == "train")].reset_index(drop=True)
    folder = run.root.local_path() / "rounds/0001"
    samples, scores = (ds.dataset(folder / kind).to_table().to_pandas() for kind in ("samples", "scores"))
    for column in ("prompt_id", "index", "text", "finish_reason", "adapter_version"):
        assert list(mine[column]) == list(samples[column])
    assert list(mine.tokens) == [len(ids) for ids in samples.token_ids]
    assert list(mine.reward) == list(scores.reward) == list(mine["reward/rule:demo"])
    assert set(mine["status/rule:demo"]) == {"ok"}
    asked = {prompt.id: prompt.text for prompt in run.round(1).read_prompts(0, 40)}
    assert list(mine.prompt) == [asked[one] for one in mine.prompt_id]
    assert found[found.purpose == "evaluation"].prompt.isna().all()


def test_a_part_of_the_rounds_and_purposes(run: RunDir) -> None:
    place = str(run.root)
    assert set(rayalign.load_metrics(place, rounds=2)["round"]) == {2}
    some = rayalign.load_samples(place, rounds=[2, 0], purposes="greedy")
    assert list(dict.fromkeys(some["round"])) == [0, 2] and set(some.purpose) == {"greedy"}
    none = rayalign.load_samples(place, rounds=0, purposes=["train"])
    assert len(none) == 0 and {"prompt_id", "text", "reward"} <= set(none.columns)


def test_a_failed_score_is_missing(tmp_path: Path) -> None:
    made = make_run(tmp_path / "fake", make_config(run={"name": "fake", "rounds": 1}, limits={"score_errors": 0.9}))
    made.parts.scorer.reward_of = lambda sample: None if sample.index == 0 else float(sample.index)  # type: ignore
    run_rounds(made)
    found = rayalign.load_samples(made.run_dir.root.local_path(), purposes="train")
    failed = found[found["status/rule:demo"] == "error"]
    assert set(failed["index"]) == {0}
    assert failed.reward.isna().all() and failed["reward/rule:demo"].isna().all()
    assert found[found["index"] == 3].reward.tolist() == [3.0] * 40


def test_what_cannot_be_loaded(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="round 7 is not there"):
        rayalign.load_metrics(str(run.root), rounds=7)
    with pytest.raises(RunFolderError, match="is not a run folder"):
        rayalign.load_samples(tmp_path)
    with pytest.raises(DataError, match=r"'evaluaton'(.|\n)*use train, evaluation, greedy"):
        rayalign.load_samples(str(run.root), purposes="evaluaton")  # type: ignore[arg-type]


def test_damaged_files_are_not_read(tmp_path: Path) -> None:
    run_rounds(made := make_run(tmp_path / "fake", make_config(run={"name": "fake", "rounds": 1})))
    (tmp_path / "fake/rounds/0001/report.json").write_text("{}")
    with pytest.raises(RunFolderError):
        rayalign.load_metrics(made.run_dir.root.local_path())


def test_importing_the_package_loads_nothing() -> None:
    heavy = {"pandas", "pyarrow", "torch", "ray", "numpy", "pydantic"}
    code = f"import sys, rayalign; print(sorted({heavy} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'load_nothing'"):
        _ = rayalign.load_nothing  # type: ignore[attr-defined]
