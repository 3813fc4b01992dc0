"""How a round's committed shards become groups: positives over the whole round, revisions back to their responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayalign.data.group_recipe import GroupRecipe, with_revisions
from rayalign.data.judged import JudgedStreams
from rayalign.demo.language import build_tokenizer
from rayalign.errors import GuardError
from rayalign.records import SHARD_PROMPTS, Prompt, Sample, Score, ScoredSample, TrainingGroup
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir
from tests.fakes import make_config, make_prompts
from tests.renderers import renderer

JUDGE = {"type": "judge", "transport": "demo"}
PROMPTS = make_prompts(SHARD_PROMPTS + 10, "train")


def recipe(objective: Any = None, *scoring: dict[str, Any]) -> GroupRecipe:
    config = make_config(objective=objective or {"type": "cut"}, scoring=[JUDGE, *scoring])
    return GroupRecipe(config)


def row(prompt: Prompt, index: int, verdict: str | None, reward: float | None = None) -> ScoredSample:
    score = Score("judge:demo", "1", "ok" if verdict else "error", judgment=verdict, verdict=verdict)  # type: ignore[arg-type]
    return ScoredSample(Sample(prompt.id, index, "x", [5, index], [-1.0, -1.0], "stop", 0, 0), [score], reward)


def round_of(root: Path, *shards: list[ScoredSample]) -> RoundDir:
    round_dir = RunDir(root).round(1)
    round_dir.write_prompts(PROMPTS)
    for number, rows in enumerate(shards):
        round_dir.commit_shard("train", number, rows)
    return round_dir


def stored(round_dir: RoundDir, *shards: int) -> list[ScoredSample]:
    return [row for shard in shards for row in round_dir.read_shard("train", shard) or []]


def groups_of(round_dir: RoundDir, shard: int, recipe: GroupRecipe) -> list[tuple[Prompt, TrainingGroup]]:
    """As a task of the group builder makes them, on a tokenizer that is there already."""
    prompts = round_dir.read_prompts(shard * SHARD_PROMPTS, SHARD_PROMPTS)
    better = round_dir.read_shard("revision", shard)
    revised = None if better is None else {row.sample.prompt_id: row.sample.token_ids for row in better}
    return recipe.groups_of_shard(stored(round_dir, shard), prompts, revised, None)


def verdicts(round_dir: RoundDir, recipe: GroupRecipe, shards: int) -> list[str | None]:
    groups = [g for shard in range(shards) for _, g in groups_of(round_dir, shard, recipe)]
    return [verdict for g in groups for verdict in g.verdicts]


def test_positives_are_counted_over_all_shards(tmp_path: Path) -> None:
    """8 flawed and 12 perfect answers in two shards: int(8 x 0.25) = 2 positives stay, wherever they are."""
    half = [[row(p, i, "flawed" if n % 5 < 2 else "perfect") for n, p in enumerate(part) for i in (0,)]
            for part in (PROMPTS[:10], PROMPTS[SHARD_PROMPTS:])]  # fmt: skip
    round_dir = round_of(tmp_path, *half)
    limited, facts = recipe().with_positives(1, stored(round_dir, 0, 1), 3)
    assert facts == {"negatives": 8.0, "positives": 12.0, "positives_kept": 2.0}
    found = verdicts(round_dir, limited, 2)
    assert (found.count("flawed"), found.count("perfect")) == (8, 2)
    again, _ = recipe().with_positives(1, stored(round_dir, 1, 0), 3)
    assert again.positive_limit == limited.positive_limit


def test_all_positives_stay_where_it_is_off(tmp_path: Path) -> None:
    round_dir = round_of(tmp_path, [row(p, 0, "flawed" if n == 0 else "perfect") for n, p in enumerate(PROMPTS[:20])])
    open_recipe, facts = recipe({"type": "cut", "positives": -1}).with_positives(1, stored(round_dir, 0), 0)
    assert facts["positives_kept"] == 19
    assert verdicts(round_dir, open_recipe, 1).count("perfect") == 19


def test_edge_22_without_negatives_the_round_stops(tmp_path: Path) -> None:
    """The release drops every positive without a word."""
    round_dir = round_of(tmp_path, [row(p, 0, "perfect") for p in PROMPTS[:3]] + [row(PROMPTS[4], 0, None)])
    with pytest.raises(GuardError, match="all 3 judgments are positive") as caught:
        recipe().with_positives(1, stored(round_dir, 0), 0)
    assert "objective.positives: -1" in caught.value.remedy


def test_edge_22_the_remedy_helps(tmp_path: Path) -> None:
    """With positives: -1 the same round trains on its positives."""
    round_dir = round_of(tmp_path, [row(p, 0, "perfect") for p in PROMPTS[:3]])
    open_recipe, facts = recipe({"type": "cut", "positives": -1}).with_positives(1, stored(round_dir, 0), 0)
    assert facts == {"negatives": 0.0, "positives": 3.0, "positives_kept": 3.0}
    assert verdicts(round_dir, open_recipe, 1) == ["perfect"] * 3


def test_a_round_without_judgments_is_no_round_of_positives(tmp_path: Path) -> None:
    """The groups' own drop reasons say what happened."""
    round_dir = round_of(tmp_path, [row(p, 0, None) for p in PROMPTS[:3]])
    limited, facts = recipe().with_positives(1, stored(round_dir, 0), 0)
    assert facts["positives"] == facts["negatives"] == 0
    assert [g.drop_reason for _, g in groups_of(round_dir, 0, limited)] == ["no_judgment"] * 3


