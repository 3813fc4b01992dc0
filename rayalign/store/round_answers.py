"""A finished round's prompts with all that was answered and how it was scored, for reading."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rayalign.errors import RunFolderError
from rayalign.records import SHARD_PROMPTS, Prompt, ScoredSample, TrainingGroup
from rayalign.store.group_parts import read_drop_reasons
from rayalign.store.round_dir import PROMPTS_PER_ROW_GROUP, RoundDir
from rayalign.store.saved_run import SavedRun
from rayalign.store.tables import read_parquet


@dataclass(frozen=True, slots=True)
class RoundAnswers:
    """Some of a round's prompts with all answers that are committed so far."""

    index: int
    finished: bool
    ids: list[str]
    """Ids of all prompts of the round, in its order."""
    prompts: dict[str, Prompt]
    """Those that were asked for, by id, in the order of the round."""
    answers: dict[str, list[ScoredSample]]
    """Answers by prompt id; a prompt whose shard is not committed has none."""
    groups: dict[str, TrainingGroup] | None
    """Kept groups by prompt id; None before they are built."""
    drop_reasons: dict[str, str]

    def group_state(self, prompt_id: str) -> str:
        """`kept`, or why the prompt is not trained on, or `not built yet`."""
        if self.groups is None:
            return "not built yet"
        if prompt_id in self.groups:
            return "kept"
        return f"dropped: {self.drop_reasons.get(prompt_id, 'the reason was not stored')}"

    def answer_state(self, row: ScoredSample) -> str | None:
        """Why an answer is not in its prompt's kept group; None where it is, or where there is no such group."""
        group = (self.groups or {}).get(row.sample.prompt_id)
        if group is None or row.sample.index in group.response_indices:
            return None
        if not row.sample.token_ids:
            return "left out: it has no tokens"
        same = zip(group.response_indices, group.response_token_ids, strict=True)
        twin = next((index for index, tokens in same if tokens == row.sample.token_ids), None)
        return "left out: no objective can use it" if twin is None else f"left out: the same tokens as answer {twin}"


def read_round(run: SavedRun, index: int, choose: Callable[[list[str]], list[str]] = list) -> RoundAnswers:
    """A round with the prompts that `choose` asks for.

    Args:
        choose: takes the ids of all prompts and gives those to read, which alone are then in memory.

    Raises:
        RunFolderError: the round has no prompts, or its files are damaged.
    """
    if index == 0:
        raise RunFolderError(
            "round 0 has no prompts to train on",
            "it only measures the base model on held-out prompts",
            "show those with --samples evaluation, or give a round from 1 on",
        )
    round_dir = run.run_dir.round(index)
    if round_dir.committed("prompts") is None:
        run.finished(index)
    ids = round_dir.prompt_ids()
    chosen = set(choose(ids))
    shards = sorted({place // SHARD_PROMPTS for place, one in enumerate(ids) if one in chosen})
    prompts = {prompt.id: prompt for prompt in _prompts(round_dir, shards) if prompt.id in chosen}
    answers: dict[str, list[ScoredSample]] = {one: [] for one in prompts}
    for shard in shards:
        for row in round_dir.read_shard("train", shard) or []:
            if row.sample.prompt_id in answers:
                answers[row.sample.prompt_id].append(row)
    groups, reasons = _groups(run, round_dir, chosen)
    return RoundAnswers(index, round_dir.finished, ids, prompts, answers, groups, reasons)


def _prompts(round_dir: RoundDir, shards: Iterable[int]) -> Iterator[Prompt]:
    """The prompts of these shards, and perhaps of more."""
    for start in sorted({shard * SHARD_PROMPTS // PROMPTS_PER_ROW_GROUP for shard in shards}):
        yield from round_dir.read_prompts(start * PROMPTS_PER_ROW_GROUP, PROMPTS_PER_ROW_GROUP)


def _groups(
    run: SavedRun, round_dir: RoundDir, chosen: Collection[str]
) -> tuple[dict[str, TrainingGroup] | None, dict[str, str]]:
    saved = round_dir.committed("groups")
    if saved is None:
        return None, {}
    rows = (row for name in saved["groups"]["files"] for row in read_parquet(run.run_dir.root / name))
    groups = {row["prompt_id"]: TrainingGroup.from_row(row) for row in rows if row["prompt_id"] in chosen}
    # A folder of an older version may have the reasons in the commit itself.
    inline = saved["groups"].get("drop_reasons", {})
    return groups, read_drop_reasons(run.run_dir, saved["groups"].get("drop_files", [])) | inline


def find_id(ids: Sequence[str], prefix: str, index: int) -> str:
    """The id of round `index` that begins so.

    Raises:
        RunFolderError: none of `ids` does, or several.
    """
    found = [one for one in ids if one.startswith(prefix)] if prefix else []
    if len(found) == 1:
        return found[0]
    if not found:
        raise RunFolderError(
            f"round {index} has no prompt {prefix!r}",
            f"none of its {len(ids)} prompts has an id that begins so",
            "see the ids with the same command without --prompt",
        )
    raise RunFolderError(
        f"--prompt {prefix} could be {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}",
        f"{len(found)} ids begin so",
        "give more of the id",
    )
