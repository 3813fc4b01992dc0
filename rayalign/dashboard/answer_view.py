"""One prompt with all its answers over the rounds, as the sample browser shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rayalign.dashboard.answer_files import Damage, Shard, read_prompts, read_shard
from rayalign.dashboard.answer_index import AnswerIndex
from rayalign.dashboard.answer_sql import SHARDS_OF_PROMPT
from rayalign.dashboard.readings import clean, items, section
from rayalign.records import JsonObject
from rayalign.store.round_dir import RoundDir

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = ["prompt_id", "index", "text", "token_ids", "finish_reason", "adapter_version"]


class PromptView:
    """Makes views of an index's run."""

    def __init__(self, index: AnswerIndex) -> None:
        self._index = index

    def of(self, prompt_id: str, purpose: str) -> JsonObject | None:
        """The view; None where no round has an answer of this purpose to the prompt."""
        places = self._index.rows(SHARDS_OF_PROMPT, {"purpose": purpose, "id": prompt_id})
        shards = [Shard(purpose, row["round"], row["shard"]) for row in places]
        rounds = [{"round": one.round, "answers": self._answers(one, prompt_id)} for one in shards]
        rounds = [one for one in rounds if one["answers"]]
        if not rounds:
            return None
        asked = self._prompt(prompt_id, purpose, [one.round for one in shards])
        return section(clean({"id": prompt_id, **asked, "rounds": rounds}))

    def _prompt(self, prompt_id: str, purpose: str, rounds: Iterable[int]) -> JsonObject:
        kind, places = ("train", rounds) if purpose == "train" else ("held out", [0])
        for index in places:
            try:
                found = read_prompts(self._index.run.run_dir, kind, index) or []
            except Damage:
                continue  # The index names it among its problems.
            for row in found:
                if row["id"] == prompt_id:
                    return {name: row[name] for name in ("messages", "target", "metadata")}
        return {"messages": [], "target": None, "metadata": {}}

    def _answers(self, shard: Shard, prompt_id: str) -> list[JsonObject]:
        """The answers in a shard to one prompt, best to worst, those without a reward last."""
        run_dir = self._index.run.run_dir
        try:
            samples, scores = (
                _rows_of(read_shard(run_dir, shard, kind, columns), prompt_id)
                for kind, columns in (("samples", SHOWN), ("scores", ["prompt_id", "index", "reward", "scores"]))
            )
        except Damage:
            return []  # The same.
        flags = _flags(run_dir.round(shard.round), prompt_id) if shard.purpose == "train" else []
        by_index = {row["index"]: row for row in scores}
        found = [_answer(row, by_index.get(row["index"], {}), flags) for row in samples]
        return sorted(found, key=lambda one: (one["reward"] is None, -(one["reward"] or 0.0), one["index"]))


def _rows_of(table: pa.Table, prompt_id: str) -> list[JsonObject]:
    import pyarrow.compute as pc

    return table.filter(pc.equal(table["prompt_id"], prompt_id)).to_pylist()


def _answer(sample: JsonObject, scored: JsonObject, flagged: list[JsonObject]) -> JsonObject:
    example = next((one for one in flagged if _is_of(one, sample)), {})
    tokens, ratios = items(example.get("tokens")), items(example.get("ratios"))
    return {
        "index": sample["index"],
        "text": sample["text"],
        "reward": _number(scored.get("reward")),
        "tokens": len(sample["token_ids"] or []),
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


def _flags(round_dir: RoundDir, prompt_id: str) -> list[JsonObject]:
    """What CUT flagged in a round's answers to a prompt; nothing where the report is missing or damaged."""
    try:
        report = section(round_dir.report())
    except ValueError:
        return []
    examples = [section(one) for one in items(report.get("flagged"))]
    return [one for one in examples if one.get("prompt_id") == prompt_id and _has_tokens(one)]


def _has_tokens(example: JsonObject) -> bool:
    tokens = items(example.get("tokens"))
    return bool(tokens) and all(isinstance(one, list) and len(one) == 2 for one in tokens)


def _is_of(example: JsonObject, sample: JsonObject) -> bool:
    """Whether flags are of this answer: by its index, or in an older run by its text."""
    if "index" in example:
        return example["index"] == sample["index"]
    return "".join(str(token[0]) for token in items(example.get("tokens"))).startswith(sample["text"])
