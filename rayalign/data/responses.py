"""A dataset as the responses of offline rounds: prompts merged, responses tokenised once, what does not fit counted.

This is the only place where text becomes response tokens; from here on a read response is what a sampled one is.
"""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from rayalign.config import ChatTemplate
from rayalign.data.chat import tokenize_answer
from rayalign.data.dataset import Completion, DatasetRow
from rayalign.data.prompts import PromptRow
from rayalign.errors import DataError
from rayalign.records import FROM_DATASET, Prompt, Sample, Score, ScoredSample, prompt_id

REMEDIES = {
    "rewards": "it compares responses to one prompt by score: give reward or preference data",
    "judgments": "it learns from criticism: give data with judgments",
    "targets": "it learns from reference answers: give data that have them, or a `self_contrast` run that samples",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One response of a dataset."""

    completion: Completion
    token_ids: array[int]
    """Its EOS included: a dataset's answer is a whole one."""
    revision: array[int] | None = None


class Responses:
    """The responses of a dataset by prompt id.

    Args:
        name: of the scorer that the dataset's scores and judgments stand under; its version is the data's checksum.
    """

    def __init__(self, name: str, answers: dict[str, list[Answer]]) -> None:
        self.name = name
        self.version = _checksum(answers)
        self._answers = answers

    def __len__(self) -> int:
        return sum(len(answers) for answers in self._answers.values())

    @property
    def verdicts(self) -> Counter[str]:
        """How many answers have which verdict."""
        found = (answer.completion.verdict for answers in self._answers.values() for answer in answers)
        return Counter(verdict for verdict in found if verdict is not None)

    @property
    def revises(self) -> bool:
        return any(answer.revision for answers in self._answers.values() for answer in answers)

    def rows(self, prompt: Prompt) -> list[ScoredSample]:
        """A prompt's responses 0..K-1 with the dataset's scores."""
        return [
            ScoredSample(_sample(prompt.id, i, answer.completion.text, answer.token_ids), [self._score(answer)],
                         answer.completion.score)
            for i, answer in enumerate(self._answers[prompt.id])
        ]  # fmt: skip

    def count(self, prompt: Prompt) -> int:
        return len(self._answers[prompt.id])

    def count_revisions(self, asked: Prompt) -> int:
        return len(self.revision_rows(asked))

    def revision_rows(self, asked: Prompt) -> list[ScoredSample]:
        """The better response that the dataset has for one of `JudgedStreams.revision_prompts`, if any."""
        _, prompt, index = asked.id.rsplit("-", 2)
        answer = self._answers[prompt][int(index)]
        if not answer.revision:
            return []
        return [ScoredSample(_sample(asked.id, 0, answer.completion.revision or "", answer.revision), [], None)]

    def _score(self, answer: Answer) -> Score:
        given = answer.completion
        known = given.score is not None or given.verdict is not None
        return Score(
            scorer=self.name,
            scorer_version=self.version,
            status="ok" if known else "abstain",
            reward=given.score,
            judgment=given.judgment,
            verdict=given.verdict,
            reason=None if known else "the dataset has neither a score nor a judgment",
        )

    def check(self, prompts: Iterable[Prompt], needs: Collection[str], where: str) -> None:
        """Raise where the dataset has nothing that the run's objectives can learn from.

        Raises:
            DataError: no two scored responses to one prompt, no judgment, or no target.
        """
        rewarded = (sum(a.completion.score is not None for a in answers) > 1 for answers in self._answers.values())
        found = {
            "rewards": any(rewarded),
            "judgments": bool(self.verdicts),
            "targets": any(prompt.target is not None for prompt in prompts),
        }
        for need, why in REMEDIES.items():
            if need in needs and not found[need]:
                raise DataError(f"{where} has no {need} for the run's objective", why, "or set another objective.type")


def _checksum(answers: dict[str, list[Answer]]) -> str:
    digest = hashlib.sha256()
    for name, given in answers.items():
        digest.update(name.encode())
        for answer in given:
            facts = (answer.completion.score, answer.completion.judgment, answer.completion.verdict, answer.revision)
            digest.update(answer.token_ids.tobytes() + repr(facts).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _sample(prompt: str, index: int, text: str, token_ids: array[int]) -> Sample:
    return Sample(prompt, index, text, token_ids.tolist(), [], "stop", FROM_DATASET, 0)


def merge_rows(rows: Iterable[DatasetRow]) -> tuple[list[PromptRow], dict[str, list[Completion]]]:
    """(distinct prompts in the dataset's order, completions by prompt id): rows of one prompt become one prompt."""
    prompts: dict[str, PromptRow] = {}
    completions: dict[str, list[Completion]] = {}
    for row in rows:
        name = prompt_id(row.messages)
        first = prompts.setdefault(name, PromptRow(name, row.messages, row.target, row.metadata))
        if first.target is None and row.target is not None:
            prompts[name] = dataclasses.replace(first, target=row.target)
        completions.setdefault(name, []).extend(row.completions)
    return list(prompts.values()), completions


def tokenize_completions(
    completions: dict[str, list[Completion]], tokenizer: Any, template: ChatTemplate, max_tokens: int
) -> tuple[dict[str, list[Answer]], list[tuple[str, int]]]:
    """The responses of at most `max_tokens` tokens, EOS included, and (prompt id, tokens) of the longer ones.

    A revision that is too long is left out alone, and listed too.
    """
    too_long: list[tuple[str, int]] = []

    def fitting(name: str, text: str) -> array[int] | None:
        ids = tokenize_answer(text, tokenizer, template)
        if len(ids) > max_tokens:
            too_long.append((name, len(ids)))
            return None
        return array("i", ids)

    answers: dict[str, list[Answer]] = {}
    for name, given in completions.items():
        for completion in given:
            if (ids := fitting(name, completion.text)) is not None:
                revision = None if completion.revision is None else fitting(name, completion.revision)
                answers.setdefault(name, []).append(Answer(completion, ids, revision))
    return answers, too_long
