"""Run folders with known answers, written as the loop writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rayalign.records import Message, Prompt, Sample, Score, ScoredSample
from rayalign.store.held_out import write_held_out
from rayalign.store.run_dir import RunDir
from tests.fakes import make_config
from tests.unit.answer_query_cases import ANSWERS, PROMPTS, SCORERS, Answer


def table_prompts() -> list[Prompt]:
    """The table's prompts as records; their ids are the table's."""
    return [Prompt(one, [user(facts["text"])], [1, 2], metadata=facts["metadata"]) for one, facts in PROMPTS.items()]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def make_run_folder(
    root: Path | str, answers: Iterable[Answer] = ANSWERS, held_out: Sequence[Prompt] | None = None
) -> RunDir:
    """A run of finished rounds with these evaluations, two shards each. `held_out`: none by an empty list."""
    run_dir = RunDir(root)
    run_dir.open(make_config(run={"name": "fake", "rounds": 1}).to_dict())
    if held_out := table_prompts() if held_out is None else held_out:
        write_held_out(run_dir.root, held_out)
    by_round: dict[int, list[Answer]] = {}
    for answer in answers:
        by_round.setdefault(answer.round, []).append(answer)
    for index, found in by_round.items():
        add_round(run_dir, index, [scored(one) for one in found])
    return run_dir


def add_round(run_dir: RunDir, index: int, rows: Sequence[ScoredSample], purpose: str = "evaluation") -> None:
    """Commit answers in two shards, and the round."""
    round_dir = run_dir.round(index)
    first = sorted({row.sample.prompt_id for row in rows})[:2]
    for shard in (0, 1):
        round_dir.commit_shard(purpose, shard, [row for row in rows if (row.sample.prompt_id in first) == (shard == 0)])
    round_dir.finish()


def scored(answer: Answer) -> ScoredSample:
    tokens = list(range(answer.tokens))
    sample = Sample(
        answer.prompt, answer.index, answer.text, tokens, [-1.0] * len(tokens), "stop", answer.round, seed=0
    )
    scores = [
        Score(name, "1", status, reward, reason=None if status == "ok" else f"it is {status}")  # pyright: ignore[reportArgumentType]
        for name, (status, reward) in zip(SCORERS, answer.scores, strict=True)
    ]
    return ScoredSample(sample, scores, answer.reward)
