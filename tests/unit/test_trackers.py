"""Each tracker's own reader gives back what `metrics.jsonl` has, over two attempts and each round once."""

from __future__ import annotations

import io
import json
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.tracking import TrackingSection
from rayalign.errors import ConfigError
from rayalign.store.event_log import EventLog, read_events
from rayalign.store.folder import Folder
from rayalign.store.run_dir import RunDir
from rayalign.tracking import trackers as trackers_module
from rayalign.tracking.console import Console
from rayalign.tracking.points import points_of
from rayalign.tracking.reporter import RunReporter
from rayalign.tracking.tensorboard import markdown
from rayalign.tracking.tracker import Told, TrackedRun, Tracker, flat
from rayalign.tracking.trackers import TRACKERS, Couriers, make_trackers

CONFIG = {"run": {"name": "one", "seed": 3}, "training": {"lr": 0.5}, "scoring": [{"type": "rule", "api_key": "***"}]}
ODD = "a | b\n<script>*x*</script>"
Curves = dict[str, dict[int, float]]


def report(index: int) -> dict[str, Any]:
    """Numbers that a float of 32 bits holds, so that TensorBoard gives them back as they are."""
    metrics = {
        "pass_rate": {"value": 0.25 + index / 16, "n": 64, "ci95": [0.125, 0.5]},
        "pass_rate/greedy": {"value": 0.5, "n": 64, "ci95": [0.25, 0.75]},
        "win_rate/round_0": {"value": 0.5, "n": 64, "ci95": [0.375, 0.625]},
    }
    return {
        "schema_version": 1,
        "round": index,
        "adapter_version": index,
        "metrics": metrics,
        "training": {"loss": 1.5 - index, "grad_norm": None},
        "stages": {"sample": {"seconds": 2.5, "items": 128, "tokens": 1024}},
        "sync": {"version": index, "sha256": None, "replicas": 1, "canary_gap": 0.0625, "base_gap": 0.0, "moved": 0.5},
        "scores": {"ok": 127, "error": 1},
        "trust": {
            "scorers": {"rule:demo": {"status": {"ok": 127, "error": 1}, "latency_s": {"mean": 0.5}, "reasons": {}}},
            "drift": {"rule:demo": {"compared": 16, "mean_change": 0.25, "alarm": False}},
            "alarms": ["one"],
        },
        "answers": [
            {"prompt": ODD, "response": "cat", "reward": 1.0},
            {"prompt": "two", "response": "", "reward": None},
        ],
    }


