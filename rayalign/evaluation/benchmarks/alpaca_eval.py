"""AlpacaEval: the model's answers beside reference answers, and what the package's annotations come to.

The package annotates (`alpaca_eval_child.py`, in a process of its own); what it asks, its files and how its preferences
are counted stand here. Its length-controlled metric is never used: it downloads a file, and on other sets than its own
takes rows that have nothing to do with them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayalign.evaluation.benchmarks.base import Answers, Asked, Result, Verdicts, answer_facts
from rayalign.evaluation.statistics import clustered_mean
from rayalign.records import JsonObject, JudgeQuestion, prompt_id

PLACEHOLDERS = ("{instruction}", "{output_1}", "{output_2}")
PATTERNS = {1: r'"best"\s*:\s*"a"', 2: r'"best"\s*:\s*"b"'}
"""What in a reply says that the first or the second output is better; a reply with none or several says nothing."""
SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"best": {"type": "string", "enum": ["a", "b"]}},
    "required": ["best"],
    "additionalProperties": False,
}
"""JSON schema of a reply."""


@dataclass(frozen=True, slots=True)
class Item:
    """One instruction with the answer to compare with."""

    instruction: str
    reference: str
    dataset: str
    generator: str
    """Who gave the reference."""

    @property
    def asked(self) -> Asked:
        messages = [{"role": "user", "content": self.instruction}]
        return Asked(prompt_id(messages), messages)


@dataclass(frozen=True, slots=True)
class Annotation:
    """What the package says of one instruction."""

    preference: float | None
    """1 (the reference) to 2 (the model), 1.5 for equal outputs; null where the judge's reply said nothing."""
    reply: str | None


@dataclass(frozen=True, slots=True)
class AlpacaEval:
    """`Benchmark` whose judge is asked by the package."""

    items: Sequence[Item]

    @property
    def version(self) -> str:
        content = [[item.instruction, item.reference, item.dataset, item.generator] for item in self.items]
        return hashlib.sha256(f"alpaca_eval 1\n{json.dumps(content)}".encode()).hexdigest()[:16]

    def ask(self, turn: int, answers: Answers) -> Sequence[Asked]:
        return [item.asked for item in self.items] if turn == 0 else []

    def questions(self, answers: Answers) -> Sequence[JudgeQuestion]:
        """None: the package asks."""
        return []

    def result(self, answers: Answers, verdicts: Verdicts, seed: int) -> Result:
        """Of answers that nobody has annotated."""
        return self.annotated(answers, {}, seed)

    def outputs(self, answers: Answers, generator: str) -> list[JsonObject]:
        """The model's answers in the package's own form."""
        return [
            {
                "instruction": item.instruction,
                "output": answers[item.asked.id][0].text,
                "generator": generator,
                "dataset": item.dataset,
            }
            for item in self.items
            if item.asked.id in answers
        ]

    def references(self, answers: Answers) -> list[JsonObject]:
        """The reference answers to what the model answered, in the package's own form and in the same order."""
        return [
            {
                "instruction": item.instruction,
                "output": item.reference,
                "generator": item.generator,
                "dataset": item.dataset,
            }
            for item in self.items
            if item.asked.id in answers
        ]

    def annotated(self, answers: Answers, annotations: Mapping[str, Annotation], seed: int) -> Result:
        """`win_rate`, and `win_rate/DATASET` of each set among several: the mean of preference - 1, ties half, as the
        package counts it; what has no preference is missing.

        Args:
            annotations: by item.
        """
        won = {name: value for name, one in annotations.items() if (value := _share(one.preference)) is not None}
        datasets = {item.asked.id: item.dataset for item in self.items}
        sets = sorted({dataset for name, dataset in datasets.items() if name in won})
        shares = {"win_rate": won} | {
            f"win_rate/{one}": {name: value for name, value in won.items() if datasets[name] == one}
            for one in (sets if len(sets) > 1 else [])
        }
        metrics = {
            name: clustered_mean(list(some.values()), list(some), seed=seed) for name, some in shares.items() if some
        }
        rows = [self._row(item, answers, annotations) for item in self.items]
        return Result(metrics, answer_facts(answers, len(self.items)), rows)

    def _row(self, item: Item, answers: Answers, annotations: Mapping[str, Annotation]) -> JsonObject:
        name = item.asked.id
        annotation = annotations.get(name)
        return {
            "id": name,
            "instruction": item.instruction,
            "answer": answers[name][0].text if name in answers else None,
            "reference": item.reference,
            "dataset": item.dataset,
            "preference": annotation.preference if annotation else None,
            "reply": annotation.reply if annotation else None,
        }


def _share(preference: float | None) -> float | None:
    """How much of a win a preference is."""
    if preference is None or not math.isfinite(preference):
        return None
    # The package's older way to write a tie.
    return 0.5 if preference == 0 else preference - 1


def items_of(records: Sequence[object], where: str) -> list[Item]:
    """The items of a list in AlpacaEval's form, each instruction once.

    Raises:
        ValueError: a record is not of this form.
    """
    found: dict[str, Item] = {}
    for place, record in enumerate(records):
        texts = [record.get(name) for name in ("instruction", "output")] if isinstance(record, dict) else [None]
        if not all(isinstance(text, str) for text in texts) or not str(texts[0]).strip():
            raise ValueError(f"{where}: record {place} has no instruction and output")
        assert isinstance(record, dict)
        item = Item(
            str(texts[0]), str(texts[1]), str(record.get("dataset") or ""), str(record.get("generator") or "reference")
        )
        found.setdefault(item.instruction, item)
    return list(found.values())


def annotator_config(name: str, template: str, max_tokens: int) -> JsonObject:
    """The package's `configs.yaml` for one annotator.

    Args:
        name: of the annotator, which its cache knows it by: it must change with everything that its replies hang on.
        template: path of the prompt's file.
    """
    completions = {
        "model_name": "judge",
        "max_tokens": max_tokens,
        "temperature": 0.0,
        "requires_chatml": True,
        "price_per_token": 0.0,
    }
    return {
        name: {
            "prompt_template": template,
            "fn_completions": "openai_completions",
            "completions_kwargs": completions,
            "completion_parser_kwargs": {"outputs_to_match": PATTERNS},
            "batch_size": 1,
        }
    }


def template_problem(template: str) -> str | None:
    """Why a text cannot be the judge's prompt; null where it can."""
    for placeholder in PLACEHOLDERS:
        if (count := template.count(placeholder)) != 1:
            return f"it has {placeholder} {count} times, and must have it once"
    text = template.strip()
    if not (text.startswith("<|im_start|>") and text.endswith("<|im_end|>")):
        return "it must begin with <|im_start|> and end with <|im_end|>, as the package's own prompts do"
    return None
