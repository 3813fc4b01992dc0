"""Dataset rows written in other formats, with what is lost counted. Pure.

Metadata is written under `metadata`, which every reader spreads out again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from rayalign.data.dataset import Completion, DatasetRow
from rayalign.errors import DataError
from rayalign.records import Message
from rayalign.records.judgment import verdict_of

Written = list[dict[str, Any]]
Lost = Counter[str]
"""What did not fit into the format, in words -> how often."""

SEVERAL_TURNS = "rows left out: a conversation, and the format has one instruction"
NO_PAIR = "rows left out: no two answers of which one is known to be better"
NO_ANSWERS = "rows left out: no answer of the kind that the format holds"
ANSWERS = "answers"
JUDGMENTS = "judgments"
SCORES = "scores"
REVISIONS = "better answers"
TARGETS = "reference answers"


def write_prompts(row: DatasetRow, lost: Lost) -> Written:
    """`prompt`, and `target` where there is one."""
    _lose_answers(row.completions, lost)
    return [{"prompt": _prompt(row.messages), **_optional(target=row.target), **_metadata(row)}]


def write_messages(row: DatasetRow, lost: Lost) -> Written:
    """`messages`, closed by the reference answer, else the best one, where there is one."""
    answer = _reference(row, lost)
    closing: list[Message] = [] if answer is None else [{"role": "assistant", "content": answer}]
    return [{"messages": [*row.messages, *closing], **_metadata(row)}]


def write_alpaca(row: DatasetRow, lost: Lost) -> Written:
    """`instruction`, `input` (empty) and `output`: the reference answer, else the best one."""
    instruction = _instruction(row, lost)
    if instruction is None:
        return []
    answer = _reference(row, lost)
    if answer is None:
        lost[NO_ANSWERS] += 1
        return []
    return [{"instruction": instruction, "input": "", "output": answer, **_metadata(row)}]


def write_preference(row: DatasetRow, lost: Lost) -> Written:
    """`prompt`, `chosen`, `rejected`: the answers of highest and lowest score, else a better and a flawed one."""
    _lose_target(row, lost)
    best, worst = _extremes(row)
    if best is not None and worst is not None:
        chosen, rejected = best.text, worst.text
        _lose_answers([c for c in row.completions if c is not best and c is not worst], lost)
        lost[SCORES] += 2 * ((best.score, worst.score) != (1.0, 0.0))
        lost[JUDGMENTS] += sum(c.judgment is not None for c in (best, worst))
        lost[REVISIONS] += sum(c.revision is not None for c in (best, worst))
    else:
        revised = [c for c in row.completions if c.verdict == "flawed" and c.revision not in (None, c.text)]
        if not revised:
            lost[NO_PAIR] += 1
            return []
        chosen, rejected = str(revised[0].revision), revised[0].text
        _lose_answers([c for c in row.completions if c is not revised[0]], lost)
        lost[JUDGMENTS] += revised[0].judgment is not None
    if chosen == rejected:
        lost[NO_PAIR] += 1
        return []
    prompt = _prompt(row.messages)
    if isinstance(prompt, str):
        return [{"prompt": prompt, "chosen": chosen, "rejected": rejected, **_metadata(row)}]
    turns = [[{"role": "assistant", "content": answer}] for answer in (chosen, rejected)]
    return [{"prompt": prompt, "chosen": turns[0], "rejected": turns[1], **_metadata(row)}]


def write_unpaired(row: DatasetRow, lost: Lost) -> Written:
    """`prompt`, `completion`, `label`, one row per answer: true if it is without fault, has score 1, or is best."""
    _lose_target(row, lost)
    best, worst = _extremes(row)
    binary = _is_binary(row)
    written: Written = []
    for completion in row.completions:
        if completion.verdict is not None:
            label = completion.verdict == "perfect"
        elif binary and completion.score is not None:
            label = completion.score == 1.0
        elif completion is best or completion is worst:
            label = completion is best
        else:
            _lose_answers([completion], lost)
            continue
        lost[SCORES] += completion.score is not None and completion.score != float(label)
        lost[JUDGMENTS] += completion.judgment is not None
        lost[REVISIONS] += completion.revision is not None
        written.append(
            {"prompt": _prompt(row.messages), "completion": completion.text, "label": label, **_metadata(row)}
        )
    lost[NO_ANSWERS] += not written
    return written


def write_ultrafeedback(row: DatasetRow, lost: Lost) -> Written:
    """`instruction`, and `completions` of `response`, `overall_score`, and `critique` where there is one."""
    _lose_target(row, lost)
    scored = [c for c in row.completions if c.score is not None]
    _lose_answers([c for c in row.completions if c.score is None], lost)
    if not scored:
        lost[NO_ANSWERS] += 1
        return []
    lost[REVISIONS] += sum(c.revision is not None for c in scored)
    completions = [{"response": c.text, "overall_score": c.score, **_optional(critique=c.judgment)} for c in scored]
    prompt = _prompt(row.messages)
    asks = "instruction" if isinstance(prompt, str) else "prompt"
    return [{asks: prompt, "completions": completions, **_metadata(row)}]


def write_judgments(row: DatasetRow, lost: Lost) -> Written:
    """`instruction`, `input` (empty), `output`, `judgment` (null: without fault), one row per judged answer."""
    _lose_target(row, lost)
    judged = [c for c in row.completions if c.verdict is not None]
    _lose_answers([c for c in row.completions if c.verdict is None], lost)
    if not judged:
        lost[NO_ANSWERS] += 1
        return []
    instruction = _instruction(row, lost)
    if instruction is None:
        return []
    written: Written = []
    for completion in judged:
        score = completion.score if _agrees(completion) else None
        lost[SCORES] += completion.score is not None and score is None
        extra = _optional(score=score, i_ans=completion.revision)
        base = {"instruction": instruction, "input": "", "output": completion.text, "judgment": completion.judgment}
        written.append({**base, **extra, **_metadata(row)})
    return written


WRITERS: dict[str, Callable[[DatasetRow, Lost], Written]] = {
    "prompts": write_prompts,
    "messages": write_messages,
    "alpaca": write_alpaca,
    "preference": write_preference,
    "unpaired": write_unpaired,
    "ultrafeedback": write_ultrafeedback,
    "judgments": write_judgments,
}


def _agrees(completion: Completion) -> bool:
    """Whether the score says what the verdict says: a score of another scale would turn it round on reading."""
    try:
        return verdict_of(completion.judgment, completion.score) == completion.verdict
    except DataError:
        return False


def _prompt(messages: list[Message]) -> str | list[Message]:
    return messages[0]["content"] if _is_instruction(messages) else messages


def _is_instruction(messages: list[Message]) -> bool:
    return len(messages) == 1 and messages[0]["role"] == "user"


def _instruction(row: DatasetRow, lost: Lost) -> str | None:
    if _is_instruction(row.messages):
        return row.messages[0]["content"]
    lost[SEVERAL_TURNS] += 1
    return None


def _reference(row: DatasetRow, lost: Lost) -> str | None:
    """The target, else the answer of the highest score, else a good one; all others are lost."""
    best, _ = _extremes(row)
    if best is None:
        best = next((c for c in row.completions if _is_good(c, row)), None)
    kept = [best] if best is not None and row.target in (None, best.text) else []
    _lose_answers([c for c in row.completions if c not in kept], lost)
    for completion in kept:
        lost[SCORES] += completion.score is not None
        lost[JUDGMENTS] += completion.judgment is not None
        lost[REVISIONS] += completion.revision is not None
    return row.target if row.target is not None else kept[0].text if kept else None


def _is_good(completion: Completion, row: DatasetRow) -> bool:
    if completion.verdict is not None:
        return completion.verdict == "perfect"
    return _is_binary(row) and completion.score == 1.0


def _extremes(row: DatasetRow) -> tuple[Completion | None, Completion | None]:
    """The answers of the highest and of the lowest score, the first ones of each; none where all scores are equal."""
    scored = [c for c in row.completions if c.score is not None]
    if len({c.score for c in scored}) < 2:
        return None, None
    return max(scored, key=lambda c: c.score or 0.0), min(scored, key=lambda c: c.score or 0.0)


def _is_binary(row: DatasetRow) -> bool:
    """Whether 1 and 0 are good and bad, and not two scores of a wider scale."""
    scores = {c.score for c in row.completions if c.score is not None}
    return scores == {0.0, 1.0} or (len(row.completions) == 1 and scores < {0.0, 1.0} and bool(scores))


def _lose_target(row: DatasetRow, lost: Lost) -> None:
    lost[TARGETS] += row.target is not None


def _lose_answers(completions: list[Completion], lost: Lost) -> None:
    lost[ANSWERS] += len(completions)


def _optional(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _metadata(row: DatasetRow) -> dict[str, Any]:
    return {"metadata": row.metadata} if row.metadata else {}
