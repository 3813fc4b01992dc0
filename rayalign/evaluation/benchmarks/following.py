"""The benchmark `instructions`: prompts with constraints, answers checked by code. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from rayalign.evaluation.benchmarks.base import Answers, Asked, Result, Verdicts, answer_facts
from rayalign.evaluation.benchmarks.instructions import check_answers, instruction_metrics
from rayalign.records import JsonObject, JudgeQuestion, Prompt


@dataclass(frozen=True, slots=True)
class Following:
    """`Benchmark` of instructions that code can check; nobody is asked beside the model.

    Args:
        prompts: with their constraints.
        field: of their metadata that holds these.
        checks: hash of the code that checks.
    """

    prompts: Sequence[Prompt]
    field: str
    checks: str

    @property
    def version(self) -> str:
        content = json.dumps([[one.id, one.messages, one.metadata] for one in self.prompts], sort_keys=True)
        text = f"instructions 1\n{self.checks}\n{self.field}\n{content}"
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def ask(self, turn: int, answers: Answers) -> Sequence[Asked]:
        return [Asked(one.id, one.messages) for one in self.prompts] if turn == 0 else []

    def questions(self, answers: Answers) -> Sequence[JudgeQuestion]:
        return []

    def result(self, answers: Answers, verdicts: Verdicts, seed: int) -> Result:
        texts = {name: [answer.text for answer in some] for name, some in answers.items()}
        checked = check_answers(self.prompts, texts, self.field)
        kept = {one.prompt_id: one.to_row()["constraints"] for one in checked}
        rows: list[JsonObject] = [
            {
                "id": one.id,
                "messages": one.messages,
                "answer": texts[one.id][0] if texts.get(one.id) else None,
                "constraints": kept.get(one.id),
            }
            for one in self.prompts
        ]
        facts = answer_facts(answers, len(self.prompts))
        return Result(instruction_metrics(checked, seed=seed), facts, rows)
