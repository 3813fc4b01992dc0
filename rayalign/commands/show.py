"""`rayalign show`: what a round's prompts were answered, how the answers were scored, and what was trained on."""

from __future__ import annotations

import json
from typing import Literal, TypedDict

from rayalign.commands.answer_text import answer_lines, answer_row, mean_reward, prompt_lines, prompt_row, title
from rayalign.commands.show_held_out import compare_rounds, show_held_out
from rayalign.display import format_value
from rayalign.errors import ConfigError
from rayalign.records import Prompt, ScoredPurpose
from rayalign.store.files import json_value
from rayalign.store.round_answers import RoundAnswers, find_id, read_round
from rayalign.store.saved_run import SavedRun
from rayalign.tracking.console import terminal_text

LISTED = 20
"""Prompts that a list shows if not told otherwise."""


def show(
    place: str,
    asked: int | Literal["best"] | None,
    prompt_id: str | None,
    limit: int | None,
    *,
    as_json: bool,
    samples: ScoredPurpose | None = None,
    compare: int | None = None,
) -> str:
    """What the command prints.

    Args:
        asked: the round; None takes the last finished one.
        prompt_id: a prompt's id or the beginning of one; None lists the prompts.
        limit: prompts (of a list) or answers (of a prompt) that are shown at most.
        samples: training's answers, or those to held-out prompts; None is `evaluation` with `compare`, else `train`.
        compare: a round whose answers to the same held-out prompts these are compared with.

    Raises:
        RunFolderError: no such run, round or prompt, or damaged files.
        ConfigError: `compare` with training's answers.
    """
    run = SavedRun.at(place)
    index = asked if isinstance(asked, int) else run.chosen(asked)[0].index
    listed = limit if as_json else limit or LISTED
    if compare is not None:
        if samples == "train":
            why = "each round draws other prompts to train on, and held-out ones stay the same"
            raise ConfigError("--compare with --samples train", why, "compare --samples evaluation")
        found = compare_rounds(run, (index, compare), samples or "evaluation", prompt_id, listed)
    elif samples is None or samples == "train":
        found = _trained(run, index, prompt_id, limit if prompt_id is not None else listed)
    else:
        found = show_held_out(run, index, samples, prompt_id, limit if prompt_id is not None else listed)
    data, lines = found
    return json.dumps(json_value(data), indent=1) if as_json else terminal_text("\n".join(lines))


def _trained(
    run: SavedRun, index: int, prompt_id: str | None, limit: int | None
) -> tuple[dict[str, object], list[str]]:
    """A round's training prompts, or one of them, for machines and for people."""
    if prompt_id is None:
        content = read_round(run, index, lambda ids: ids[:limit])
        rows = [_summary(content, one) for one in content.prompts]
        data = {"run": run.name, "round": content.index, "finished": content.finished, "prompts": rows}
        return data, _list(run, content)
    content = read_round(run, index, lambda ids: [find_id(ids, prompt_id, index)])
    (found,) = content.prompts.values()
    data = {"run": run.name, "round": content.index, **_details(content, found, limit)}
    return data, _lines(content, found, limit)


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
        "mean_reward": mean_reward(rows),
        "group": content.group_state(prompt_id),
    }


def _details(content: RoundAnswers, prompt: Prompt, limit: int | None) -> dict[str, object]:
    rows = content.answers[prompt.id][:limit]
    answers = [{**answer_row(row), "left_out": content.answer_state(row)} for row in rows]
    return {"prompt": {**_summary(content, prompt.id), **prompt_row(prompt)}, "answers": answers}


def _list(run: SavedRun, content: RoundAnswers) -> list[str]:
    state = "" if content.finished else ", not finished"
    lines = [f"{run.name}, round {content.index}{state}: {len(content.ids)} prompts", ""]
    lines.append("id                answers  mean reward  group            prompt")
    for one in content.prompts:
        row = _summary(content, one)
        reward = format_value(row["mean_reward"])
        lines.append(f"{one:<16}  {row['answers']:>7}  {reward:>11}  {row['group']:<15}  {title(row['text'])}")
    if more := len(content.ids) - len(content.prompts):
        lines.append(f"... and {more} more: --limit {len(content.ids)} shows all, --prompt ID one with its answers")
    return lines


def _lines(content: RoundAnswers, prompt: Prompt, limit: int | None) -> list[str]:
    rows = content.answers[prompt.id]
    lines = [f"prompt {prompt.id}, round {content.index}, group {content.group_state(prompt.id)}"]
    lines += prompt_lines(prompt)
    if not rows:
        lines += ["", "its answers are not committed yet"]
    for row in rows[:limit]:
        lines += answer_lines(row, content.answer_state(row))
    if limit is not None and len(rows) > limit:
        lines += ["", f"... and {len(rows) - limit} more answers"]
    return lines
