"""What `rayalign sft` and `rayalign reward-model` train on: token ids of each row, and their order.

DatasetRow ─► prompt tokens | answer tokens     an answer starts at its own first token, as when it is sampled
DatasetRow ─► chosen tokens, rejected tokens    whole conversations, as the scorer reads them
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from rayalign.data.dataset import Completion, DatasetRow
from rayalign.data.marks import unmarked
from rayalign.records import IGNORED, Message, prompt_id
from rayalign.rendering.renderer import ChatRenderer


@dataclass(slots=True)
class StageRows:
    """Token ids of the rows that can be used, and the prompt ids of the others by reason."""

    rows: list[dict[str, list[int]]] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def tokens(self) -> int:
        """Tokens in all columns but the labels."""
        return sum(len(ids) for row in self.rows for name, ids in row.items() if name != "labels")


def answer_rows(rows: Sequence[DatasetRow], renderer: ChatRenderer, max_tokens: int) -> StageRows:
    """`input_ids` and `labels` of each row's answer: its target, else its best completion. The prompt is not learned.

    Raises:
        DataError: the chat template refuses a conversation.
    """
    found = StageRows()
    for row in unmarked(rows, found.skipped, templated=renderer.template is not None):
        name, answer = prompt_id(row.messages), _answer(row)
        if answer is None:
            found.skipped["no answer"].append(name)
            continue
        prompt = renderer.prompt(row.messages, f"prompt {name}")
        response = renderer.answer(row.messages, answer, f"prompt {name}")
        if len(prompt) + len(response) > max_tokens:
            found.skipped[_too_long(max_tokens)].append(name)
        else:
            labels = [IGNORED] * len(prompt) + response
            found.rows.append({"input_ids": prompt + response, "labels": labels})
    return found


def pair_rows(rows: Sequence[DatasetRow], renderer: ChatRenderer, max_tokens: int) -> StageRows:
    """`chosen_ids` and `rejected_ids`: each row's best and worst completion by score, with their prompt.

    Raises:
        DataError: the chat template refuses a conversation.
    """
    found = StageRows()
    for row in unmarked(rows, found.skipped, templated=renderer.template is not None):
        name, scored = prompt_id(row.messages), [c for c in row.completions if c.score is not None]
        if len(scored) < 2:
            found.skipped["fewer than two scored answers"].append(name)
            continue
        best, worst = max(scored, key=_score), min(scored, key=_score)
        if best.score == worst.score:
            found.skipped["all answers score the same"].append(name)
            continue
        chosen, rejected = (renderer.conversation([*row.messages, _said(c)], f"prompt {name}") for c in (best, worst))
        if max(len(chosen), len(rejected)) > max_tokens:
            found.skipped[_too_long(max_tokens)].append(name)
        else:
            found.rows.append({"chosen_ids": chosen, "rejected_ids": rejected})
    return found


def _answer(row: DatasetRow) -> str | None:
    if row.target is not None or not row.completions:
        return row.target
    scored = [c for c in row.completions if c.score is not None]
    return max(scored, key=_score).text if scored else row.completions[0].text


def _score(completion: Completion) -> float:
    assert completion.score is not None
    return completion.score


def _said(completion: Completion) -> Message:
    return {"role": "assistant", "content": completion.text}


def _too_long(max_tokens: int) -> str:
    return f"longer than data.max_tokens = {max_tokens}"