def test_without_cut_nothing_is_set_aside(tmp_path: Path) -> None:
    round_dir = round_of(tmp_path, [row(p, 0, "perfect") for p in PROMPTS])
    same = recipe({"type": "hindsight"})
    assert same.with_positives(1, stored(round_dir, 0), 0) == (same, {})


def test_revisions_come_back_to_their_responses(tmp_path: Path) -> None:
    """The ids that ask for them are what they are found by; a perfect response and one without an answer have none."""
    tokenizer = build_tokenizer()
    section = recipe({"type": "ilf_dpo"})
    rows = [row(PROMPTS[0], i, v) for i, v in ((0, "flawed"), (1, "perfect"), (3, "flawed"))]
    round_dir = round_of(tmp_path, [*rows, row(PROMPTS[1], 3, "flawed")])
    groups = groups_of(round_dir, 0, section)
    streams = JudgedStreams(section.config.objectives, renderer(tokenizer, "none"))
    asked = [p for prompt, group in groups for _, p in streams.revision_prompts(prompt, group)]
    assert len({p.id for p in asked}) == 3
    revised = {p.id: [100 + n] for n, p in enumerate(asked)}
    found = {group.prompt_id: with_revisions(group, revised).revised_token_ids for _, group in groups}
    assert found == {PROMPTS[0].id: [[100], [], [101]], PROMPTS[1].id: [[102]]}
    del revised[asked[0].id]
    assert with_revisions(groups[0][1], revised).revised_token_ids == [[], [], [101]]


def test_revisions_are_read_from_their_shard(tmp_path: Path) -> None:
    """And before they are sampled, groups have none: that is what the prompts for them are made from."""
    section = recipe({"type": "ilf_mle"})
    round_dir = round_of(tmp_path, [row(PROMPTS[0], 0, "flawed"), row(PROMPTS[0], 1, "flawed")])
    ((prompt, before),) = groups_of(round_dir, 0, section)
    assert before.revised_token_ids == []
    streams = JudgedStreams(section.config.objectives, renderer(build_tokenizer(), "none"))
    asked = [p for _, p in streams.revision_prompts(prompt, before)]
    samples = [Sample(p.id, 0, "y", [40 + n, 2], [-1.0, -1.0], "stop", 0, 0) for n, p in enumerate(asked)]
    round_dir.commit_shard("revision", 0, [ScoredSample(sample, [], None) for sample in samples])
    ((_, after),) = groups_of(round_dir, 0, section)
    assert after.revised_token_ids == [[40, 2], [41, 2]]
