"""Training groups by Ray Data: committed shards in, one sorted Parquet dataset of groups out."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
import ray.data
from ray.data.context import ShuffleStrategy

from rayalign.actors.model_source import ModelSource, local_folder
from rayalign.config import ChatTemplate, RunConfig
from rayalign.config_objective import CUTObjective, SelfContrastObjective
from rayalign.data.chat import tokenize_answer
from rayalign.data.judged import JudgedStreams
from rayalign.data.pools import choose_negatives
from rayalign.data.selection import build_group, judged_score, positive_key, positive_limit
from rayalign.errors import GuardError
from rayalign.learning.folders import load_tokenizer
from rayalign.records import Prompt, ScoredSample, TrainingGroup
from rayalign.run_dir import PROMPTS_PER_ROW_GROUP, RoundDir, RunDir, parquet_bytes
from rayalign.stages import SHARD_PROMPTS, Groups, Shard

ROWS_PER_FILE = 4096
SHARDS_PER_TASK = PROMPTS_PER_ROW_GROUP // SHARD_PROMPTS
"""As many as share a row group of `prompts.parquet`."""

_tokenizer = functools.cache(load_tokenizer)
"""Once per process: a task builds the groups of many shards."""


class RayGroupBuilder:
    """`GroupBuilder`: one Ray Data task for several shards; groups sorted by prompt id, dropped ones counted."""

    def __init__(self, run_dir: RunDir, config: RunConfig, model: ModelSource) -> None:
        self._run_dir = run_dir
        self._recipe = _Recipe(config, model)

    def build(self, round_index: int, shards: Sequence[int], seed: int) -> Groups:
        round_dir = self._run_dir.round(round_index)
        recipe, facts = self._recipe.with_positives(round_dir, shards, seed)
        files, reasons, kept, responses = [], {}, 0, 0
        for rows in _chunks(_groups(round_dir, shards, recipe)):
            reasons |= {row["prompt_id"]: row["drop_reason"] for row in rows if row["drop_reason"] is not None}
            keep = [row for row in rows if row["drop_reason"] is None]
            name = f"groups/{len(files):05d}.parquet"
            round_dir.write(name, parquet_bytes(keep, TrainingGroup.schema()))
            files.append(f"{round_dir.relative}/{name}")
            kept += len(keep)
            responses += sum(len(row["rewards"]) for row in keep)
        stats = {"responses": float(responses), **facts}
        return Groups(files, kept, dict(Counter(reasons.values())), stats, reasons)

    def revision_shards(self, round_index: int, shards: Sequence[int]) -> list[Shard]:
        """For each shard, one prompt per flawed response that asks for a better one."""
        round_dir = self._run_dir.round(round_index)
        streams = self._recipe.streams()
        found = []
        for shard in shards:
            groups = _shard_groups(round_dir, shard, self._recipe)
            asked = [p for prompt, group in groups for _, p in streams.revision_prompts(prompt, group)]
            found.append(Shard(shard, tuple(asked)))
        return found


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
        keys: list[int] = []
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


def _groups(round_dir: RoundDir, shards: Sequence[int], recipe: _Recipe) -> Any:
    """A Ray dataset of all groups as rows, sorted by prompt id."""
    reader = round_dir.for_reading()

    def groups_of(row: dict[str, Any]) -> list[dict[str, Any]]:
        streams = recipe.streams()
        return [
            streams.add(group, prompt).to_row() for prompt, group in _shard_groups(reader, int(row["shard"]), recipe)
        ]

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # The default shuffle starts worker processes for every sort: 5 s for a few hundred rows. The push-based one
    # binds tasks to nodes and waits for ever where a node has no CPU to spare.
    context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
    blocks = math.ceil(len(shards) / SHARDS_PER_TASK)
    dataset = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=blocks)
    return dataset.flat_map(groups_of, num_cpus=0.25).sort("prompt_id")


def _shard_groups(round_dir: RoundDir, shard: int, recipe: _Recipe) -> list[tuple[Prompt, TrainingGroup]]:
    by_prompt: dict[str, list[ScoredSample]] = {}
    for row in round_dir.read_shard("train", shard) or []:
        by_prompt.setdefault(row.sample.prompt_id, []).append(row)
    prompts = [
        prompt for prompt in round_dir.read_prompts(shard * SHARD_PROMPTS, SHARD_PROMPTS) if prompt.id in by_prompt
    ]
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


def _chunks(dataset: Any) -> Iterator[list[dict[str, Any]]]:
    """Rows in order, at most ROWS_PER_FILE at a time."""
    for batch in dataset.iter_batches(batch_size=ROWS_PER_FILE, batch_format="pyarrow"):
        yield batch.to_pylist()
