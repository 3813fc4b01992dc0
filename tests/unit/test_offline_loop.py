"""Offline rounds in the loop, with hand-written parts: the dataset's responses take the place of sampling."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.data.dataset import Completion
from rayalign.data.responses import CompletionTokens, Responses
from rayalign.demo.language import build_tokenizer
from rayalign.errors import GuardError
from rayalign.loop.evaluator import HeldOutEvaluator
from rayalign.loop.round import Run
from rayalign.loop.run import run_rounds
from rayalign.loop.sampling import Given
from rayalign.records import FROM_DATASET, Prompt, ScoredSample, ScoredShard, Shard
from rayalign.store.tables import read_parquet
from tests.fakes import SCORE_CHECKS, Fuse, Killed, make_config, make_prompts, make_run
from tests.renderers import ASKED, renderer

WORDS = ("bear", "cat", "dog", "fox", "goat", "horse", "lion", "wolf")
RAGGED = [1 + n % 4 for n in range(100)]
"""Responses of the 100 training prompts: 1, 2, 3, 4, 1, ..."""


class SlowGiven(Given):
    """Ticks before each shard, as the fakes do."""

    fuse = Fuse()

    def scored(self, shards: Iterable[Shard], advance: Any) -> Iterator[ScoredShard]:
        for shard in super().scored(shards, advance):
            type(self).fuse.tick()
            yield shard


def dataset(reward: Any = float) -> Responses:
    """Answer i of a prompt has the reward i."""
    prompts = make_prompts(100, "train")
    completions = {
        prompt.id: [Completion(WORDS[(n + i) % len(WORDS)], reward(i)) for i in range(RAGGED[n])]
        for n, prompt in enumerate(prompts)
    }
    tokens, responses = CompletionTokens(renderer(build_tokenizer()), 16), Responses("dataset:test")
    responses.add((name, tokens.answers(name, ASKED, given)) for name, given in completions.items())
    return responses


def offline_config(**changes: Any) -> Any:
    return make_config(**{"samples": {"source": "demo", "format": "ultrafeedback"}, "sampling": {}, **changes})


def offline_run(root: Path, fuse: Fuse | None = None, responses: Responses | None = None, **changes: Any) -> Run:
    fuse = fuse or Fuse()
    run = make_run(root, offline_config(**changes), fuse)
    given = responses or dataset()
    source = type("FusedGiven", (SlowGiven,), {"fuse": fuse})(given.rows, given.count)
    return dataclasses.replace(run, dataset=source)


def train_rows(run: Run, index: int) -> list[ScoredSample]:
    return [row for shard in (0, 1) for row in run.run_dir.round(index).read_shard("train", shard) or []]


def adapters(run: Run) -> list[str]:
    return [json.loads((r.root / "COMMIT.json").read_text())["adapter_sha256"] for r in run.run_dir.rounds()]


def test_the_datasets_responses_are_trained_on(tmp_path: Path) -> None:
    """40 prompts a round, each with as many responses as it has; the generator answers held-out prompts only."""
    run = offline_run(tmp_path)
    run_rounds(run)
    counts = {prompt.id: RAGGED[n] for n, prompt in enumerate(make_prompts(100, "train"))}
    for index in (1, 2, 3):
        rows = train_rows(run, index)
        by_prompt: dict[str, list[int]] = {}
        for row in rows:
            by_prompt.setdefault(row.sample.prompt_id, []).append(row.sample.index)
        assert len(by_prompt) == 40
        assert by_prompt == {name: list(range(counts[name])) for name in by_prompt}
        assert {row.sample.adapter_version for row in rows} == {FROM_DATASET}
        assert all(row.reward == row.sample.index and row.sample.logprobs == [] for row in rows)
        assert ("read", index, len(rows), 0) in run.parts.reporter.stages
        facts = run.run_dir.round(index).committed("sampling")
        assert facts is not None and facts["scores"] == {"ok": len(rows)}
    sampled = {purpose for purpose, index, _ in run.parts.generator.asked if index > 0}
    assert sampled == {"evaluation"}, "round 0 also samples the canaries"


def test_no_prompt_twice_before_all_were_used(tmp_path: Path) -> None:
    run = offline_run(tmp_path, run={"name": "fake", "rounds": 2})
    run_rounds(run)
    first, second = ({row.sample.prompt_id for row in train_rows(run, index)} for index in (1, 2))
    assert len(first | second) == 80


def test_groups_of_any_size(tmp_path: Path) -> None:
    """A prompt with one response compares nothing and is dropped by name; the others keep their 2, 3 or 4."""
    run = offline_run(tmp_path, run={"name": "fake", "rounds": 1})
    run_rounds(run)
    groups = read_parquet(run.run_dir.round(1).root / "groups" / "00000.parquet")
    assert {len(group["rewards"]) for group in groups} == {2, 3, 4}
    facts = run.run_dir.round(1).committed("groups")
    assert facts is not None
    assert facts["groups"]["dropped"] == {"one_response": 40 - len(groups)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three rounds, undisturbed."""
    run = offline_run(tmp_path_factory.mktemp("whole"))
    run_rounds(run)
    return run


