"""Dataset rows written in other formats, with what is lost counted. Pure.

Metadata is written under `metadata`, which every reader spreads out again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from rayalign.data.dataset import Completion, DatasetRow
from rayalign.data.turns import stays_text
from rayalign.errors import DataError
from rayalign.records import JsonObject, Message
from rayalign.records.judgment import verdict_of

Written = list[JsonObject]
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
    target = None if row.target is None else _answer(row.target)
    return [_record(row, prompt=_prompt(row.messages), **_optional(target=target))]


def write_messages(row: DatasetRow, lost: Lost) -> Written:
    """`messages`, closed by the reference answer, else the best one, where there is one."""
    answer = _reference(row, lost)
    return [_record(row, messages=[*row.messages, *([] if answer is None else [_said(answer)])])]


def write_alpaca(row: DatasetRow, lost: Lost) -> Written:
    """`instruction`, `input` (empty) and `output`: the reference answer, else the best one."""
    instruction = _instruction(row, lost)
    if instruction is None:
        return []
    answer = _reference(row, lost)
    if answer is None:
        lost[NO_ANSWERS] += 1
        return []
    return [_record(row, instruction=instruction, input="", output=_answer(answer))]


def write_preference(row: DatasetRow, lost: Lost) -> Written:
    """`prompt`, `chosen`, `rejected`: the answers of highest and lowest score, else a better and a flawed one."""
    _lose_target(row, lost)
    pair = _scored_pair(row, lost) or _revised_pair(row, lost)
    if pair is None or pair[0] == pair[1]:
        lost[NO_PAIR] += 1
        return []
    prompt = _prompt(row.messages)
    texts = isinstance(prompt, str) and all(map(stays_text, pair))
    chosen, rejected = pair if texts else ([_said(answer)] for answer in pair)
    return [_record(row, prompt=prompt, chosen=chosen, rejected=rejected)]


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
        _lose_details([completion], lost, scores=completion.score is not None and completion.score != float(label))
        written.append(_record(row, prompt=_prompt(row.messages), completion=_answer(completion.text), label=label))
    lost[NO_ANSWERS] += not written
    return written


def write_ultrafeedback(row: DatasetRow, lost: Lost) -> Written:
    """`instruction`, and `completions` of `response`, `overall_score`, and `critique` where there is one."""
    scored = _answers_with(lambda completion: completion.score is not None, row, lost)
    if not scored:
        return []
    lost[REVISIONS] += sum(c.revision is not None for c in scored)
    completions = [{"response": c.text, "overall_score": c.score, **_optional(critique=c.judgment)} for c in scored]
    prompt = _prompt(row.messages)
    asks = "instruction" if isinstance(prompt, str) else "prompt"
    return [_record(row, **{asks: prompt}, completions=completions)]


def write_judgments(row: DatasetRow, lost: Lost) -> Written:
    """`instruction`, `input` (empty), `output`, `judgment` (null: without fault), one row per judged answer."""
    judged = _answers_with(lambda completion: completion.verdict is not None, row, lost)
    instruction = _instruction(row, lost) if judged else None
    if instruction is None:
        return []
    written: Written = []
    for completion in judged:
        score = completion.score if _agrees(completion) else None
        lost[SCORES] += completion.score is not None and score is None
        alpaca = {"instruction": instruction, "input": "", "output": completion.text}
        extra = _optional(score=score, i_ans=completion.revision)
        written.append(_record(row, **alpaca, judgment=completion.judgment, **extra))
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


def _record(row: DatasetRow, /, **fields: object) -> JsonObject:
    """One row as it is written: the format's fields, then the metadata where there are any."""
    return {**fields, **({"metadata": row.metadata} if row.metadata else {})}


def _optional(**fields: object) -> JsonObject:
    """The fields that are not null."""
    return {name: value for name, value in fields.items() if value is not None}


def _said(answer: str) -> Message:
    return {"role": "assistant", "content": answer}


def _answers_with(holds: Callable[[Completion], bool], row: DatasetRow, lost: Lost) -> list[Completion]:
    """The answers that a format without reference answers can hold; all else of the row is lost."""
    # In this order: the first loss of a kind decides its place among the lines that `convert` prints.
    _lose_target(row, lost)
    kept = [completion for completion in row.completions if holds(completion)]
    _lose_answers([completion for completion in row.completions if not holds(completion)], lost)
    if not kept:
        lost[NO_ANSWERS] += 1
    return kept


def _scored_pair(row: DatasetRow, lost: Lost) -> tuple[str, str] | None:
    """The answers of highest and of lowest score; None where no two scores differ."""
    best, worst = _extremes(row)
    if best is None or worst is None:
        return None
    _lose_answers([c for c in row.completions if c is not best and c is not worst], lost)
    _lose_details((best, worst), lost, scores=2 * ((best.score, worst.score) != (1.0, 0.0)))
    return best.text, worst.text


def _revised_pair(row: DatasetRow, lost: Lost) -> tuple[str, str] | None:
    """The first flawed answer behind its own revision; None where no flawed answer has another one."""
    revised = [c for c in row.completions if c.verdict == "flawed" and c.revision not in (None, c.text)]
    if not revised:
        return None
    _lose_answers([c for c in row.completions if c is not revised[0]], lost)
    lost[JUDGMENTS] += revised[0].judgment is not None
    return str(revised[0].revision), revised[0].text


def _agrees(completion: Completion) -> bool:
    """Whether the score says what the verdict says: a score of another scale would turn it round on reading."""
    try:
        return verdict_of(completion.judgment, completion.score) == completion.verdict
    except DataError:
        return False


def _prompt(messages: list[Message]) -> str | list[Message]:
    return messages[0]["content"] if _is_instruction(messages) and stays_text(messages[0]["content"]) else messages


def _answer(text: str) -> str | list[Message]:
    """The text, as a turn where it would be read as a conversation."""
    return text if stays_text(text) else [_said(text)]


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
        _lose_details([completion], lost, scores=completion.score is not None)
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


def _lose_details(completions: Sequence[Completion], lost: Lost, *, scores: int) -> None:
    """What a format with bare answers loses of these: `scores` of them, all judgments and all better answers."""
    lost[SCORES] += scores
    lost[JUDGMENTS] += sum(completion.judgment is not None for completion in completions)
    lost[REVISIONS] += sum(completion.revision is not None for completion in completions)
