"""Training groups by Ray Data: committed shards in, one Parquet file of groups per part of the round out.

A part is built and written by one task, and the driver sees only what was counted: its memory does not grow with the
round, and no rows are shuffled. The learner's plan draws an order of its own.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import ray.data
from ray.exceptions import RayError

from rayalign import stopping
from rayalign.actors.handles import our_error
from rayalign.actors.model_source import ModelSource, local_folder
from rayalign.actors.prefetch import NOT_READY, Prefetch
from rayalign.config.run import RunConfig
from rayalign.data.group_recipe import GroupRecipe
from rayalign.data.judged import JudgedStreams
from rayalign.data.reward_scale import RewardScale, known_alphas, measure, together
from rayalign.learning.folders import load_tokenizer
from rayalign.records import SHARD_PROMPTS, Groups, JsonObject, Prompt, Shard, Shards, TrainingGroup
from rayalign.rendering.renderer import ChatRenderer
from rayalign.store.group_parts import GroupPart, groups_of, parts_of, write_part
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir


@functools.cache
def _renderer(folder: Path, template: str, date: datetime.date, given: bool) -> ChatRenderer:
    """Once per process: a task builds the groups of many shards."""
    return ChatRenderer(load_tokenizer(folder), template, date, given=given)


class RayGroupBuilder:
    """`GroupBuilder`: one Ray Data task per part of the round; dropped groups are counted and named on disk."""

    def __init__(self, run_dir: RunDir, config: RunConfig, model: ModelSource) -> None:
        self._run_dir, self._model = run_dir, model
        self._recipe, self._date = GroupRecipe(config), run_dir.date
        self._started: Callable[[], object] | None = None

    def start(self) -> None:
        """Begin to start Ray Data, whose first dataset takes seconds."""
        self._started = stopping.aside(lambda: list(_mapped([{"part": 0}], _nothing)))

    def build(self, round_index: int, shards: Sequence[int], seed: int) -> Groups:
        if self._started is not None:
            self._started()
            self._started = None
        round_dir = self._run_dir.round(round_index)
        rows = (row for shard in shards for row in round_dir.read_shard("train", shard) or [])
        recipe, facts = self._recipe.with_positives(round_index, rows, seed)
        written = list(self._written(round_dir, shards, recipe))
        if "rewards" in recipe.needs:
            facts = facts | together([scale for _, scale in written]).stats()
        return groups_of([part for part, _ in written], facts)

    def revision_shards(self, round_index: int, shards: Sequence[int]) -> Shards:
        """One prompt per flawed response asks for a better one."""
        round_dir = self._run_dir.round(round_index)
        maker = GroupMaker(round_dir, self._recipe, self._model, self._date)

        def make(shard: int) -> Shard:
            return Shard(shard, tuple(maker.revision_prompts(shard)))

        sizes = {shard: len(make(shard).prompts) for shard in shards}
        return Shards({shard: size for shard, size in sizes.items() if size}, make)

    def _written(
        self, round_dir: RoundDir, shards: Sequence[int], recipe: GroupRecipe
    ) -> Iterator[tuple[GroupPart, RewardScale]]:
        """All parts of the round with the scale of their rewards, as they are finished."""
        reader, model, date = round_dir.for_reading(), self._model, self._date

        def write(row: JsonObject) -> JsonObject:
            maker = GroupMaker(reader, recipe, model, date)
            written = maker.write(int(row["part"]), [int(shard) for shard in row["shards"]])
            return {"written": json.dumps([dataclasses.asdict(one) for one in written])}

        parts = [{"part": part, "shards": some} for part, some in enumerate(parts_of(shards))]
        # Ray Data's own waits see no stop.
        rows = Prefetch(_mapped(parts, write))
        try:
            while (row := rows.take(block=True)) is not NOT_READY:
                part, scale = json.loads(row["written"])
                yield GroupPart(**part), RewardScale(**scale)
        except RayError as error:
            if ours := our_error(error):
                raise ours from error
            raise
        finally:
            rows.close()


def _mapped(rows: list[JsonObject], what: Callable[[JsonObject], JsonObject]) -> Iterator[JsonObject]:
    """What Ray Data makes of rows, a task for each."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Wrapped, it would lose its class on the way.
    context.raise_original_map_exception = True
    return iter(ray.data.from_items(rows, override_num_blocks=len(rows)).map(what, num_cpus=0.25).iter_rows())


def _nothing(row: JsonObject) -> JsonObject:
    """In a process that has imported this module for it."""
    return {"module": __name__}


class GroupMaker:
    """A recipe at work on a round's committed shards, in the process that reads them.

    Args:
        model: whose tokenizer writes targets and judgments; not read where the recipe writes no tokens.
        date: of the run.
    """

    def __init__(self, round_dir: RoundDir, recipe: GroupRecipe, model: ModelSource, date: datetime.date) -> None:
        self._round_dir, self._recipe, config = round_dir, recipe, recipe.config
        self._renderer = None
        if recipe.writes_tokens:
            given = config.samples is not None
            self._renderer = _renderer(local_folder(model), config.prompts.template, date, given)
        self._streams = JudgedStreams(config.objectives, self._renderer)

    def write(self, part: int, shards: Sequence[int]) -> tuple[GroupPart, RewardScale]:
        """Build and write the groups of a part, and measure the rewards of those that are kept."""
        first = shards[0] * SHARD_PROMPTS
        prompts = self._round_dir.read_prompts(first, (shards[-1] + 1) * SHARD_PROMPTS - first)
        groups = [
            self._streams.add(group, prompt)
            for shard in shards
            for prompt, group in self.groups(shard, prompts[shard * SHARD_PROMPTS - first :][:SHARD_PROMPTS])
        ]
        alphas = known_alphas(self._recipe.config.objectives, self._round_dir.index)
        scale = measure((group.rewards for group in groups if group.keep), alphas)
        return write_part(self._round_dir, part, groups), scale

    def revision_prompts(self, shard: int) -> Iterator[Prompt]:
        """What asks for a better answer than each flawed one of a shard."""
        prompts = self._round_dir.read_prompts(shard * SHARD_PROMPTS, SHARD_PROMPTS)
        for prompt, group in self.groups(shard, prompts):
            yield from (asked for _, asked in self._streams.revision_prompts(prompt, group))

    def groups(self, shard: int, prompts: Sequence[Prompt]) -> list[tuple[Prompt, TrainingGroup]]:
        """The groups of a shard, whose prompts are given."""
        rows = self._round_dir.read_shard("train", shard) or []
        revised = None
        better = self._round_dir.read_shard("revision", shard) if "revisions" in self._recipe.needs else None
        if better is not None:
            revised = {row.sample.prompt_id: row.sample.token_ids for row in better}
        return self._recipe.groups_of_shard(rows, prompts, revised, self._renderer)
