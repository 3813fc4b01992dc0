"""A page with a browser of answers, made from invented answers of a run of six rounds, some of them hostile."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from rayalign.dashboard.report import ReportData, render_report

ROUNDS = 6
ANSWERS = 4
SENTENCE = "a small red boat sails past the quiet harbour while two old friends drink tea and talk of rain"
WORDS = SENTENCE.split()
TOPICS = ("food", "travel", "letters")
HOSTILE = {
    "<script>window.hit = 1</script>": '<img src=x onerror="window.hit = 1"><script>window.hit = 1</script>',
    "שלום, מה שלומך?": "טוב מאוד, תודה.",
    "NUL\0 and bell\x07": "surrogate \ud800 and escape \x1b[31m",
    "A megabyte without a space": "x" * 1_000_000,
}


def page_data(prompts: int = 64, hostile: bool = False) -> dict[str, Any]:
    """What a file's page embeds: `prompts` prompts, and on demand the hostile ones."""
    evaluation = [_view(f"Tell me about {WORDS[i % 19]} number {i}.", i) for i in range(prompts)]
    evaluation += [_hostile(i, prompt, answer) for i, (prompt, answer) in enumerate(HOSTILE.items()) if hostile]
    train = [_view(f"Write about {WORDS[i % 19]}, take {i}.", i + 1000, flagged=True) for i in range(prompts // 4)]
    facets = {
        "run": "harbour",
        "purposes": ["evaluation", "train"],
        "rounds": {"evaluation": list(range(ROUNDS)), "train": list(range(ROUNDS))},
        "scorers": ["rule:length", "judge"],
        "statuses": ["ok", "abstain", "error", "timeout"],
        "metadata": {"topic": list(TOPICS)},
        "problems": ["round 3: one file of scores is damaged"],
        "note": "The 20 worst, best and most changed prompts and 20 at random, of 512.",
        "total": {"evaluation": 512, "train": 512},
    }
    rows = {"evaluation": evaluation, "train": train}
    return {"mode": "file", "run": "harbour", "facets": facets, "rows": rows}


def page_html(data: dict[str, Any] | None = None) -> str:
    """A report without curves that holds the data."""
    config = {"run": {"name": "harbour", "rounds": ROUNDS - 1}, "model": {"base": "tiny"}}
    browser = page_data() if data is None else data
    return render_report(ReportData("harbour", "done", config, {"seed": 0}, [], browser=lambda: browser))


def write_page(folder: Path, data: dict[str, Any] | None = None) -> str:
    """Writes the page and returns its address."""
    path = folder / "report.html"
    path.write_bytes(page_html(data).encode("utf-8", "replace"))
    return path.resolve().as_uri()


def _view(prompt: str, seed: int, flagged: bool = False) -> dict[str, Any]:
    draw = random.Random(seed)
    rounds = [{"round": r, "answers": _answers(r, seed, draw, flagged)} for r in range(ROUNDS)]
    system = [{"role": "system", "content": "Answer in one sentence."}] if seed % 5 == 0 else []
    target = "A boat lay in the harbour." if seed % 3 == 0 else None
    metadata = {"topic": TOPICS[seed % 3], "level": seed % 4}
    messages = [*system, {"role": "user", "content": prompt}]
    return {"id": f"{seed:016x}", "messages": messages, "target": target, "metadata": metadata, "rounds": rounds}


def _answers(index: int, seed: int, draw: random.Random, flagged: bool) -> list[dict[str, Any]]:
    trend = (seed % 7 - 2) * 0.04
    equal = seed % 9 == 0
    rewards = [
        0.5 if equal else min(1.0, max(0.0, 0.4 + trend * index + draw.uniform(-0.2, 0.2))) for _ in range(ANSWERS)
    ]
    answers = [_answer(i, index, reward, draw, flagged) for i, reward in enumerate(rewards)]
    if seed % 11 == 3:
        answers[0] |= {"reward": None}
        answers[0]["scores"]["judge"] = _score(None, "timeout", reason="no reply within 30 s")
    return sorted(answers, key=lambda one: (one["reward"] is None, -(one["reward"] or 0), one["index"]))


def _answer(i: int, index: int, reward: float, draw: random.Random, flagged: bool) -> dict[str, Any]:
    words = WORDS[: 6 + 2 * index] if i % 2 else draw.sample(WORDS, 8 + index)
    text = " ".join(words).capitalize() + "."
    tokens = [f"{word} " for word in text.split()]
    judgment = "It names a boat but not its colour." if i % 2 else None
    verdict = "flawed" if i % 2 else "perfect"
    return {
        "index": i,
        "text": text,
        "reward": reward,
        "tokens": len(tokens),
        "finish": "length" if i == 3 else "stop",
        "version": index,
        "scores": {"rule:length": _score(reward), "judge": _score(1 - reward, text=judgment, verdict=verdict)},
        "flags": [[token, at % 4 == 1] for at, token in enumerate(tokens)] if flagged else None,
        "ratios": [[token, draw.uniform(-3, 3)] for token in tokens] if flagged else None,
    }


def _score(reward: float | None, status: str = "ok", **said: str | None) -> dict[str, Any]:
    return {"reward": reward, "status": status, "reason": None, "text": None, "verdict": None} | said


def _hostile(number: int, prompt: str, answer: str) -> dict[str, Any]:
    view = _view(prompt, 5000 + number)
    for one in view["rounds"]:
        one["answers"][0] |= {"text": answer}
    return view
