"""One prompt with all its answers over the rounds, as the sample browser shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from rayalign.dashboard.answer_files import Damage, Shard, read_each, read_prompts, read_shard, rows_of
from rayalign.dashboard.answer_index import AnswerIndex
from rayalign.dashboard.readings import items, section
from rayalign.records import JsonObject
from rayalign.store.round_dir import RoundDir

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = ["prompt_id", "index", "text", "token_ids", "finish_reason", "adapter_version"]
SCORED = ["prompt_id", "index", "reward", "scores"]
UNKNOWN: JsonObject = {"messages": [], "target": None, "metadata": {}}
"""What is shown of a prompt whose text is not kept."""


class PromptView:
    """Makes views of an index's run."""

    def __init__(self, index: AnswerIndex) -> None:
        self._index = index

    def of(self, prompt_ids: Collection[str], purpose: str, shards: Collection[Shard]) -> list[JsonObject]:
        """The views of prompts, in their order, without those that no round has an answer to; texts as they are.

        Args:
            shards: where to look; each file is read once, whatever the number of prompts.
        """
        rounds: dict[str, dict[int, list[JsonObject]]] = {one: {} for one in prompt_ids}
        for shard, found in read_each(lambda shard: self._answers(shard, prompt_ids), shards):
            for one, answers in found.items():
                rounds[one].setdefault(shard.round, []).extend(answers)
        asked = self._prompts(purpose, {one: set(found) for one, found in rounds.items()})
        return [
            {"id": one, **asked.get(one, UNKNOWN), "rounds": _in_order(found)} for one, found in rounds.items() if found
        ]

    def _prompts(self, purpose: str, rounds: Mapping[str, Collection[int]]) -> dict[str, JsonObject]:
        """Messages, target and metadata by id, of those of the prompts that the folder holds."""
        kind = "train" if purpose == "train" else "held out"
        places = sorted({min(found) for found in rounds.values() if found}) if kind == "train" else [0]
        asked: dict[str, JsonObject] = {}
        for index in places:
            try:
                found = read_prompts(self._index.run.run_dir, kind, index, rounds) or []
            except Damage:
                continue  # The index names it among its problems.
            asked |= {row["id"]: {name: row[name] for name in UNKNOWN} for row in found}
        return asked

    def _answers(self, shard: Shard, prompt_ids: Collection[str]) -> dict[str, list[JsonObject]]:
        """The answers in a shard to some prompts, by prompt."""
        round_dir = self._index.run.run_dir.round(shard.round)
        try:
            samples = rows_of(_counted(read_shard(round_dir, shard, "samples", SHOWN)), "prompt_id", prompt_ids)
            if not samples:
                return {}
            scores = rows_of(read_shard(round_dir, shard, "scores", SCORED), "prompt_id", prompt_ids)
        except Damage:
            return {}  # The same.
        flagged = _flagged(round_dir) if shard.purpose == "train" else []
        by_key = {(row["prompt_id"], row["index"]): row for row in scores}
        found: dict[str, list[JsonObject]] = {}
        for row in samples:
            scored = by_key.get((row["prompt_id"], row["index"]), {})
            examples = [one for one in flagged if one["prompt_id"] == row["prompt_id"]]
            found.setdefault(row["prompt_id"], []).append(_answer(row, scored, examples))
        return found


def _in_order(rounds: Mapping[int, list[JsonObject]]) -> list[JsonObject]:
    """Rounds upwards, the answers of each best to worst, those without a reward last."""

    def rank(one: JsonObject) -> tuple[bool, float, int]:
        return one["reward"] is None, -(one["reward"] or 0.0), one["index"]

    return [{"round": index, "answers": sorted(rounds[index], key=rank)} for index in sorted(rounds)]


def _counted(samples: pa.Table) -> pa.Table:
    """The samples with the number of their tokens in place of these."""
    import pyarrow.compute as pc

    tokens = pc.call_function("list_value_length", [samples["token_ids"]])
    return samples.drop_columns(["token_ids"]).append_column("tokens", tokens)


def _answer(sample: JsonObject, scored: JsonObject, flagged: list[JsonObject]) -> JsonObject:
    example = next((one for one in flagged if _is_of(one, sample)), {})
    tokens: list[Any] = items(example.get("tokens"))
    ratios = items(example.get("ratios"))
    return {
        "index": sample["index"],
        "text": sample["text"],
        "reward": _number(scored.get("reward")),
        "tokens": sample["tokens"] or 0,
        "finish": sample["finish_reason"],
        "version": sample["adapter_version"],
        "scores": {score["scorer"]: _score(score) for score in scored.get("scores") or []},
        "flags": [[token[0], bool(token[1])] for token in tokens] or None,
        "ratios": [[token[0], ratio] for token, ratio in zip(tokens, ratios, strict=True)]
        if ratios and len(ratios) == len(tokens)
        else None,
    }


def _score(score: JsonObject) -> JsonObject:
    try:
        aspects = json.loads(score.get("aspects") or "{}")
    except ValueError:
        aspects = {}
    return {
        "reward": _number(score["reward"]),
        "status": score["status"],
        "reason": score["reason"],
        "text": score["judgment"],
        "verdict": score["verdict"],
        "preferred_over": score["preferred_over"],
        "aspects": aspects,
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _flagged(round_dir: RoundDir) -> list[JsonObject]:
    """What CUT flagged in a round's answers; nothing where the report is missing or damaged."""
    try:
        report = section(round_dir.report())
    except (ValueError, OSError):
        return []
    examples = [section(one) for one in items(report.get("flagged"))]
    return [one for one in examples if "prompt_id" in one and _has_tokens(one)]


def _has_tokens(example: JsonObject) -> bool:
    tokens = items(example.get("tokens"))
    return bool(tokens) and all(isinstance(one, list) and len(one) == 2 for one in tokens)


def _is_of(example: JsonObject, sample: JsonObject) -> bool:
    """Whether flags are of this answer: by its index, or in an older run by its text."""
    if "index" in example:
        return example["index"] == sample["index"]
    tokens: list[Any] = items(example.get("tokens"))
    return "".join(str(token[0]) for token in tokens).startswith(sample["text"])
