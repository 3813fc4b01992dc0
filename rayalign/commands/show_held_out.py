"""Answers to held-out prompts: one round's, and gains and losses per prompt between two rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from rayalign.commands.answer_text import answer_lines, answer_row, mean_reward, prompt_lines, prompt_row, title
from rayalign.commands.held_out import known, nothing_there
from rayalign.display import format_value
from rayalign.records import JsonObject, Prompt, ScoredPurpose, ScoredSample
from rayalign.store.round_answers import find_id
from rayalign.store.saved_run import SavedRun

Shown = tuple[dict[str, object], list[str]]
"""For machines, and as lines for people."""
Answers = Mapping[str, list[ScoredSample]]
"""By prompt id, in the order of the round."""


def show_held_out(run: SavedRun, index: int, purpose: ScoredPurpose, prompt_id: str | None, limit: int | None) -> Shown:
    """A round's held-out prompts with their mean rewards, or one of them with its answers.

    Args:
        prompt_id: a prompt's id or the beginning of one.
        limit: prompts, or answers of the one prompt, at most.

    Raises:
        RunFolderError: the round has no such answers, or no such prompt.
    """
    answers = _read(run, index, purpose)
    if prompt_id is not None:
        return _one(run, [(index, answers)], purpose, prompt_id, limit)
    ids = list(answers)[:limit]
    texts = known(run, ids)
    rows = [
        {"id": one, "text": _text(texts, one), "answers": len(answers[one]), "mean_reward": mean_reward(answers[one])}
        for one in ids
    ]
    finished = run.run_dir.round(index).finished
    state = "" if finished else ", not finished"
    lines = [f"{run.name}, round {index}{state}, {purpose}: {len(answers)} held-out prompts", ""]
    lines.append("id                answers  mean reward  prompt")
    lines += [
        f"{row['id']:<16}  {row['answers']:>7}  {format_value(row['mean_reward']):>11}  {title(row['text'])}"
        for row in rows
    ]
    if more := len(answers) - len(ids):
        lines.append(f"... and {more} more: --limit {len(answers)} shows all, --prompt ID one with its answers")
    return {"run": run.name, "round": index, "samples": purpose, "finished": finished, "prompts": rows}, lines


def compare_rounds(
    run: SavedRun, rounds: tuple[int, int], purpose: ScoredPurpose, prompt_id: str | None, limit: int | None
) -> Shown:
    """Gains and losses of a round against another one: per held-out prompt the difference of the mean rewards.

    Args:
        rounds: (this one, the one that it is compared with).
        prompt_id: shows both rounds' answers to this prompt instead.
        limit: prompts at most, from both ends of the list, gains first.

    Raises:
        RunFolderError: a round has no such answers, or no such prompt.
    """
    new, old = (_read(run, index, purpose) for index in rounds)
    if prompt_id is not None:
        return _one(run, list(zip(rounds, (new, old), strict=True)), purpose, prompt_id, limit)
    rows = _differences(new, old)
    gained, lost = (sum(sign * row["difference"] > 0 for row in rows) for sign in (1, -1))
    data = {
        "run": run.name,
        "round": rounds[0],
        "compared_with": rounds[1],
        "samples": purpose,
        "gained": gained,
        "lost": lost,
        "same": len(rows) - gained - lost,
        "not_compared": len(new.keys() | old.keys()) - len(rows),
        "mean_difference": statistics.mean(row["difference"] for row in rows) if rows else None,
    }
    shown = _ends(rows, limit)
    texts = known(run, [row["id"] for row in shown])
    shown = [{**row, "text": _text(texts, row["id"])} for row in shown]
    return {**data, "prompts": shown}, _comparison(data, shown, len(rows))


def _comparison(data: JsonObject, shown: list[JsonObject], total: int) -> list[str]:
    """A comparison of `total` prompts in words, of which some are shown."""
    lines = [
        f"{data['run']}, round {data['round']} against round {data['compared_with']}, {data['samples']}: of {total} "
        f"held-out prompts {data['gained']} gained, {data['lost']} lost, {data['same']} the same; mean difference "
        f"{_signed(data['mean_difference'])}"
    ]
    if left_out := data["not_compared"]:
        lines.append(f"{left_out} prompts have no reward in one of the two rounds")
    lines += ["", f"id                difference  round {data['round']:<4}  round {data['compared_with']:<4}  prompt"]
    for place, row in enumerate(shown):
        if len(shown) < total and place == _first_half(len(shown)):
            lines.append(f"... {total - len(shown)} between: --limit {total} shows all")
        now, before = format_value(row["mean_reward"]), format_value(row["compared"])
        lines.append(
            f"{row['id']:<16}  {_signed(row['difference']):>10}  {now:>10}  {before:>10}  {title(row['text'])}"
        )
    return lines


def _differences(new: Answers, old: Answers) -> list[JsonObject]:
    """Of each prompt with a mean reward in both rounds, the largest gain first."""
    rows: list[JsonObject] = []
    for one in new:
        now, before = mean_reward(new[one]), mean_reward(old.get(one, []))
        if now is not None and before is not None:
            rows.append({"id": one, "difference": now - before, "mean_reward": now, "compared": before})
    return sorted(rows, key=lambda row: (-row["difference"], row["id"]))


def _ends(rows: list[JsonObject], limit: int | None) -> list[JsonObject]:
    """At most `limit` of the rows, half of them from each end."""
    if limit is None or limit >= len(rows):
        return rows
    first = _first_half(limit)
    return rows[:first] + rows[len(rows) - (limit - first) :]


def _first_half(count: int) -> int:
    return -(-count // 2)


def _one(
    run: SavedRun, rounds: Sequence[tuple[int, Answers]], purpose: ScoredPurpose, prompt_id: str, limit: int | None
) -> Shown:
    """One prompt's answers in each of the rounds."""
    index, answers = rounds[0]
    one = find_id(list(answers), prompt_id, index)
    prompt = known(run, [one]).get(one)
    parts: list[JsonObject] = []
    lines = [f"prompt {one}, held out", *prompt_lines(prompt)]
    for index, answers in rounds:
        rows = answers.get(one, [])
        found = [answer_row(row) for row in rows[:limit]]
        parts.append({"round": index, "mean_reward": mean_reward(rows), "answers": found})
        lines += ["", f"round {index}, {purpose}: mean reward {format_value(mean_reward(rows))}"]
        for row in rows[:limit]:
            lines += answer_lines(row)
        if limit is not None and len(rows) > limit:
            lines += ["", f"... and {len(rows) - limit} more answers"]
    data = {"run": run.name, "samples": purpose, "prompt": {"id": one, **prompt_row(prompt)}, "rounds": parts}
    return data, lines


def _read(run: SavedRun, index: int, purpose: ScoredPurpose) -> dict[str, list[ScoredSample]]:
    """All committed answers of a round to held-out prompts."""
    round_dir = run.run_dir.round(index)
    shards = round_dir.shards(purpose)
    if not shards:
        raise nothing_there(run.run_dir, round_dir, purpose)
    answers: dict[str, list[ScoredSample]] = {}
    for shard in shards:
        for row in round_dir.read_shard(purpose, shard) or []:
            answers.setdefault(row.sample.prompt_id, []).append(row)
    return answers


def _text(texts: Mapping[str, Prompt], one: str) -> str | None:
    return texts[one].text if one in texts else None


def _signed(value: float | None) -> str:
    """A difference with its sign."""
    return format_value(value) if value is None or value <= 0 else f"+{format_value(value)}"
