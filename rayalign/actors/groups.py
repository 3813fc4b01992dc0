"""Training groups by Ray Data: committed shards in, one Parquet file of groups per part of the round out.

A part is built and written by one task, and the driver sees only what was counted: its memory does not grow with the
round, and no rows are shuffled. The learner's plan draws an order of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray.data

from rayalign.actors.model_source import ModelSource, local_folder
from rayalign.config import ChatTemplate, RunConfig
from rayalign.config_objective import CUTObjective, SelfContrastObjective
from rayalign.data.chat import tokenize_answer
from rayalign.data.judged import JudgedStreams
from rayalign.data.pools import choose_negatives
from rayalign.data.selection import build_group, judged_score, positive_key, positive_limit
from rayalign.errors import GuardError
from rayalign.group_parts import GroupPart, groups_of, parts_of, write_part
from rayalign.learning.folders import load_tokenizer
from rayalign.records import Prompt, ScoredSample, TrainingGroup
from rayalign.run_dir import RoundDir, RunDir
from rayalign.stages import SHARD_PROMPTS, Groups, Shard, Shards

_tokenizer = functools.cache(load_tokenizer)
"""Once per process: a task builds the groups of many shards."""


class RayGroupBuilder:
    """`GroupBuilder`: one Ray Data task per part of the round; dropped groups are counted and named on disk."""

    def __init__(self, run_dir: RunDir, config: RunConfig, model: ModelSource) -> None:
        self._run_dir = run_dir
        self._recipe = _Recipe(config, model)

    def build(self, round_index: int, shards: Sequence[int], seed: int) -> Groups:
        round_dir = self._run_dir.round(round_index)
        recipe, facts = self._recipe.with_positives(round_dir, shards, seed)
        return groups_of(_written(round_dir, shards, recipe), facts)

    def revision_shards(self, round_index: int, shards: Sequence[int]) -> Shards:
        """One prompt per flawed response asks for a better one."""
        round_dir = self._run_dir.round(round_index)
        streams = self._recipe.streams()

        def make(shard: int) -> Shard:
            groups = _shard_groups(round_dir, shard, self._recipe)
            return Shard(
                shard, tuple(p for prompt, group in groups for _, p in streams.revision_prompts(prompt, group))
            )

        sizes = {shard: len(make(shard).prompts) for shard in shards}
        return Shards({shard: size for shard, size in sizes.items() if size}, make)


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """How scored samples become groups; travels to the tasks."""

    config: RunConfig
    model: ModelSource
    positive_limit: int | None = None
    """Positives with a larger key are set aside; None keeps all."""
    seed: int = 0

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(need for objective in self.config.objectives for need in objective.needs)

    def group(
        self, prompt: Prompt, rows: list[ScoredSample], keep_positive: Callable[[ScoredSample], bool]
    ) -> TrainingGroup:
        """One prompt's group; of Self-Contrast alone, with its negatives only."""
        section, (contrast, *others) = self.config.groups, self.config.objectives
        if others or not isinstance(contrast, SelfContrastObjective):
            return build_group(prompt, rows, section, self.needs, keep_positive)
        negatives = choose_negatives(prompt, rows, contrast, self.config.similarity_scorer, self.config.run.seed)
        if contrast.filters:
            # The pool says whether a text may stand there twice.
            section = section.model_copy(update={"deduplicate": False})
        group = build_group(prompt, negatives, section, self.needs, keep_positive)
        few = not negatives and prompt.target is not None
        return dataclasses.replace(group, drop_reason="too_few_negatives") if few else group

    def streams(self) -> JudgedStreams:
        tokenizer = _tokenizer(local_folder(self.model)) if "judgments" in self.needs else None
        return JudgedStreams(self.config.objectives, tokenizer, self.config.prompts.template)

    def with_positives(self, round_dir: RoundDir, shards: Sequence[int], seed: int) -> tuple[_Recipe, dict[str, float]]:
        """The recipe with the round's limit for positives, and what was counted on the way.

        Raises:
            GuardError: CUT has nothing to learn from, because every judgment is positive.
        """
        cut = next((o for o in self.config.objectives if isinstance(o, CUTObjective)), None)
        if cut is None:
            return self, {}
        keys = array("Q")
        negatives = 0
        for shard in shards:
            for row in round_dir.read_shard("train", shard) or []:
                score = judged_score(row)
                if score is not None and row.sample.token_ids:
                    negatives += score.verdict == "flawed"
                    if score.verdict == "perfect":
                        keys.append(positive_key(seed, round_dir.index, row))
        alone = len(self.config.objectives) == 1
        if alone and negatives == 0 and keys and cut.positives >= 0:
            raise GuardError(
                f"round {round_dir.index}: all {len(keys)} judgments are positive",
                "CUT learns from criticism, and positives are down-sampled to a ratio of the negatives, which is none",
                "end the run here, ask a stricter judge, or set objective.positives: -1 to train on the positives",
            )
        limit = positive_limit(keys, negatives, cut.positives)
        left = len(keys) if limit is None else sum(key <= limit for key in keys)
        facts = {"negatives": float(negatives), "positives": float(len(keys)), "positives_kept": float(left)}
        return dataclasses.replace(self, positive_limit=limit, seed=seed), facts

    def write(self, round_dir: RoundDir, part: int, shards: Sequence[int]) -> GroupPart:
        """Build and write the groups of a part."""
        streams, first = self.streams(), shards[0] * SHARD_PROMPTS
        prompts = round_dir.read_prompts(first, (shards[-1] + 1) * SHARD_PROMPTS - first)
        return write_part(round_dir, part, (
            streams.add(group, prompt)
            for shard in shards
            for prompt, group in _shard_groups(round_dir, shard, self, prompts[shard * SHARD_PROMPTS - first :])
        ))  # fmt: skip


