"""One row of each dataset format, written by hand to its published schema, and what is read from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rayalign.data.dataset import Completion


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@dataclass(frozen=True)
class Case:
    format: str
    row: dict[str, Any]
    messages: list[dict[str, str]]
    completions: list[Completion] = field(default_factory=list)
    target: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def rated(text: str, score: float, critique: str) -> dict[str, Any]:
    return {
        "model": "gpt-4", "principle": "helpfulness", "custom_system_prompt": "Help.", "response": text,
        "annotations": {"helpfulness": {"Rating": "4"}}, "critique": critique, "fine-grained_score": 4.25,
        "overall_score": score,
    }  # fmt: skip


def criticised(text: str, rating: int, *critiques: tuple[str, str]) -> dict[str, Any]:
    said = [{"text": words, "refinement": better, "severity": 3, "text_quotes": []} for words, better in critiques]
    return {"answer": text, "feedback": {"rating": rating, "critiques": said, "skip": False}}


FISH, COD, CAR = "Name a fish.", "Cod.", "Car."
PAIR = [Completion(COD, 1.0), Completion(CAR, 0.0)]
TWO = [user("Hi"), assistant("Hello"), user(FISH)]
HH = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Name a fish.\n\nAssistant:"

CASES = [
    Case("prompts", {"prompt": FISH, "target": COD, "id": 7}, [user(FISH)], target=COD, metadata={"id": 7}),
    Case("prompts", {"turns": [FISH, "Another."], "question_id": 81}, [user(FISH)], metadata={"question_id": 81}),
    Case("prompts", {"prompt": [user(FISH)], "completion": [assistant(COD)]}, [user(FISH)], target=COD),
    Case("messages", {"messages": [*TWO, assistant(COD)]}, TWO, target=COD),
    Case(
        "alpaca", {"instruction": "Add.", "input": "1 2", "output": "3"}, [user("Add.\n1 2")], target="3"
    ),
    Case(
        "ultrafeedback",
        {
            "source": "evol_instruct", "instruction": FISH, "models": ["a", "b"], "correct_answers": ["None"],
            "completions": [rated(COD, 8.5, "Good."), rated(CAR, 2.0, "A car is no fish.")],
        },
        [user(FISH)],
        [Completion(COD, 8.5, "Good.", "perfect"), Completion(CAR, 2.0, "A car is no fish.", "flawed")],
        metadata={"source": "evol_instruct", "models": ["a", "b"], "correct_answers": ["None"]},
    ),
    Case(
        "ultrafeedback",
        {
            "prompt": FISH, "prompt_id": "ab", "A0": [user(FISH), assistant(COD)], "A1": [user(FISH), assistant(CAR)],
            "score_A0": 8.0, "score_A1": 3.5,
        },
        [user(FISH)],
        [Completion(COD, 8.0), Completion(CAR, 3.5)],
        metadata={"prompt_id": "ab"},
    ),
    Case("preference", {"prompt": FISH, "chosen": COD, "rejected": CAR}, [user(FISH)], PAIR),
    Case(
        "preference",
        {"prompt": TWO, "chosen": [assistant(COD)], "rejected": [assistant(CAR)]},
        TWO,
        PAIR,
    ),
    Case("preference", {"chosen": [*TWO, assistant(COD)], "rejected": [*TWO, assistant(CAR)]}, TWO, PAIR),
    Case(
        "preference",
        {
            "prompt": FISH, "prompt_id": "ab", "chosen": [user(FISH), assistant(COD)],
            "rejected": [user(FISH), assistant(CAR)], "messages": [user(FISH), assistant(COD)],
            "score_chosen": 8.0, "score_rejected": 5.0,
        },
        [user(FISH)],
        PAIR,
        metadata={"prompt_id": "ab", "score_chosen": 8.0, "score_rejected": 5.0},
    ),
    Case(
        "preference",
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        [user("The sky is")],
        [Completion("blue.", 1.0), Completion("black.", 0.0)],
    ),
    Case("hh-rlhf", {"chosen": f"{HH} {COD}", "rejected": f"{HH} {CAR}"}, TWO, PAIR),
    Case(
        "nectar",
        {
            "prompt": f"{HH} ", "turns": 2, "num_responses": 2, "source": ["lmsys"], "good_natured": True,
            "answers": [{"answer": CAR, "model": "x", "rank": 2.0}, {"answer": COD, "model": "y", "rank": 1.0}],
        },
        TWO,
        [Completion(CAR, -2.0), Completion(COD, -1.0)],
        target=COD,
        metadata={"turns": 2, "num_responses": 2, "source": ["lmsys"], "good_natured": True},
    ),
    Case("ultrachat", {"id": "0", "data": ["Hi", "Hello", FISH, COD]}, TWO, target=COD, metadata={"id": "0"}),
    Case(
        "ultrachat",
        {"prompt": "Hi", "prompt_id": "ab", "messages": [*TWO, assistant(COD)]},
        TWO,
        target=COD,
        metadata={"prompt_id": "ab"},
    ),
    Case(
        "judgments",
        {"id": 3, "instruction": FISH, "input": "", "output": COD, "judgment": None},
        [user(FISH)],
        [Completion(COD, verdict="perfect")],
        metadata={"id": 3},
    ),
    Case(
        "judgments",
        {"instruction": FISH, "input": "One.", "output": CAR, "judgment": "No fish.", "score": 1, "i_ans": COD},
        [user(f"{FISH}\nOne.")],
        [Completion(CAR, 1.0, "No fish.", "flawed", COD)],
    ),
    Case(
        "shepherd",
        {"id": 0, "question": FISH, "answer": CAR, "feedback": "No fish.", "meta": {"domain": "human annotation"}},
        [user(FISH)],
        [Completion(CAR, None, "No fish.", "flawed")],
        metadata={"id": 0, "meta": {"domain": "human annotation"}},
    ),
    Case(
        "critiques",
        {
            "id": "x", "split": "train", "is_topic_based_summarization": True,
            "data": {
                "passage": {"title": None, "text": "A cod swims."},
                "questions": [{
                    "question": FISH, "rankings": [1, 2],
                    "answers": [criticised(CAR, 2, ("No fish.", "A cod?"), ("Too short.", COD)), criticised(COD, 7)],
                }],
            },
        },
        [user(f"A cod swims.\n{FISH}")],
        [Completion(CAR, 2.0, "No fish. Too short.", "flawed", COD), Completion(COD, 7.0, None, "perfect")],
        metadata={"id": "x", "split": "train", "is_topic_based_summarization": True},
    ),
    Case(
        "alpaca-eval",
        {"dataset": "helpful_base", "instruction": FISH, "output": COD, "generator": "davinci"},
        [user(FISH)],
        [Completion(COD)],
        target=COD,
        metadata={"dataset": "helpful_base", "generator": "davinci"},
    ),
    Case("unpaired", {"prompt": FISH, "completion": COD, "label": True}, [user(FISH)], [Completion(COD, 1.0)]),
    Case(
        "unpaired",
        {"prompt": [user(FISH)], "completion": [assistant(CAR)], "label": False},
        [user(FISH)],
        [Completion(CAR, 0.0)],
    ),
]  # fmt: skip
