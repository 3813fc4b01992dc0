"""Files of judged benchmarks, and a hand-written judge for them behind HTTP."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.http_server import Request, Respond

BLOCK = re.compile(r"<<([^\n<>]+) ([0-9a-f]{16})>>\n(.*?)\n<<end of \1 \2>>", re.DOTALL)
SCALE = re.compile(r"from (\d+) (?:\(worst\) )?to (\d+)")
NUMBERS = ("two", "three", "four", "five")


def judge(request: Request) -> Respond:
    """Rates by length, on whatever scale it is given, and prefers the longer answer; has no verdict where it reads
    `five`. Without a schema its reply ends as it is told: with the nonce and the verdict."""
    system, user = (message["content"] for message in request.body["messages"])
    blocks = BLOCK.findall(user)
    texts = [(name, text) for name, _, text in blocks]
    verdict: dict[str, Any]
    if '"better"' in system or "[[X]]" in system:
        a, b = ([len(text) for name, text in texts if f"assistant {side}" in name][-1:] or [0] for side in "AB")
        verdict = {"better": "tie" if a == b else "A" if a > b else "B"}
    else:
        low, high = (int(end) for end in SCALE.findall(system)[-1])
        verdict = {"rating": low + len(texts[-1][1]) % (high - low + 1)}
    if any("five" in text for _, text in texts):
        return _reply("no verdict")
    if "response_format" in request.body:
        return _reply(json.dumps({"reasons": "length", **verdict}))
    [mark] = verdict.values()
    if '"id"' in system:
        return _reply(json.dumps({"id": blocks[0][1], "reasons": "length", **verdict}))
    return _reply(f"By length.\n{blocks[0][1]} [[{'C' if mark == 'tie' else mark}]]")


def _reply(content: str) -> Respond:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return Respond({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}})


def rows(path: Path, *content: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return str(path)


def sections(folder: Path, url: str) -> list[dict[str, Any]]:
    by = {"type": "judge", "transport": "openai", "base_url": f"{url}/v1", "model": "judge", "limits": {"retries": 0}}
    asked = [f"List {number} animals." for number in NUMBERS]
    turns = [
        {"question_id": i, "category": "math" if i else "writing", "turns": [text, "List two fruits."],
         **({"reference": ["cat.", "fig."]} if i else {})}
        for i, text in enumerate(asked)
    ]  # fmt: skip
    answers = [{"instruction": text, "output": "cat", "generator": "short"} for text in asked]
    commas = [
        {"prompt": text, "constraints": [{"kind": "no_commas"}, {"kind": "words", "at_least": 1}]} for text in asked
    ]
    return [
        {"type": "mt_bench", "questions": rows(folder / "mt.jsonl", *turns), "baselines": [0], "judge": by},
        {
            "type": "arena",
            "questions": rows(folder / "q.jsonl", *({"prompt": text} for text in asked)),
            "baselines": [rows(folder / "short.jsonl", *answers), "previous"],
            "judge": by,
        },
        {"type": "rating", "questions": str(folder / "q.jsonl"), "rubric": "Brevity, from 1 to 4.", "judge": by},
        {"type": "instructions", "questions": rows(folder / "c.jsonl", *commas)},
    ]
