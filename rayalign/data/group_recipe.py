"""How a round's scored answers become training groups: a pure function of rows, prompts and revisions.

rows of a shard ─► best-of rules of the objectives ─► groups ─► + targets ─► + revisions
                       ▲
all rows of the round ─┘  (how many answers without fault may stay)
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterable, Mapping, Sequence

from rayalign.config.objective import CUTObjective, SelfContrastObjective
from rayalign.config.run import RunConfig
from rayalign.data.pools import choose_negatives
from rayalign.data.selection import build_group, judged_score, positive_key, positive_limit
from rayalign.errors import GuardError
from rayalign.records import Prompt, ScoredSample, TrainingGroup
from rayalign.rendering.renderer import ChatRenderer


@dataclasses.dataclass(frozen=True)
class GroupRecipe:
    """How scored samples become groups; travels to the tasks that build them."""

    config: RunConfig
    positive_limit: int | None = None
    """Answers without fault that have a larger `positive_key` are set aside; None keeps all."""
    seed: int = 0
    round_index: int = 0

    @property
    def needs(self) -> frozenset[str]:
        """What the run's objectives learn from."""
        return frozenset(need for objective in self.config.objectives for need in objective.needs)

    @property
    def writes_tokens(self) -> bool:
        """Whether a renderer is needed."""
        return bool(self.needs & {"judgments", "targets"})

    def with_positives(
        self, round_index: int, rows: Iterable[ScoredSample], seed: int
    ) -> tuple[GroupRecipe, dict[str, float]]:
        """The recipe with the round's limit for positives, and what was counted on the way.

        Args:
            rows: all training rows of the round, in any order; only read where CUT is one of the objectives.

        Raises:
            GuardError: CUT has nothing to learn from, because every judgment is positive.
        """
        cut = next((o for o in self.config.objectives if isinstance(o, CUTObjective)), None)
        if cut is None:
            return self, {}
        keys = array("Q")
        negatives = 0
        for row in rows:
            score = judged_score(row)
            if score is not None and row.sample.token_ids:
                negatives += score.verdict == "flawed"
                if score.verdict == "perfect":
                    keys.append(positive_key(seed, round_index, row))
        alone = len(self.config.objectives) == 1
        if alone and negatives == 0 and keys and cut.positives >= 0:
            raise GuardError(
                f"round {round_index}: all {len(keys)} judgments are positive",
                "CUT learns from criticism, and positives are down-sampled to a ratio of the negatives, which is none",
                "end the run here, ask a stricter judge, or set objective.positives: -1 to train on the positives",
            )
        limit = positive_limit(keys, negatives, cut.positives)
        left = len(keys) if limit is None else sum(key <= limit for key in keys)
        facts = {"negatives": float(negatives), "positives": float(len(keys)), "positives_kept": float(left)}
        return dataclasses.replace(self, positive_limit=limit, seed=seed, round_index=round_index), facts

    def groups_of_shard(
        self,
        rows: Iterable[ScoredSample],
        prompts: Sequence[Prompt],
        revised: Mapping[str, list[int]] | None,
        renderer: ChatRenderer | None,
    ) -> list[tuple[Prompt, TrainingGroup]]:
        """The group of each prompt that was answered, in the order of the prompts.

        Args:
            revised: token ids of better answers, by the ids that `JudgedStreams.revision_prompts` gave; None where
                nobody was asked for any.
            renderer: of the policy's prompts; may be None where the recipe does not write tokens.
        """
        by_prompt: dict[str, list[ScoredSample]] = {}
        for row in rows:
            by_prompt.setdefault(row.sample.prompt_id, []).append(row)
        groups = [(prompt, self.group(prompt, by_prompt[prompt.id])) for prompt in prompts if prompt.id in by_prompt]
        if "targets" in self.needs:
            assert renderer is not None
            groups = [(prompt, _with_target(group, prompt, renderer)) for prompt, group in groups]
        return groups if revised is None else [(prompt, with_revisions(group, revised)) for prompt, group in groups]

    def group(self, prompt: Prompt, rows: list[ScoredSample]) -> TrainingGroup:
        """One prompt's group; of Self-Contrast alone, with its negatives only."""
        section, (contrast, *others) = self.config.groups, self.config.objectives
        if others or not isinstance(contrast, SelfContrastObjective):
            return build_group(prompt, rows, section, self.needs, self._keeps_positive)
        negatives = choose_negatives(prompt, rows, contrast, self.config.similarity_scorer, self.config.run.seed)
        if contrast.filters:
            # The pool says whether a text may stand there twice.
            section = section.model_copy(update={"deduplicate": False})
        group = build_group(prompt, negatives, section, self.needs, self._keeps_positive)
        few = not negatives and prompt.target is not None
        return dataclasses.replace(group, drop_reason="too_few_negatives") if few else group

    def _keeps_positive(self, row: ScoredSample) -> bool:
        limit = self.positive_limit
        return limit is None or positive_key(self.seed, self.round_index, row) <= limit


def _with_target(group: TrainingGroup, prompt: Prompt, renderer: ChatRenderer) -> TrainingGroup:
    if prompt.target is None:
        return group
    token_ids = renderer.answer(prompt.messages, prompt.target, f"target of {prompt.id}")
    return dataclasses.replace(group, target_token_ids=token_ids)


def with_revisions(group: TrainingGroup, revised: Mapping[str, list[int]]) -> TrainingGroup:
    """The group with the better answers to its own responses; an empty list where a response has none."""
    by_response = {tuple(name.rsplit("-", 2)[1:]): ids for name, ids in revised.items()}
    found = [by_response.get((group.prompt_id, str(index)), []) for index in group.response_indices]
    return dataclasses.replace(group, revised_token_ids=found)
