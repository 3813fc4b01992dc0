"""What a round's commits say, for people: times, counts, training metrics, some answers. Part of its report."""

from __future__ import annotations

from rayalign.data.prompt_store import PromptStore
from rayalign.parts import Evaluator
from rayalign.records import JsonObject
from rayalign.store.round_dir import RoundDir

SHOWN_ANSWERS = 8
TIMED = {"sampling": "sample", "adapter": "update", "evaluation": "evaluate"}
"""Commit that holds a stage's time -> the stage's name in the report."""


def round_facts(round_dir: RoundDir, evaluator: Evaluator, prompts: PromptStore, responses: int) -> JsonObject:
    """The facts; what was not committed has no key.

    Args:
        prompts: those that the round's training groups answer.
        responses: sampled per held-out prompt, of which the first is shown.
    """
    saved = {name: found for name in (*TIMED, "groups") if (found := round_dir.committed(name)) is not None}
    facts: JsonObject = {
        "stages": {stage: saved[name]["stage"] for name, stage in TIMED.items() if name in saved},
        "answers": _answers(round_dir, evaluator, responses),
    }
    if "sampling" in saved:
        facts["scores"] = saved["sampling"]["scores"]
    if "groups" in saved:
        facts["groups"] = {name: saved["groups"]["groups"][name] for name in ("kept", "dropped", "stats")}
    if "adapter" in saved:
        flagged = saved["adapter"].get("flagged", [])
        facts["training"] = saved["adapter"]["training"]
        facts["sampled_by"] = saved["adapter"].get("sampler", saved["adapter"]["adapter"]["parent"])
        facts["flagged"] = [{"prompt": prompts[example["prompt_id"]].text, **example} for example in flagged]
    return facts


def _answers(round_dir: RoundDir, evaluator: Evaluator, responses: int) -> list[JsonObject]:
    rows = round_dir.read_shard("evaluation", 0) or []
    return [
        {
            "prompt": evaluator.prompt_text(row.sample.prompt_id),
            "response": row.sample.text,
            "reward": row.reward,
        }
        for row in rows[::responses][:SHOWN_ANSWERS]
    ]
