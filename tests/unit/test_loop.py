"""The loop with hand-written parts: what is committed, what a kill costs, what the guards stop."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.errors import AdapterVersionError, GuardError, RunFolderError, SyncError
from rayalign.loop.round import Run
from rayalign.loop.run import run_rounds
from rayalign.store.folder import Folder
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import read_parquet
from tests.fakes import SCORE_CHECKS, Fuse, Killed, make_config, make_run


def adapters(run_dir: RunDir) -> list[str]:
    return [json.loads((r.root / "COMMIT.json").read_text())["adapter_sha256"] for r in run_dir.rounds()]


def sample_keys(run: Run, round_index: int) -> list[tuple[str, int]]:
    folder = run.run_dir.round(round_index).root / "samples"
    return [(row["prompt_id"], row["index"]) for name in folder.names() for row in read_parquet(folder / name)]


def test_rounds_and_their_content(tmp_path: Path) -> None:
    """3 rounds after round 0; 40 prompts x 4 samples each; every adapter has the round before as its parent."""
    run = make_run(tmp_path)
    run_rounds(run)
    assert [r.index for r in run.run_dir.rounds()] == [0, 1, 2, 3]
    for index in (1, 2, 3):
        keys = sample_keys(run, index)
        assert len(keys) == len(set(keys)) == 160
        commit = json.loads((run.run_dir.round(index).root / "COMMIT.json").read_text())
        adapter = commit["commits"]["adapter"]["adapter"]
        assert (adapter["version"], adapter["parent"]) == (index, index - 1)
        weights = run.run_dir.root / adapter["path"] / "adapter_model.safetensors"
        assert hashlib.sha256(weights.read_bytes()).hexdigest() == adapter["sha256"]
    assert run.parts.generator.loads == [0, 1, 2, 3]
    report = run.run_dir.round(2).report()
    assert report is not None
    assert report["metrics"]["win_rate/round_0"]["n"] == 40 * 4
    assert report["sync"]["canary_gap"] <= 1e-9
    assert report["sync"]["moved"] == pytest.approx(1.0)


def test_samples_carry_the_version_that_made_them(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run_rounds(run)
    for index in (1, 2, 3):
        rows = read_parquet(run.run_dir.round(index).root / "samples" / "00000.parquet")
        assert {row["adapter_version"] for row in rows} == {index - 1}
        rows = read_parquet(run.run_dir.round(index).root / "evaluation" / "samples" / "00000.parquet")
        assert {row["adapter_version"] for row in rows} == {index}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("whole"))
    run_rounds(run)
    return run


@pytest.mark.parametrize("ticks", range(0, 51, 3))
def test_killed_anywhere_and_resumed_gives_the_same_run(tmp_path: Path, whole: Run, ticks: int) -> None:
    """A run killed at any call of any part, then run again, ends with the adapters of an undisturbed run."""
    with pytest.raises(Killed):
        run_rounds(make_run(tmp_path / "killed", fuse=Fuse(ticks)))
    resumed = make_run(tmp_path / "killed")
    run_rounds(resumed)
    assert adapters(resumed.run_dir) == adapters(whole.run_dir)
    for index in (1, 2, 3):
        assert sample_keys(resumed, index) == sample_keys(whole, index)
        for section in ("metrics", "trust"):
            assert resumed.run_dir.round(index).report()[section] == whole.run_dir.round(index).report()[section]


def test_committed_shards_are_not_sampled_again(tmp_path: Path) -> None:
    """The fuse burns in round 1's second shard: on resume 32 of its 40 prompts are there already."""
    config = make_config()
    # Sync canaries, base log-probs, evaluation of 2 shards, score checks, round 1's first shard, its second.
    ticks = 1 + 1 + 2 * 2 + SCORE_CHECKS + 2 + 1
    with pytest.raises(Killed):
        run_rounds(make_run(tmp_path, config, Fuse(ticks)))
    resumed = make_run(tmp_path, config)
    run_rounds(resumed)
    assert ("sample", 1, 160, 128) in resumed.parts.reporter.stages


