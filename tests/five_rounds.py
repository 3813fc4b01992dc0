"""A run folder of five rounds written by the project's own writers, with invented answers: what a page is made from."""

from __future__ import annotations

import json
import random
from pathlib import Path

from rayalign.evaluation.metrics import measure
from rayalign.records import EvalReport, Prompt, Sample, Score, ScoredSample, prompt_id
from rayalign.store.held_out import write_held_out
from rayalign.store.run_dir import RunDir
from tests.fakes import make_config

ROUNDS = 5
HELD_OUT = 40
TRAINED = 12
ANSWERS = 4
NOUNS = ("apple", "boat", "candle", "door", "engine", "flute", "garden", "hammer", "island", "jacket")


def make_five_rounds(root: Path) -> RunDir:
    """Six evaluations of 40 prompts, and from round 1 on training answers with judgments; most prompts get better."""
    run_dir, held_out = make_run(root)
    for index in range(ROUNDS + 1):
        write_round(run_dir, held_out, index)
    return run_dir


def make_run(root: Path) -> tuple[RunDir, list[Prompt]]:
    """The folder without rounds, or as it is where it has some, and its held-out prompts."""
    run_dir = RunDir(root)
    run_dir.open(make_config(run={"name": "five", "rounds": ROUNDS}).to_dict())
    held_out = [_prompt(f"Describe {NOUNS[i % 10]} number {i} in a sentence.", i) for i in range(HELD_OUT)]
    write_held_out(root, held_out)
    return run_dir, held_out


def write_round(run_dir: RunDir, held_out: list[Prompt], index: int) -> None:
    """A finished round: held-out answers, training answers but for round 0, the report."""
    evaluated = {r: _all_rows(held_out, r) for r in {0, max(0, index - 1), index}}
    round_dir = run_dir.round(index)
    round_dir.commit_shard("evaluation", 0, evaluated[index])
    report = _report(evaluated, index)
    if index:
        prompts = [_prompt(f"Say more of {NOUNS[i % 10]} {index}.{i}.", i) for i in range(TRAINED)]
        trained = _all_rows(prompts, index)
        round_dir.write_prompts(prompts)
        round_dir.commit_shard("train", 0, trained)
        report["flagged"] = [_flagged(prompts[0], trained[0])]
    round_dir.commit("report", round_dir.write("report.json", json.dumps(report).encode()))
    round_dir.finish()


def _all_rows(prompts: list[Prompt], index: int) -> list[ScoredSample]:
    return [row for i, one in enumerate(prompts) for row in _rows(one, i, index)]


def _prompt(text: str, number: int) -> Prompt:
    messages = [{"role": "user", "content": text}]
    metadata = {"topic": "sea" if number % 2 else "land"}
    return Prompt(prompt_id(messages), messages, [1, 2], metadata=metadata)


def _rows(prompt: Prompt, number: int, index: int) -> list[ScoredSample]:
    """Answers that get longer and better by the round; those to every tenth prompt get worse."""
    draw = random.Random(f"{prompt.id} {index}")
    trend = -0.09 if number % 10 == 3 else 0.08
    return [
        _row(prompt, i, index, min(1.0, max(0.0, 0.5 + trend * index + draw.uniform(-0.1, 0.1))))
        for i in range(ANSWERS)
    ]


def _row(prompt: Prompt, i: int, index: int, reward: float) -> ScoredSample:
    words = ["The", *NOUNS[i : i + 3 + index], "is", "red" if index < 3 else "blue"]
    tokens = list(range(len(words)))
    finish = "length" if i == 3 else "stop"
    sample = Sample(prompt.id, i, " ".join(words), tokens, [-0.5] * len(tokens), finish, index, seed=i)
    judged = Score("judge", "1", "ok", 1 - reward, f"It has {len(words)} words.", "perfect" if i else "flawed")
    failed = Score("judge", "1", "timeout", reason="no reply within 30 s")
    scores = [Score("rule:demo", "1", "ok", reward), failed if (i, index) == (2, 5) else judged]
    return ScoredSample(sample, scores, reward)


def _report(rows: dict[int, list[ScoredSample]], index: int) -> dict[str, object]:
    baselines = {"round_0": rows[0], "previous": rows[index - 1]} if index else {}
    metrics = measure(rows[index], None, baselines, {"rule:demo"}, seed=0)
    return EvalReport(index, index, metrics).to_dict()


def _flagged(prompt: Prompt, row: ScoredSample) -> dict[str, object]:
    tokens = [[f"{word} ", word == "is"] for word in row.sample.text.split()]
    ratios = [1.5 if flag else -0.2 for _, flag in tokens]
    facts = {"prompt_id": prompt.id, "index": row.sample.index, "judgment": "It says so little."}
    return {"prompt": prompt.text, **facts, "tokens": tokens, "ratios": ratios}
