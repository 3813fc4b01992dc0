"""Self-Contrast from scored samples to groups: who becomes a negative, who is left out and under which reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.objective import SelfContrastObjective
from rayalign.config.run import RunConfig
from rayalign.data.group_recipe import GroupRecipe
from rayalign.data.pools import choose_negatives
from rayalign.demo.language import build_tokenizer
from rayalign.learning.objective import count_units
from rayalign.records import SHARD_PROMPTS, Prompt, Sample, Score, ScoredSample, TrainingGroup
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir
from tests.fakes import make_config, make_prompts
from tests.renderers import answer_ids, renderer

RULE, SIMILAR = "rule:demo", "similarity:demo"
TOKENIZER = build_tokenizer()
PROMPT = dataclasses.replace(make_prompts(1, "train")[0], target="cat, dog.")
SIMILARITIES = [0.91, 0.12, 0.55, 0.4, 0.77, 0.3, 0.64, 0.25]
"""Ranks 7 0 4 3 6 2 5 1."""


def sampled(prompt: Prompt, index: int, text: str, similarity: float | None, reward: float = 1.0) -> ScoredSample:
    status = "ok" if similarity is not None else "error"
    scores = [Score(RULE, "1", "ok", reward), Score(SIMILAR, "1", status, similarity)]
    sample = Sample(prompt.id, index, text, answer_ids(text, TOKENIZER), [], "stop", 0, 0)
    return ScoredSample(sample, scores, reward)


def answers(prompt: Prompt = PROMPT) -> list[ScoredSample]:
    return [sampled(prompt, i, f"r{i}", value, reward=i) for i, value in enumerate(SIMILARITIES)]


def objective(**settings: Any) -> SelfContrastObjective:
    return SelfContrastObjective.model_validate({"type": "self_contrast", **settings})


def chosen(rows: list[ScoredSample], scorer: str | None = SIMILAR, **settings: Any) -> list[int]:
    return [row.sample.index for row in choose_negatives(PROMPT, rows, objective(**settings), scorer, 0)]


def test_the_least_similar_share() -> None:
    """Half of 8 answers: ranks 0 to 3 are the answers 1, 7, 5, 3."""
    assert chosen(answers(), pool="lastdedup", ratio=0.5) == [1, 3, 5, 7]
    assert chosen(answers(), pool="last", ratio=0.5) == [1, 3, 5, 7]


def test_the_scorer_that_is_named_ranks() -> None:
    """The rule's rewards are 0 to 7 here."""
    assert chosen(answers(), RULE, pool="lastdedup", ratio=0.5) == [0, 1, 2, 3]


def test_k_of_the_pool_always_the_same_whatever_the_order() -> None:
    """In the order of the answers, which the sampler gives them by index."""
    first = chosen(answers(), pool="lastdedup", ratio=0.75, negatives=3)
    assert len(first) == 3 and set(first) <= {1, 2, 3, 5, 6, 7}
    assert first == sorted(first) == chosen(answers(), pool="lastdedup", ratio=0.75, negatives=3)


def test_a_failed_similarity_is_no_low_one() -> None:
    """Answer 1 was the least similar; without its score it is no candidate where answers are ranked."""
    rows = [sampled(PROMPT, i, f"r{i}", None if i == 1 else value) for i, value in enumerate(SIMILARITIES)]
    assert chosen(rows, pool="lastdedup", ratio=0.5) == [3, 5, 7]
    assert chosen(rows, pool="alldedup") == list(range(8))


@pytest.mark.parametrize("pool", ["all", "alldedup", "last", "lastdedup"])
def test_edge_23_blanks_and_the_target_are_no_negatives(pool: str) -> None:
    texts = ["cat, dog.", " cat, dog. ", "", " \n", "fox.", "wolf."]
    rows = [sampled(PROMPT, i, text, 0.1 * i) for i, text in enumerate(texts)]
    assert set(chosen(rows, pool=pool, ratio=1.0)) <= {4, 5}
    assert 4 in chosen(rows, pool=pool, ratio=1.0)


def test_exact_duplicates() -> None:
    rows = [sampled(PROMPT, i, text, 0.1) for i, text in enumerate(["fox.", "fox.", " fox.", "wolf."])]
    assert chosen(rows, pool="alldedup") == [0, 3]
    assert chosen(rows, pool="all") == [0, 1, 2, 3]


PROMPTS = [dataclasses.replace(p, target="cat, dog.") for p in make_prompts(3, "train")]


def built(root: Path, settings: dict[str, Any], rows: list[ScoredSample]) -> Any:
    config = make_config(objective={"type": "self_contrast", "similarity": RULE, **settings}, sampling={"responses": 8})
    round_dir = RunDir(root).round(1)
    round_dir.write_prompts([*PROMPTS[:2], dataclasses.replace(PROMPTS[2], target=None)])
    round_dir.commit_shard("train", 0, rows)
    return config, {prompt.id: group for prompt, group in stored_groups(round_dir, config)}


def stored_groups(round_dir: RoundDir, config: RunConfig) -> list[tuple[Prompt, TrainingGroup]]:
    rows, prompts = round_dir.read_shard("train", 0) or [], round_dir.read_prompts(0, SHARD_PROMPTS)
    return GroupRecipe(config).groups_of_shard(rows, prompts, None, renderer(TOKENIZER))


def test_groups_hold_the_target_and_its_negatives(tmp_path: Path) -> None:
    """k = 4 of the six lowest rewards; too few distinct answers; no target."""
    rows = answers(PROMPTS[0]) + [sampled(PROMPTS[1], i, "fox.", 0.5) for i in range(8)] + answers(PROMPTS[2])
    settings = {"pool": "lastdedup", "ratio": 0.75, "negatives": 4}
    config, found = built(tmp_path, settings, rows)
    full, same, bare = (found[prompt.id] for prompt in PROMPTS)
    assert len(full.response_indices) == 4 and set(full.response_indices) <= set(range(6))
    assert full.response_token_ids == [rows[i].sample.token_ids for i in full.response_indices]
    assert full.target_token_ids == answer_ids("cat, dog.", TOKENIZER)
    assert (full.drop_reason, same.drop_reason, bare.drop_reason) == (None, "too_few_negatives", "no_target")
    assert count_units(config.objectives, [full]) == {"self_contrast": 1}


def test_a_text_twice_where_the_pool_allows_it(tmp_path: Path) -> None:
    rows = [sampled(PROMPTS[0], i, "fox.", 0.5) for i in range(8)]
    _, found = built(tmp_path / "all", {"pool": "all", "negatives": 3}, rows)
    assert len(found[PROMPTS[0].id].response_indices) == 3
    _, found = built(tmp_path / "default", {}, rows)
    assert found[PROMPTS[0].id].response_indices == [0], "without a pool, groups.deduplicate decides"


def test_spin_takes_one_unfiltered_answer(tmp_path: Path) -> None:
    """Its negative is the first one, even where that is the most similar; k = 1 of all is the same draw by chance."""
    config = make_config(objective={"type": "spin"}, sampling={"responses": 1})
    round_dir = RunDir(tmp_path).round(1)
    round_dir.write_prompts(PROMPTS[:1])
    round_dir.commit_shard("train", 0, [sampled(PROMPTS[0], 0, "fox.", 0.99)])
    ((_, group),) = stored_groups(round_dir, config)
    assert (group.response_indices, group.drop_reason) == ([0], None)
    assert count_units(config.objectives, [group]) == {"spin": 1}
