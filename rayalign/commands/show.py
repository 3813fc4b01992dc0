"""`rayalign show`: what a round's prompts were answered, how the answers were scored, and what was trained on."""

from __future__ import annotations

import dataclasses
import json
import statistics
from typing import TypedDict

from rayalign.display import format_value
from rayalign.records import Prompt, ScoredSample
from rayalign.store.files import json_value
from rayalign.store.round_answers import RoundAnswers, find_id, read_round
from rayalign.store.saved_run import SavedRun
from rayalign.tracking.console import terminal_text

LISTED = 20
"""Prompts that a list shows if not told otherwise."""
TITLE = 72


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


def _mean_reward(rows: list[ScoredSample]) -> float | None:
    rewards = [row.reward for row in rows if row.reward is not None]
    return statistics.mean(rewards) if rewards else None


class PromptSummary(TypedDict):
    """One prompt in a list of them."""

    id: str
    text: str
    answers: int
    mean_reward: float | None
    group: str


def _summary(content: RoundAnswers, prompt_id: str) -> PromptSummary:
    rows = content.answers[prompt_id]
    return {
        "id": prompt_id,
        "text": content.prompts[prompt_id].text,
        "answers": len(rows),
        "mean_reward": _mean_reward(rows),
        "group": content.group_state(prompt_id),
    }


def _details(content: RoundAnswers, prompt: Prompt, limit: int | None) -> dict[str, object]:
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


def _json(data: dict[str, object]) -> str:
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
        lines += [
            "",
            f"answer {row.sample.index}: reward {format_value(row.reward)}, "
            f"{len(row.sample.token_ids)} tokens{cut}, adapter {row.sample.adapter_version}",
        ]
        if (left_out := content.answer_state(row)) is not None:
            lines.append(f"  {left_out}")
        lines.append(_indent(row.sample.text, 4))
        for score in row.scores:
            lines.append(
                f"  {score.scorer} (version {score.scorer_version}): {score.status}, reward "
                f"{format_value(score.reward)}"
            )
            facts = {
                "verdict": score.verdict,
                "reason": score.reason,
                "judgment": score.judgment,
                "preferred over answer": score.preferred_over,
            }
            facts |= {f"aspect {name}": format_value(value) for name, value in score.aspects.items()}
            lines += [_indent(f"{name}: {value}", 4) for name, value in facts.items() if value is not None]
    if limit is not None and len(rows) > limit:
        lines += ["", f"... and {len(rows) - limit} more answers"]
    return "\n".join(lines)


def _indent(text: str, by: int) -> str:
    """Every line moved right, so that no line of an answer can pass for one of ours."""
    return "\n".join(" " * by + line for line in text.splitlines() or [""])
