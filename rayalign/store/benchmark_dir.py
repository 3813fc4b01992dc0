"""A benchmark's results on one round's adapter: part of the round while it runs, beside the run when it is finished.

    rounds/0003/benchmarks/NAME/{answers,verdicts}/*.parquet  rows.jsonl  result.json     named by commits of the round
    benchmarks/NAME/round-0003/{answers,verdicts}/*.parquet   rows.jsonl  result.json     by commits of that folder

Every commit carries a mark, the hash of all that decides what stands there: what has another mark does not count.
Answers have one of their own, so that another judge is asked about the same answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from rayalign.records import JsonObject, JudgeVerdict, Sample
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import parquet_bytes, read_parquet

FOLDER = "benchmarks"
RESULT = "result.json"


@dataclass(frozen=True, slots=True)
class Marks:
    answers: str
    """Hash of what the model is asked, how, and which adapter answers."""
    all: str
    """The same, with the judge and how it is counted."""


@dataclass(frozen=True, slots=True)
class BenchmarkDir:
    """Where a benchmark's files go, and the commits that name them."""

    round_dir: RoundDir
    """The round's folder, or one of its own that has commits as a round has."""
    name: str
    prefix: str
    """Of its files in that folder; empty, or with a slash at its end."""
    marks: Marks
    retries: bool = False
    """What failed does not count, so that it is asked again."""

    @classmethod
    def in_round(cls, round_dir: RoundDir, name: str, marks: Marks) -> BenchmarkDir:
        return cls(round_dir, name, f"{FOLDER}/{name}/", marks)

    @classmethod
    def beside(cls, run_dir: RunDir, index: int, name: str, marks: Marks) -> BenchmarkDir:
        """Of a round that is finished, whose own files stay as they are."""
        folder = run_dir.root / FOLDER / name / f"round-{index:04d}"
        return cls(RoundDir(folder, index), name, "", marks, retries=True)

    def place(self, path: str) -> str:
        """A file's path in the folder of the commits."""
        return f"{self.prefix}{path}"

    def samples(self, turn: int, shard: int) -> list[Sample] | None:
        """A committed shard of answers."""
        rows = self._rows(f"answers-{turn}", f"answers/{turn}-{shard:05d}.parquet", shard)
        return None if rows is None else [Sample.from_row(row) for row in rows]

    def commit_samples(self, turn: int, shard: int, samples: Sequence[Sample]) -> None:
        content = parquet_bytes([sample.to_row() for sample in samples], Sample.schema())
        self._commit(f"answers-{turn}", f"answers/{turn}-{shard:05d}.parquet", shard, content, len(samples))

    def verdicts(self, shard: int) -> list[JudgeVerdict] | None:
        """A committed shard of verdicts."""
        rows = self._rows("verdicts", f"verdicts/{shard:05d}.parquet", shard) or []
        verdicts = [JudgeVerdict.from_row(row) for row in rows]
        failed = self.retries and any(one.status != "ok" for one in verdicts)
        return None if failed or not verdicts else verdicts

    def commit_verdicts(self, shard: int, verdicts: Sequence[JudgeVerdict]) -> None:
        content = parquet_bytes([one.to_row() for one in verdicts], JudgeVerdict.schema())
        self._commit("verdicts", f"verdicts/{shard:05d}.parquet", shard, content, len(verdicts))

    def result(self) -> JsonObject | None:
        """The committed result: type, metrics, facts."""
        if self._committed("result") is None:
            return None
        found = json.loads((self.round_dir.root / self.place(RESULT)).read_text())
        return None if self.retries and found["facts"].get("judge", {}).get("failed") else found

    def commit_result(self, result: JsonObject, rows: Sequence[JsonObject], files: Sequence[str] = ()) -> None:
        """Write what came of it.

        Args:
            rows: one per item.
            files: paths of other files that were written and belong to it.
        """
        lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
        text = json.dumps(result, indent=1, sort_keys=True, allow_nan=False)
        written = self.round_dir.write(self.place("rows.jsonl"), lines.encode("utf-8", "replace"), len(rows))
        written |= self.round_dir.write(self.place(RESULT), text.encode())
        for path in files:
            written |= self.round_dir.describe(self.place(path))
        self.round_dir.commit(self._commit_name("result"), written, mark=self.marks.all)

    def _rows(self, stage: str, path: str, shard: int) -> list[JsonObject] | None:
        if self._committed(f"{stage}-{shard:05d}") is None:
            return None
        return read_parquet(self.round_dir.root / self.place(path))

    def _commit(self, stage: str, path: str, shard: int, content: bytes, rows: int) -> None:
        written = self.round_dir.write(self.place(path), content, rows)
        self.round_dir.commit(self._commit_name(f"{stage}-{shard:05d}"), written, mark=self._mark(stage), rows=rows)

    def _committed(self, stage: str) -> JsonObject | None:
        saved = self.round_dir.committed(self._commit_name(stage))
        return saved if saved is not None and saved["mark"] == self._mark(stage) else None

    def _mark(self, stage: str) -> str:
        return self.marks.answers if stage.startswith("answers") else self.marks.all

    def _commit_name(self, stage: str) -> str:
        return f"benchmark-{self.name}-{stage}"


def benchmark_results(run_dir: RunDir) -> dict[int, JsonObject]:
    """All results of a run by round and name: those in its rounds' reports, and those made afterwards, which count
    where both are there."""
    found: dict[int, JsonObject] = {
        one.index: dict((one.report() or {}).get("benchmarks", {})) for one in run_dir.rounds()
    }
    for name in (run_dir.root / FOLDER).names():
        for folder in (run_dir.root / FOLDER / name).names():
            number = folder.removeprefix("round-")
            text = (run_dir.root / FOLDER / name / folder / RESULT).find_text()
            if text is not None and number.isdecimal():
                found.setdefault(int(number), {})[name] = json.loads(text)
    return {index: results for index, results in sorted(found.items()) if results}


def benchmark_rows(run_dir: RunDir, index: int, name: str) -> list[JsonObject] | None:
    """The rows of a benchmark's result on a round, those made afterwards if there are some; None where it has none."""
    beside = run_dir.root / FOLDER / name / f"round-{index:04d}"
    for round_dir, prefix in ((RoundDir(beside, index), ""), (run_dir.round(index), f"{FOLDER}/{name}/")):
        if round_dir.committed(f"benchmark-{name}-result") is not None:
            lines = (round_dir.root / f"{prefix}rows.jsonl").read_text().split("\n")
            return [json.loads(line) for line in lines if line]
    return None
