"""A dataset's responses for offline rounds: tokenised once, kept on local disk, what does not fit counted.

This is the only place where text becomes response tokens; from here on a read response is what a sampled one is.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rayalign.data.dataset import Completion
from rayalign.data.scratch_db import ScratchDb
from rayalign.errors import DataError
from rayalign.records import FROM_DATASET, Message, Prompt, Sample, Score, ScoredSample
from rayalign.rendering.renderer import ChatRenderer

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
    """Tokens of the response, its end included: a dataset's answer is a whole one."""
    revision: array[int] | None = None


_TABLE = """CREATE TABLE answers
    (prompt TEXT, place INTEGER, facts TEXT, tokens BLOB, revision BLOB, scored INTEGER, verdict TEXT,
    PRIMARY KEY (prompt, place)) WITHOUT ROWID"""
_INSERT = "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)"


class Responses:
    """The responses of a dataset by prompt id, on local disk where they are many. Threads may share one.

    Args:
        name: the scorer that the dataset's scores and judgments stand under; its version is the data's checksum.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._db = ScratchDb(_TABLE)

    def add(self, answers: Iterable[tuple[str, Sequence[Answer]]]) -> None:
        """Append responses to those that prompts (by id) have already."""
        with self._db.writing() as db:
            for prompt, given in answers:
                (first,) = db.execute("SELECT count(*) FROM answers WHERE prompt = ?", (prompt,)).fetchone()
                for place, answer in enumerate(given, first):
                    told = answer.completion
                    revision = None if answer.revision is None else answer.revision.tobytes()
                    facts = json.dumps(dataclasses.astuple(told))
                    scored = told.score is not None
                    db.execute(
                        _INSERT, (prompt, place, facts, answer.token_ids.tobytes(), revision, scored, told.verdict)
                    )

    @functools.cached_property
    def version(self) -> str:
        """Checksum of all responses; none may be added after it was read."""
        digest = hashlib.sha256()
        for row in self._db.each("SELECT prompt, facts, tokens, revision FROM answers ORDER BY prompt, place"):
            for part in row:
                content = part.encode() if isinstance(part, str) else part or b""
                digest.update(len(content).to_bytes(8, "big") + content)
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return self._db.all("SELECT count(*) FROM answers")[0][0]

    def ids(self) -> np.ndarray:
        """Ids of the prompts that have responses, as byte strings."""
        count, width = self._db.all("SELECT count(DISTINCT prompt), max(length(prompt)) FROM answers")[0]
        ids_N = np.empty(count, dtype=f"S{width or 1}")
        for i, (prompt,) in enumerate(self._db.each("SELECT DISTINCT prompt FROM answers")):
            ids_N[i] = prompt.encode()
        return ids_N

    @property
    def verdicts(self) -> Counter[str]:
        """How many answers have which verdict."""
        return Counter(
            dict(self._db.all("SELECT verdict, count(*) FROM answers WHERE verdict NOT NULL GROUP BY verdict"))
        )

    @property
    def revises(self) -> bool:
        return bool(self._db.all("SELECT 1 FROM answers WHERE length(revision) > 0 LIMIT 1"))

    def rows(self, prompt: Prompt) -> list[ScoredSample]:
        """A prompt's responses 0..K-1 with the dataset's scores."""
        return [
            ScoredSample(
                _sample(prompt.id, i, answer.completion.text, answer.token_ids),
                [self._score(answer)],
                answer.completion.score,
            )
            for i, answer in enumerate(self._answers(prompt.id))
        ]

    def count(self, prompt: Prompt) -> int:
        return self._db.all("SELECT count(*) FROM answers WHERE prompt = ?", (prompt.id,))[0][0]

    def count_revisions(self, asked: Prompt) -> int:
        return len(self.revision_rows(asked))

    def revision_rows(self, asked: Prompt) -> list[ScoredSample]:
        """The better response that the dataset has for one of `JudgedStreams.revision_prompts`, if any."""
        _, prompt, index = asked.id.rsplit("-", 2)
        answer = self._answers(prompt)[int(index)]
        if not answer.revision:
            return []
        return [ScoredSample(_sample(asked.id, 0, answer.completion.revision or "", answer.revision), [], None)]

    def _answers(self, prompt: str) -> list[Answer]:
        rows = self._db.all("SELECT facts, tokens, revision FROM answers WHERE prompt = ? ORDER BY place", (prompt,))
        return [
            Answer(Completion(*json.loads(facts)), array("i", tokens), None if better is None else array("i", better))
            for facts, tokens, better in rows
        ]

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

    def check(self, needs: Collection[str], where: str, *, targets: bool) -> None:
        """Raise where the dataset has nothing that the run's objectives can learn from.

        Args:
            needs: what the objectives learn from.
            targets: whether any prompt has a reference answer.

        Raises:
            DataError: no two scored responses to one prompt, no judgment, or no target.
        """
        rewarded = "SELECT 1 FROM answers WHERE scored GROUP BY prompt HAVING count(*) > 1 LIMIT 1"
        found = {"rewards": bool(self._db.all(rewarded)), "judgments": bool(self.verdicts), "targets": targets}
        for need, why in REMEDIES.items():
            if need in needs and not found[need]:
                raise DataError(f"{where} has no {need} for the run's objective", why, "or set another objective.type")


def _sample(prompt: str, index: int, text: str, token_ids: array[int]) -> Sample:
    return Sample(prompt, index, text, token_ids.tolist(), [], "stop", FROM_DATASET, 0)


@dataclass(slots=True)
class CompletionTokens:
    """Tokenises a dataset's responses.

    Args:
        max_tokens: the longest response that is kept, its end included.
    """

    renderer: ChatRenderer
    max_tokens: int
    too_long: list[tuple[str, int]] = field(default_factory=list)
    """(prompt id, tokens) of the responses that were longer. A revision that is too long is left out alone."""
    without_thinking: int = 0
    """Responses of which the chat template leaves out a <think> block."""

    def answers(self, prompt: str, messages: Sequence[Message], completions: Sequence[Completion]) -> list[Answer]:
        """The responses that fit, each behind the prompt of this id and these messages."""
        found = []
        for completion in completions:
            if (ids := self._fitting(prompt, messages, completion.text)) is not None:
                better = completion.revision
                revision = None if better is None else self._fitting(prompt, messages, better)
                found.append(Answer(completion, ids, revision))
        return found

    def _fitting(self, prompt: str, messages: Sequence[Message], text: str) -> array[int] | None:
        ids = self.renderer.answer(messages, text, f"prompt {prompt}")
        if len(ids) > self.max_tokens:
            self.too_long.append((prompt, len(ids)))
            return None
        self.without_thinking += self.renderer.loses_thinking(text)
        return array("i", ids)