@pytest.mark.parametrize("moment", ["commits", "writing"])
def test_a_signal_while_a_round_is_finished_loses_nothing(
    folder: Folder, whole: Run, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """SIGTERM comes while round 2's commits are gathered, or between two pieces of `COMMIT.json`."""

    def stop(*_: object) -> None:
        raise Killed

    def tell() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    commits = RoundDir.commits

    def interrupted(self: RoundDir) -> list[str]:
        found = commits(self)
        if inspect.stack()[1].function != "finish" or self.index != 2:
            return found
        return tell() if moment == "commits" else _Telling(found, tell)  # type: ignore[return-value]

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(RoundDir, "commits", interrupted)
            run_rounds(make_run(folder))
    finally:
        signal.signal(signal.SIGTERM, before)
    left = RunDir(folder)
    assert [r.index for r in left.rounds()] == [0, 1] and not (left.round(2).root / "COMMIT.json").exists()
    resumed = make_run(folder)
    run_rounds(resumed)
    assert adapters(resumed.run_dir) == adapters(whole.run_dir)
    work = {(stage, index) for stage, index, total, done in resumed.parts.reporter.stages if done < total}
    assert {index for stage, index in work if stage in ("sample", "update")} == {3}


class _Telling(list[str]):
    """Names of which the third one brings a signal."""

    def __init__(self, names: list[str], tell: Callable[[], None]) -> None:
        super().__init__(names)
        self._tell = tell

    def __iter__(self) -> Iterator[str]:
        for place, name in enumerate(list.__iter__(self)):
            if place == 2:
                self._tell()
            yield name


@pytest.mark.parametrize("cut", [0, 1, 40, -2])
def test_a_commit_that_is_cut_off_is_none(tmp_path: Path, whole: Run, cut: int) -> None:
    run_rounds(make_run(tmp_path))
    commit = RunDir(tmp_path).round(3).root / "COMMIT.json"
    content = commit.read_bytes()
    commit.local_path().write_bytes(content[:cut])
    assert not RunDir(tmp_path).round(3).finished
    resumed = make_run(tmp_path)
    run_rounds(resumed)
    assert adapters(resumed.run_dir) == adapters(whole.run_dir)
    assert RunDir(tmp_path).round(3).finished


def test_files_without_a_commit_do_not_exist(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    rogue = run.run_dir.round(1).root.local_path() / "samples" / "00000.parquet"
    rogue.parent.mkdir(parents=True)
    rogue.write_bytes(b"half a file")
    run_rounds(run)
    assert len(read_parquet(rogue)) == 32 * 4


def test_damaged_file_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, make_config(run={"name": "fake", "rounds": 1}))
    run_rounds(run)
    weights = run.run_dir.round(1).root / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(b"something else")
    with pytest.raises(RunFolderError, match="adapter_model"):
        run_rounds(make_run(tmp_path, make_config(run={"name": "fake", "rounds": 2})))


def test_more_rounds_on_a_finished_run(tmp_path: Path) -> None:
    run_rounds(make_run(tmp_path, make_config(run={"name": "fake", "rounds": 1})))
    longer = make_run(tmp_path, make_config(run={"name": "fake", "rounds": 3}))
    run_rounds(longer)
    run_rounds(whole := make_run(tmp_path / "whole"))
    assert adapters(longer.run_dir) == adapters(whole.run_dir)


def test_generator_that_still_serves_the_base_is_caught(tmp_path: Path) -> None:
    """Its canary log-probs are those of version 0: the gap is 0.5 nats per token, far above the tolerance."""
    run = make_run(tmp_path)
    run.parts.generator.serves = lambda version: 0
    with pytest.raises(SyncError, match=r"differ by 0\.5000"):
        run_rounds(run)
    assert run.parts.generator.loads == [0, 1, 0], "the adapter served before is restored"
    assert [r.index for r in run.run_dir.rounds()] == [0]


def test_wrong_checksum_is_caught(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.parts.generator.corrupt_checksum = True
    with pytest.raises(SyncError, match="checksum 000"):
        run_rounds(run)


def test_generator_refuses_another_version(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    load = run.parts.generator.load

    def load_and_forget(adapter, files):
        states = load(adapter, files)
        run.parts.generator.held = 0
        return states

    run.parts.generator.load = load_and_forget
    with pytest.raises(AdapterVersionError):
        run_rounds(run)


def test_too_many_failed_scores_stop_the_round_before_training(tmp_path: Path) -> None:
    """3 of 40 x 4 scores is 1.9 % and passes; a tenth of them does not. The run stays resumable."""
    run = make_run(tmp_path, make_config(evaluation={"responses": 1}))
    counted = []

    def some_fail(sample):
        counted.append(sample)
        return None if len(counted) % 10 == 0 and sample.adapter_version == 0 and len(counted) > 40 else 1.0

    run.parts.scorer.reward_of = some_fail
    with pytest.raises(GuardError, match="broken rule") as caught:
        run_rounds(run)
    assert caught.value.exit_code == 3
    assert not (run.run_dir.round(1).root / "adapter").exists()
    run_rounds(make_run(tmp_path, make_config(evaluation={"responses": 1}, limits={"score_errors": 0.5})))


def test_too_many_failed_scores_stop_round_0(tmp_path: Path) -> None:
    """2 of 80 held-out answers is 2.5 %: nothing is trained on, and the resumed run asks only for what is missing."""
    run = make_run(tmp_path)
    counted = []

    def two_fail(sample):
        counted.append(sample)
        return None if len(counted) in (70, 80) else 0.0

    run.parts.scorer.reward_of = two_fail
    with pytest.raises(
        GuardError, match=r"2 of 80 scores of rule:demo failed; most often \(2x\) broken rule"
    ) as caught:
        run_rounds(run)
    assert caught.value.exit_code == 3 and "measuring a biased part" in caught.value.why
    assert run.run_dir.round(0).shards("evaluation") == [0] and not run.run_dir.rounds()
    mended = make_run(tmp_path)
    run_rounds(mended)
    asked = [one for one in mended.parts.generator.asked if one[:2] == ("evaluation", 0)]
    assert len(asked) == 8


def test_a_round_without_groups_stops(tmp_path: Path) -> None:
    run = make_run(tmp_path, make_config(groups={"drop_equal_rewards": True}))
    run.parts.scorer.reward_of = lambda sample: 1.0
    with pytest.raises(GuardError, match="equal_rewards"):
        run_rounds(run)


def test_misaligned_scores_are_never_stored(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    score = run.parts.scorer.score

    def swapped(sampled):
        for shard in score(sampled):
            shard.rows.reverse()
            yield shard

    run.parts.scorer.score = swapped
    with pytest.raises(AssertionError, match="shard 0"):
        run_rounds(run)
    assert not list(run.run_dir.root.local_path().glob("rounds/*/evaluation/samples/*"))


def test_evaluation_every_second_round_and_at_the_end(tmp_path: Path) -> None:
    run = make_run(tmp_path, make_config(evaluation={"every": 2, "responses": 2}))
    run_rounds(run)
    reports = [r.report() for r in run.run_dir.rounds()]
    assert [bool(report["metrics"]) for report in reports if report] == [True, False, True, True]


def ilf_config(**changes: Any) -> Any:
    scoring = [{"type": "rule", "function": "demo"}, {"type": "judge", "transport": "demo"}]
    return make_config(objective={"type": "ilf_mle"}, scoring=scoring, **changes)


def revisions(run: Run, round_index: int) -> dict[str, list[int]]:
    """What was sampled for each prompt that asks for a better response."""
    rows = [run.run_dir.round(round_index).read_shard("revision", shard) or [] for shard in (0, 1)]
    return {row.sample.prompt_id: row.sample.token_ids for shard in rows for row in shard}


def flawed(run: Run, round_index: int) -> list[str]:
    rows = [run.run_dir.round(round_index).read_shard("train", shard) or [] for shard in (0, 1)]
    found = [row.sample for shard in rows for row in shard if row.reward == 0]
    return [f"better-{sample.prompt_id}-{sample.index}" for sample in found]


def test_revisions_are_sampled_once_per_flawed_response(tmp_path: Path) -> None:
    """Between scores and groups, with the round's own adapter, into shards of their own."""
    run = make_run(tmp_path, ilf_config())
    run_rounds(run)
    for index in (1, 2, 3):
        wanted = flawed(run, index)
        assert len(wanted) > 40
        assert list(revisions(run, index)) == wanted
        assert ("revise", index, len(wanted), 0) in run.parts.reporter.stages
        commits = json.loads((run.run_dir.round(index).root / "COMMIT.json").read_text())["commits"]
        assert {"revision-00000", "revision-00001", "train-00000", "train-00001"} <= set(commits)
        folder = run.run_dir.round(index).root / "revision" / "samples"
        rows = [row for name in folder.names() for row in read_parquet(folder / name)]
        assert {(row["adapter_version"], row["index"]) for row in rows} == {(index - 1, 0)}
        scores = read_parquet(run.run_dir.round(index).root / "revision" / "scores" / "00000.parquet")
        assert {(row["reward"], len(row["scores"])) for row in scores} == {(None, 0)}
        in_order = [name for name, of, *_ in run.parts.reporter.stages if of == index]
        assert in_order[:4] == ["sample", "revise", "groups", "update"]


def test_groups_hold_their_revisions(tmp_path: Path) -> None:
    run = make_run(tmp_path, ilf_config(run={"name": "fake", "rounds": 1}))
    run_rounds(run)
    groups = read_parquet(run.run_dir.round(1).root / "groups" / "00000.parquet")
    found = {
        f"better-{group['prompt_id']}-{index}": ids
        for group in groups
        for index, ids in zip(group["response_indices"], group["revised_token_ids"], strict=True)
        if ids
    }
    every = revisions(run, 1)
    assert len(found) > 30
    assert found == {name: every[name] for name in found}


def test_no_objective_asks_for_revisions_no_stage(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run_rounds(run)
    assert not [stage for stage in run.parts.reporter.stages if stage[0] == "revise"]
    assert not (run.run_dir.round(1).root / "revision").exists()
    assert {purpose for purpose, *_ in run.parts.generator.asked} == {"train", "evaluation"}


@pytest.mark.parametrize("ticks", range(9 + SCORE_CHECKS, 18 + SCORE_CHECKS, 2))
def test_committed_revisions_are_not_sampled_again(tmp_path: Path, ticks: int) -> None:
    """Killed anywhere around round 1's revisions: every prompt of every purpose is sampled once over both attempts,
    but for a shard that was sampled and not yet committed; and the adapters are those of an undisturbed run."""
    config = ilf_config(run={"name": "fake", "rounds": 2})
    whole = make_run(tmp_path / "whole", config)
    run_rounds(whole)
    first = make_run(tmp_path / "killed", config, Fuse(ticks))
    with pytest.raises(Killed):
        run_rounds(first)
    done = revisions(first, 1)
    second = make_run(tmp_path / "killed", config)
    run_rounds(second)
    again = {name for purpose, index, name in second.parts.generator.asked if (purpose, index) == ("revision", 1)}
    assert again == set(revisions(whole, 1)) - set(done)
    assert ("revise", 1, len(revisions(whole, 1)), len(done)) in second.parts.reporter.stages or again == set()
    assert revisions(second, 1) == revisions(whole, 1)
    assert adapters(second.run_dir) == adapters(whole.run_dir)


def test_one_shard_of_revisions_survives_a_kill(tmp_path: Path) -> None:
    """The fuse burns in the second shard's revisions: on resume the first shard's are there."""
    config = ilf_config(run={"name": "fake", "rounds": 2})
    # Sync canaries, base log-probs, evaluation, score checks, round 1's shards, their revisions.
    ticks = 1 + 1 + 2 * 2 + SCORE_CHECKS + 2 * 2 + 1 + 1
    first = make_run(tmp_path, config, Fuse(ticks))
    with pytest.raises(Killed):
        run_rounds(first)
    done = revisions(first, 1)
    assert first.run_dir.round(1).read_shard("revision", 0)
    assert first.run_dir.round(1).read_shard("revision", 1) is None
    second = make_run(tmp_path, config)
    run_rounds(second)
    assert ("revise", 1, len(flawed(second, 1)), len(done)) in second.parts.reporter.stages
    assert 0 < len(done) < len(flawed(second, 1))


def test_a_round_without_criticism_needs_no_revisions(tmp_path: Path) -> None:
    run = make_run(tmp_path, ilf_config(run={"name": "fake", "rounds": 1}))
    run.parts.scorer.reward_of = lambda sample: 1.0
    run_rounds(run)
    assert ("revise", 1, 0, 0) in run.parts.reporter.stages
    assert revisions(run, 1) == {}
    assert run.run_dir.round(1).finished