class Work:
    """A run folder whose rounds are finished one by one, told as the loop tells it."""

    def __init__(self, root: Path) -> None:
        self.run_dir = RunDir(root / "runs" / "one")
        self.run_dir.open(CONFIG)
        self.screen = io.StringIO()

    def attempt(self, rounds: range, trackers: dict[str, Tracker], before: int = 0) -> None:
        """
        Args:
            before: rounds that are already finished when the trackers are told of the run.
        """
        with EventLog(self.run_dir.root.local_path() / "metrics.jsonl") as log:
            console = Console(self.screen)
            reporter = RunReporter(console, log, lambda: None)
            for index in rounds[:before]:
                self.finish(index, reporter)
            with reporter.told(Couriers(trackers, self.run_dir, CONFIG, console.say)):
                for index in rounds[before:]:
                    self.finish(index, reporter)

    def finish(self, index: int, reporter: RunReporter) -> None:
        round_dir, content = self.run_dir.round(index), report(index)
        round_dir.commit("report", round_dir.write("report.json", json.dumps(content).encode()))
        round_dir.finish(adapter_sha256=None)
        reporter.event("round", **content)

    def curves(self) -> Curves:
        """What `metrics.jsonl` has, in points."""
        found: Curves = {}
        for event in read_events(self.run_dir.root / "metrics.jsonl"):
            for name, value in points_of(event).items():
                assert event["round"] not in found.setdefault(name, {})
                found[name][event["round"]] = value
        return found

    def trackers(self, **sections: dict[str, Any]) -> dict[str, Tracker]:
        return make_trackers(TrackingSection.model_validate(sections), self.run_dir.root)

    def tracked(self) -> list[int]:
        (file,) = (self.run_dir.root / "tracking").local_path().glob("*.json")
        return json.loads(file.read_text())["rounds"]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A loaded machine is slow, which is no failure."""
    monkeypatch.setattr(trackers_module, "END_S", 900.0)
    return Work(tmp_path)


def run_twice(work: Work, between: Callable[[], object] = str, **sections: dict[str, Any]) -> None:
    """Rounds 0 and 1, then, as a resumed run, 2 and 3.

    Args:
        between: ends what the tracker's library keeps in this process, which a resumed run begins anew.
    """
    work.attempt(range(2), work.trackers(**sections), before=1)
    between()
    work.attempt(range(2, 4), work.trackers(**sections))
    assert work.tracked() == [0, 1, 2, 3]
    assert work.screen.getvalue().count("fails") == 0, work.screen.getvalue()


def test_points_are_the_numbers_of_a_report() -> None:
    benchmarks = {"arena": {"metrics": {"rating": {"value": 2.0, "n": 8, "ci95": [1.0, 3.0]}}, "facts": {"judge": "j"}}}
    comparisons = {"best": {"round": 2, "metric": "pass_rate", "n": 64, "p": 0.5, "verdict": "none",
                            "difference": {"value": 0.25, "n": 64, "ci95": [0.0, float("nan")]}}}  # fmt: skip
    found = points_of({**report(1), "benchmarks": benchmarks, "comparisons": comparisons})
    assert found == {
        "pass_rate": 0.3125,
        "ci95_low/pass_rate": 0.125,
        "ci95_high/pass_rate": 0.5,
        "pass_rate/greedy": 0.5,
        "ci95_low/pass_rate/greedy": 0.25,
        "ci95_high/pass_rate/greedy": 0.75,
        "win_rate/round_0": 0.5,
        "ci95_low/win_rate/round_0": 0.375,
        "ci95_high/win_rate/round_0": 0.625,
        "training/loss": 0.5,
        "stage/sample/seconds": 2.5,
        "stage/sample/items": 128.0,
        "stage/sample/tokens": 1024.0,
        "sync/replicas": 1.0,
        "sync/canary_gap": 0.0625,
        "sync/base_gap": 0.0,
        "sync/moved": 0.5,
        "scores/ok": 127.0,
        "scores/error": 1.0,
        "scorers/rule:demo/status/ok": 127.0,
        "scorers/rule:demo/status/error": 1.0,
        "scorers/rule:demo/latency_s/mean": 0.5,
        "drift/rule:demo/compared": 16.0,
        "drift/rule:demo/mean_change": 0.25,
        "alarms": 1.0,
        "benchmark/arena/rating": 2.0,
        "ci95_low/benchmark/arena/rating": 1.0,
        "ci95_high/benchmark/arena/rating": 3.0,
        "comparison/best/p": 0.5,
        "comparison/best/difference": 0.25,
        "ci95_low/comparison/best/difference": 0.0,
    }


def test_a_config_is_parameters() -> None:
    config = {"a": {"b": 1, "c": None, "d": [1, 2]}, "e": [{"f": True}, {"f": "x"}], "g": []}
    assert flat(config) == {"a.b": 1, "a.c": "None", "a.d": "[1, 2]", "e.0.f": True, "e.1.f": "x"}


def test_tensorboard(work: Work) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_twice(work, tensorboard={})
    # As after a kill between the sending of a round and the note of it: the round comes a second time.
    file = work.run_dir.root / "tracking" / "tensorboard.json"
    file.write_bytes(json.dumps({**json.loads(file.read_text()), "rounds": [0, 1, 2]}).encode())
    work.attempt(range(0), work.trackers(tensorboard={}))
    found = EventAccumulator(str((work.run_dir.root / "tracking" / "tensorboard").local_path())).Reload()
    assert {tag: {e.step: e.value for e in found.Scalars(tag)} for tag in found.Tags()["scalars"]} == work.curves()
    assert [len(found.Scalars(tag)) for tag in found.Tags()["scalars"]] == [4] * len(work.curves())
    answers = found.Tensors("answers/text_summary")
    assert {event.step for event in answers} == {0, 1, 2, 3}
    assert answers[0].tensor_proto.string_val[0].decode() == markdown(report(0)["answers"])
    hparams = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"training.lr" in hparams


def test_answers_stay_in_their_cells() -> None:
    assert markdown(report(0)["answers"]).splitlines() == [
        "| prompt | response | reward |",
        "| --- | --- | --- |",
        r"| a \| b \<script\>\*x\*\</script\> | cat | 1 |",
        "| two |  |  |",
    ]


def records(folder: Path) -> Iterator[Any]:
    """All records of W&B's offline runs below `folder`, in the order in which they were made, as W&B's own messages.

    The file is LevelDB's log after 7 bytes: blocks of 32 KiB, with pieces that begin with a checksum (4 bytes), their
    length (2) and their kind (1: whole, 2: first, 3: middle, 4: last of a record).
    """
    from wandb.proto import wandb_internal_pb2

    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        content, at, whole = file.read_bytes(), 7, b""
        assert content[:4] == b":W&B"
        while at + 7 <= len(content):
            if (left := -at % 32768) and left < 7:
                at += left
            length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
            whole += content[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                yield wandb_internal_pb2.Record.FromString(whole)
                whole = b""


def test_wandb_offline(work: Work) -> None:
    import wandb

    run_twice(work, wandb.teardown, wandb={"mode": "offline", "project": "aligned"})
    folder = (work.run_dir.root / "tracking" / "wandb").local_path()
    curves: Curves = {}
    runs, tables, config = set(), 0, {}
    for record in records(folder):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            runs.add((record.run.project, record.run.run_id, record.run.display_name))
            assert not record.run.git.commit
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        assert kind not in ("output", "output_raw", "stats")
        if kind == "history":
            values = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            tables += values["answers/nrows"] == 2
            for name, value in values.items():
                if not name.startswith(("answers/", "_")):
                    curves.setdefault(name, {})[record.history.step.num] = value
    assert curves == work.curves()
    file = json.loads((work.run_dir.root / "tracking" / "wandb.json").read_text())
    assert runs == {("aligned", file["id"], "one")}
    assert tables == 4 and config["training"] == {"lr": 0.5}


def test_mlflow_files(work: Work) -> None:
    from mlflow import MlflowClient

    run_twice(work, mlflow={"experiment": "aligned"})
    client = MlflowClient((work.run_dir.root / "tracking" / "mlflow").local_path().as_uri())
    experiment = client.get_experiment_by_name("aligned")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    found = {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics
    }
    expected = {name.replace("/", "."): sorted(points.items()) for name, points in work.curves().items()}
    assert {name: sorted(points) for name, points in found.items()} == expected
    assert run.data.params["training.lr"] == "0.5" and run.info.status == "FINISHED"
    assert run.data.tags["mlflow.runName"] == "one" and not any("git" in tag for tag in run.data.tags)
    table = client.download_artifacts(run.info.run_id, "answers/round_0003.json")
    assert json.loads(Path(table).read_text())["data"] == [[ODD, "cat", 1.0], ["two", "", None]]


def test_trackio(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("TRACKIO_DIR", "")
    run_twice(work, trackio={"project": "aligned"})
    from trackio import Api

    (run,) = Api().runs("aligned")
    assert run.name == "one" and run.config["training"] == {"lr": 0.5}
    from trackio.sqlite_storage import SQLiteStorage

    curves: Curves = {}
    for log in SQLiteStorage.get_logs("aligned", "one"):
        assert log.pop("answers")["_value"][0] == {"prompt": ODD, "response": "cat", "reward": 1.0}
        for name, value in log.items():
            if name not in ("step", "timestamp"):
                assert log["step"] not in curves.setdefault(name, {})
                curves[name][log["step"]] = value
    assert curves == work.curves()


class Fragile:
    """Holds what it is told; while `broken` it raises."""

    def __init__(self) -> None:
        self.broken, self.runs, self.told = False, list[TrackedRun](), list[int]()
        self.tried = threading.Semaphore(0)

    def open(self, run: TrackedRun) -> str:
        self.runs.append(run)
        return f"{run.id[:4]}-mine" if not run.begun else run.id

    def tell(self, told: Told) -> None:
        self.tried.release()
        if self.broken:
            raise ConnectionError("no route\nto host")
        self.told.append(told.round_index)

    def close(self) -> None:
        pass


def test_a_tracker_that_fails_loses_nothing(work: Work) -> None:
    """Said once when it fails and once at the end; what it lacks comes with the next attempt."""
    tracker = Fragile()
    tracker.broken = True
    work.attempt(range(2), {"far": tracker}, before=1)
    said = work.screen.getvalue()
    assert said.count("far fails, the run goes on: ConnectionError: no route to host") == 1
    assert "far lacks rounds 0, 1: ConnectionError: no route to host; the same command sends them" in said
    tracker.broken = False
    work.attempt(range(2, 3), {"far": tracker})
    assert tracker.told == [0, 1, 2]
    assert [(run.begun, run.next_round) for run in tracker.runs] == [(False, 0), (True, 0)]
    assert tracker.runs[1].id == f"{tracker.runs[0].id[:4]}-mine"
    assert work.screen.getvalue().count("lacks") == 1


def test_a_tracker_that_recovers_has_all(work: Work) -> None:
    tracker = Fragile()
    tracker.broken = True
    with EventLog(work.run_dir.root.local_path() / "metrics.jsonl") as log:
        console = Console(work.screen)
        reporter = RunReporter(console, log, lambda: None)
        with reporter.told(Couriers({"far": tracker}, work.run_dir, CONFIG, console.say)):
            work.finish(0, reporter)
            assert tracker.tried.acquire(timeout=60)
            tracker.broken = False
            work.finish(1, reporter)
    assert tracker.told == [0, 1]
    assert "far: ConnectionError: no route to host; look there whether it has all" in work.screen.getvalue()


def test_a_damaged_note_is_said(work: Work) -> None:
    (work.run_dir.root / "tracking" / "far.json").write_bytes(b"{")
    work.attempt(range(1), {"far": Fragile()})
    said = [line for line in work.screen.getvalue().splitlines() if "far" in line]
    assert len(said) == 2 and all("JSONDecodeError" in line for line in said)


def test_a_tracker_that_hangs_is_left(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises after that, nobody hears."""
    hung, over = threading.Event(), threading.Event()

    class Hanging(Fragile):
        def tell(self, told: Told) -> None:
            hung.wait()
            raise TimeoutError("at last")

        def close(self) -> None:
            over.set()

    monkeypatch.setattr(trackers_module, "END_S", 0.0)
    work.attempt(range(1), {"far": Hanging()})
    hung.set()
    assert over.wait(timeout=60)
    (said,) = [line for line in work.screen.getvalue().splitlines() if "far" in line]
    assert said == "far lacks rounds 0: it is still at work after 0 s; the same command sends them"


