"""A dataset through Ray Data: the same rows as in one process, with bad ones by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from rayalign.data.loading import load_dataset_rows
from tests.unit.format_cases import CAR, COD, FISH

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_ray_reads_what_one_process_reads(local_ray: None, tmp_path: Path) -> None:
    from rayalign.actors.datasets import read_dataset

    for file in range(3):
        rows = [{"prompt": FISH, "chosen": COD, "rejected": CAR, "n": file * 1000 + n} for n in range(600)]
        rows[7]["rejected"] = COD
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = load_dataset_rows(str(tmp_path))
    dataset, found = read_dataset(str(tmp_path))
    seen = sorted(dataset.take_all(), key=lambda row: row["name"])
    assert found.format == "preference"
    assert {row["name"]: row["reason"] for row in seen if row["reason"]} == {
        f"{tmp_path}/{file}.jsonl, line 8": "chosen equals rejected" for file in range(3)
    }
    good = [json.loads(row["row"]) for row in seen if row["row"] is not None]
    wanted = [dataclasses.asdict(row) for row in expected.rows]
    assert sorted(good, key=lambda row: row["metadata"]["n"]) == wanted
