"""How `rayalign show` puts prompts and their answers, as lines for people and as rows for machines."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from rayalign.display import format_value
from rayalign.records import JsonObject, Prompt, ScoredSample

TITLE = 72
NO_TEXT = "(its text is in the run's prompts.source, which is not here)"


def mean_reward(rows: Sequence[ScoredSample]) -> float | None:
    """Over the answers that have a reward; None where none has."""
    rewards = [row.reward for row in rows if row.reward is not None]
    return statistics.mean(rewards) if rewards else None


def title(text: str | None) -> str:
    """A prompt's text, cut, on one line."""
    line = NO_TEXT if text is None else " ".join(text.split())
    return line if len(line) <= TITLE else f"{line[: TITLE - 3]}..."


def prompt_lines(prompt: Prompt | None) -> list[str]:
    """A prompt's messages and target; None is one whose text is not known."""
    if prompt is None:
        return [f"  {NO_TEXT}"]
    lines: list[str] = []
    for message in prompt.messages:
        lines += [f"  {message['role']}:", _indent(message["content"], 4)]
    if prompt.target is not None:
        lines += ["  target:", _indent(prompt.target, 4)]
    return lines


def prompt_row(prompt: Prompt | None) -> JsonObject:
    """A prompt as JSON, empty where its text is not known."""
    if prompt is None:
        return {}
    return {"messages": prompt.messages, "target": prompt.target, "metadata": prompt.metadata}


def answer_lines(row: ScoredSample, left_out: str | None = None) -> list[str]:
    """An answer and its scores.

    Args:
        left_out: why it is not in its prompt's group.
    """
    cut = ", cut at sampling.max_tokens" if row.sample.finish_reason == "length" else ""
    lines = [
        "",
        f"answer {row.sample.index}: reward {format_value(row.reward)}, "
        f"{len(row.sample.token_ids)} tokens{cut}, adapter {row.sample.adapter_version}",
    ]
    if left_out is not None:
        lines.append(f"  {left_out}")
    lines.append(_indent(row.sample.text, 4))
    for score in row.scores:
        lines.append(
            f"  {score.scorer} (version {score.scorer_version}): {score.status}, reward {format_value(score.reward)}"
        )
        facts = {
            "verdict": score.verdict,
            "reason": score.reason,
            "judgment": score.judgment,
            "preferred over answer": score.preferred_over,
        }
        facts |= {f"aspect {name}": format_value(value) for name, value in score.aspects.items()}
        lines += [_indent(f"{name}: {value}", 4) for name, value in facts.items() if value is not None]
    return lines


def answer_row(row: ScoredSample) -> JsonObject:
    """An answer and its scores as JSON."""
    return {
        "index": row.sample.index,
        "text": row.sample.text,
        "tokens": len(row.sample.token_ids),
        "finish_reason": row.sample.finish_reason,
        "adapter_version": row.sample.adapter_version,
        "reward": row.reward,
        "scores": [dataclasses.asdict(score) for score in row.scores],
    }


def _indent(text: str, by: int) -> str:
    """Every line moved right, so that no line of an answer can pass for one of ours."""
    return "\n".join(" " * by + line for line in text.splitlines() or [""])