def _written(round_dir: RoundDir, shards: Sequence[int], recipe: _Recipe) -> Iterator[GroupPart]:
    """All parts of the round, as they are finished."""
    reader = round_dir.for_reading()

    def write(row: dict[str, Any]) -> dict[str, Any]:
        part = recipe.write(reader, int(row["part"]), [int(shard) for shard in row["shards"]])
        return {"part": json.dumps(dataclasses.asdict(part))}

    ray.data.DataContext.get_current().enable_progress_bars = False
    parts = [{"part": part, "shards": some} for part, some in enumerate(parts_of(shards))]
    dataset = ray.data.from_items(parts, override_num_blocks=len(parts))
    for row in dataset.map(write, num_cpus=0.25).iter_rows():
        yield GroupPart(**json.loads(row["part"]))


def _shard_groups(
    round_dir: RoundDir, shard: int, recipe: _Recipe, prompts: Sequence[Prompt] | None = None
) -> list[tuple[Prompt, TrainingGroup]]:
    """The groups of a shard, whose prompts are the first of `prompts`, if they are read already."""
    by_prompt: dict[str, list[ScoredSample]] = {}
    for row in round_dir.read_shard("train", shard) or []:
        by_prompt.setdefault(row.sample.prompt_id, []).append(row)
    if prompts is None:
        prompts = round_dir.read_prompts(shard * SHARD_PROMPTS, SHARD_PROMPTS)
    prompts = [prompt for prompt in prompts[:SHARD_PROMPTS] if prompt.id in by_prompt]
    limit = recipe.positive_limit

    def keep_positive(row: ScoredSample) -> bool:
        return limit is None or positive_key(recipe.seed, round_dir.index, row) <= limit

    needs = recipe.needs
    groups = [(p, recipe.group(p, by_prompt[p.id], keep_positive)) for p in prompts]
    if "targets" in needs:
        tokenizer = _tokenizer(local_folder(recipe.model))
        template = recipe.config.prompts.template
        groups = [(p, _with_target(g, p, tokenizer, template)) for p, g in groups]
    if "revisions" not in needs or round_dir.committed(f"revision-{shard:05d}") is None:
        return groups
    revised = {row.sample.prompt_id: row.sample.token_ids for row in round_dir.read_shard("revision", shard) or []}
    return [(p, _with_revisions(g, revised)) for p, g in groups]


def _with_target(group: TrainingGroup, prompt: Prompt, tokenizer: Any, template: ChatTemplate) -> TrainingGroup:
    if prompt.target is None:
        return group
    return dataclasses.replace(group, target_token_ids=tokenize_answer(prompt.target, tokenizer, template))


def _with_revisions(group: TrainingGroup, revised: dict[str, list[int]]) -> TrainingGroup:
    """`revised` is keyed by the ids that `JudgedStreams.revision_prompts` gave."""
    by_response = {tuple(name.rsplit("-", 2)[1:]): ids for name, ids in revised.items()}
    found = [by_response.get((group.prompt_id, str(index)), []) for index in group.response_indices]
    return dataclasses.replace(group, revised_token_ids=found)