@pytest.mark.parametrize("ticks", range(0, 39, 3))
def test_killed_anywhere_and_resumed_gives_the_same_run(tmp_path: Path, whole: Run, ticks: int) -> None:
    with pytest.raises(Killed):
        run_rounds(offline_run(tmp_path / "killed", Fuse(ticks)))
    resumed = offline_run(tmp_path / "killed")
    run_rounds(resumed)
    assert adapters(resumed) == adapters(whole)
    assert all(train_rows(resumed, index) == train_rows(whole, index) for index in (1, 2, 3))


def test_committed_shards_are_not_read_again(tmp_path: Path) -> None:
    # Sync canaries, base log-probs, evaluation of 2 shards, score checks, round 1's first shard.
    ticks = 1 + 1 + 2 * 2 + SCORE_CHECKS + 1
    with pytest.raises(Killed):
        run_rounds(offline_run(tmp_path, Fuse(ticks)))
    resumed = offline_run(tmp_path)
    first = len(resumed.run_dir.round(1).read_shard("train", 0) or [])
    run_rounds(resumed)
    assert first > 32
    assert ("read", 1, len(train_rows(resumed, 1)), first) in resumed.parts.reporter.stages


def test_a_dataset_without_use_stops_before_training(tmp_path: Path) -> None:
    with pytest.raises(GuardError, match="no_reward"):
        run_rounds(offline_run(tmp_path, responses=dataset(lambda index: None)))


def test_misaligned_responses_are_never_stored(tmp_path: Path) -> None:
    run = offline_run(tmp_path)
    given = dataset()
    backwards = Given(lambda prompt: given.rows(prompt)[::-1], given.count)
    with pytest.raises(AssertionError, match="shard 0"):
        run_rounds(dataclasses.replace(run, dataset=backwards))


def test_win_rate_against_the_targets(tmp_path: Path) -> None:
    """Half of the held-out prompts have a target; only on these an answer can win. Targets are scored once."""
    run = make_run(tmp_path, make_config(evaluation={"responses": 2, "baselines": ["target"]}))
    held = [
        Prompt(p.id, p.messages, p.token_ids, "cat" if n % 2 else None) for n, p in enumerate(make_prompts(40, "h"))
    ]
    parts = run.parts
    parts.scorer.reward_of = lambda sample: 0.5 if sample.adapter_version == FROM_DATASET else float(sample.index)
    evaluator = HeldOutEvaluator(
        run.config, run.run_dir, held, parts.generator, parts.scorer, parts.learner, parts.reporter
    )
    run_rounds(dataclasses.replace(run, parts=dataclasses.replace(parts, evaluator=evaluator)))
    for index in (0, 3):
        report = run.run_dir.round(index).report()
        assert report is not None
        assert report["metrics"]["win_rate/target"]["value"] == 0.5
        assert report["metrics"]["win_rate/target"]["n"] == 20 * 2
    assert [stage for stage in parts.reporter.stages if stage[0] == "score targets"] == [("score targets", 0, 20, 0)]