def test_a_tracker_that_is_named_later_gets_all(work: Work) -> None:
    early, late = Fragile(), Fragile()
    work.attempt(range(2), {"early": early})
    work.attempt(range(2, 3), {"early": early, "late": late})
    assert early.told == late.told == [0, 1, 2]
    work.attempt(range(0), {"early": early})
    assert early.told == [0, 1, 2] and len(early.runs) == 2


@pytest.mark.parametrize("name", list(TRACKERS))
def test_a_missing_package_is_said_before_anything(work: Work, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, TRACKERS[name][0], None)
    with pytest.raises(ConfigError) as found:
        work.trackers(**{name: {}})
    assert found.value.exit_code == 2
    assert found.value.remedy == f"pip install 'rayalign[{name}]', or remove tracking.{name}"


def test_wandb_online_needs_a_key(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="WANDB_API_KEY is not set"):
        work.trackers(wandb={})
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert list(work.trackers(wandb={})) == ["wandb"]


@pytest.mark.parametrize("name", list(TRACKERS))
def test_files_need_a_folder_of_the_machine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    away = Folder("s3://bucket/runs/one")
    with pytest.raises(ConfigError, match="is on an object store"):
        make_trackers(TrackingSection.model_validate({name: {}}), away)
    place = {"uri": "http://host:5000"} if name == "mlflow" else {"dir": "/somewhere"}
    assert list(make_trackers(TrackingSection.model_validate({name: place}), away)) == [name]


def test_nothing_is_imported_without_trackers() -> None:
    import subprocess

    heavy = {"tensorboardX", "wandb", "mlflow", "trackio", "torch", "ray"}
    code = f"import rayalign.tracking.trackers, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
