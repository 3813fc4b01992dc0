"""`rayalign show`: what a round's prompts were answered, how the answers were scored, and what was trained on."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rayalign.console import terminal_text
from rayalign.errors import RunFolderError
from rayalign.group_parts import read_drop_reasons
from rayalign.metrics import format_value, json_value
from rayalign.records import Prompt, ScoredSample, TrainingGroup
from rayalign.run_dir import PROMPTS_PER_ROW_GROUP, RoundDir, read_parquet
from rayalign.saved_run import SavedRun
from rayalign.stages import SHARD_PROMPTS

LISTED = 20
"""Prompts that a list shows if not told otherwise."""
TITLE = 72


@dataclass(frozen=True, slots=True)
class RoundAnswers:
    """Some of a round's prompts with all answers that are committed so far."""

    index: int
    finished: bool
    ids: list[str]
    """Of all prompts of the round, in its order."""
    prompts: dict[str, Prompt]
    """Those that were asked for, by id, in the order of the round."""
    answers: dict[str, list[ScoredSample]]
    """By prompt id; a prompt whose shard is not committed has none."""
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


def show(place: str, round_index: int | None, prompt_id: str | None, limit: int | None, *, as_json: bool) -> str:
    """What the command prints.

    Args:
        round_index: None takes the last finished round.
        prompt_id: a prompt's id or the beginning of one; None lists the prompts.
        limit: prompts (of a list) or answers (of a prompt) that are shown at most.

    Raises:
        RunFolderError: no such run, round or prompt, or damaged files.
    """
    run = SavedRun.at(place)
    index = run.finished(None).index if round_index is None else round_index
    if prompt_id is None:
        content = read_round(run, index, lambda ids: ids[: limit if as_json else limit or LISTED])
        if as_json:
            rows = [_summary(content, one) for one in content.prompts]
            return _json({"run": run.name, "round": content.index, "finished": content.finished, "prompts": rows})
        return terminal_text(_list(run, content))
    content = read_round(run, index, lambda ids: [find_id(ids, prompt_id, index)])
    (found,) = content.prompts.values()
    if as_json:
        return _json({"run": run.name, "round": content.index, **_details(content, found, limit)})
    return terminal_text(_text(content, found, limit))


def read_round(run: SavedRun, index: int, choose: Callable[[list[str]], list[str]] = list) -> RoundAnswers:
    """
    Args:
        choose: takes the ids of all prompts and gives those to read, which alone are then in memory.

    Raises:
        RunFolderError: the round has no prompts, or its files are damaged.
    """
    if index == 0:
        raise RunFolderError("round 0 has no prompts to show", "it only measures the base model on held-out prompts",
                             "give a round from 1 on; round 0's metrics are in report.html")  # fmt: skip
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
        raise RunFolderError(f"round {index} has no prompt {prefix!r}",
                             f"none of its {len(ids)} prompts has an id that begins so",
                             "see the ids with the same command without --prompt")  # fmt: skip
    raise RunFolderError(f"--prompt {prefix} could be {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}",
                         f"{len(found)} ids begin so", "give more of the id")  # fmt: skip


def _mean_reward(rows: list[ScoredSample]) -> float | None:
    rewards = [row.reward for row in rows if row.reward is not None]
    return statistics.mean(rewards) if rewards else None


def _summary(content: RoundAnswers, prompt_id: str) -> dict[str, Any]:
    rows = content.answers[prompt_id]
    return {
        "id": prompt_id,
        "text": content.prompts[prompt_id].text,
        "answers": len(rows),
        "mean_reward": _mean_reward(rows),
        "group": content.group_state(prompt_id),
    }


def _details(content: RoundAnswers, prompt: Prompt, limit: int | None) -> dict[str, Any]:
    answers = [
        {
            "index": row.sample.index,
            "text": row.sample.text,
            "tokens": len(row.sample.token_ids),
            "finish_reason": row.sample.finish_reason,
            "adapter_version": row.sample.adapter_version,
            "reward": row.reward,
            "scores": [dataclasses.asdict(score) for score in row.scores],
            "left_out": content.answer_state(row),
        }
        for row in content.answers[prompt.id][:limit]
    ]
    whole = {"messages": prompt.messages, "target": prompt.target, "metadata": prompt.metadata}
    return {"prompt": {**_summary(content, prompt.id), **whole}, "answers": answers}


def _json(data: dict[str, Any]) -> str:
    return json.dumps(json_value(data), indent=1)


def _list(run: SavedRun, content: RoundAnswers) -> str:
    state = "" if content.finished else ", not finished"
    lines = [f"{run.name}, round {content.index}{state}: {len(content.ids)} prompts", ""]
    lines.append("id                answers  mean reward  group            prompt")
    for one in content.prompts:
        row = _summary(content, one)
        title = " ".join(row["text"].split())
        title = title if len(title) <= TITLE else f"{title[: TITLE - 3]}..."
        reward = format_value(row["mean_reward"])
        lines.append(f"{one:<16}  {row['answers']:>7}  {reward:>11}  {row['group']:<15}  {title}")
    if more := len(content.ids) - len(content.prompts):
        lines.append(f"... and {more} more: --limit {len(content.ids)} shows all, --prompt ID one with its answers")
    return "\n".join(lines)


def _text(content: RoundAnswers, prompt: Prompt, limit: int | None) -> str:
    rows = content.answers[prompt.id]
    lines = [f"prompt {prompt.id}, round {content.index}, group {content.group_state(prompt.id)}"]
    for message in prompt.messages:
        lines += [f"  {message['role']}:", _indent(message["content"], 4)]
    if prompt.target is not None:
        lines += ["  target:", _indent(prompt.target, 4)]
    if not rows:
        lines += ["", "its answers are not committed yet"]
    for row in rows[:limit]:
        cut = ", cut at sampling.max_tokens" if row.sample.finish_reason == "length" else ""
        lines += ["", f"answer {row.sample.index}: reward {format_value(row.reward)}, "
                  f"{len(row.sample.token_ids)} tokens{cut}, adapter {row.sample.adapter_version}"]  # fmt: skip
        if (left_out := content.answer_state(row)) is not None:
            lines.append(f"  {left_out}")
        lines.append(_indent(row.sample.text, 4))
        for score in row.scores:
            lines.append(f"  {score.scorer} (version {score.scorer_version}): {score.status}, reward "
                         f"{format_value(score.reward)}")  # fmt: skip
            facts = {"verdict": score.verdict, "reason": score.reason, "judgment": score.judgment,
                     "preferred over answer": score.preferred_over}  # fmt: skip
            facts |= {f"aspect {name}": format_value(value) for name, value in score.aspects.items()}
            lines += [_indent(f"{name}: {value}", 4) for name, value in facts.items() if value is not None]
    if limit is not None and len(rows) > limit:
        lines += ["", f"... and {len(rows) - limit} more answers"]
    return "\n".join(lines)


def _indent(text: str, by: int) -> str:
    """Every line moved right, so that no line of an answer can pass for one of ours."""
    return "\n".join(" " * by + line for line in text.splitlines() or [""])
