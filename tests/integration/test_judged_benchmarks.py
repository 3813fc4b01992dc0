"""MT-Bench, arena, rating and instructions in a real run and by hand, with a hand-written judge behind HTTP."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rayalign.cli import exit_code
from rayalign.launch.run import run
from rayalign.store.run_dir import RunDir
from tests.http_server import Request, Respond, Server
from tests.integration.conftest import small_config

pytestmark = [pytest.mark.integration, pytest.mark.slow]
BLOCK = re.compile(r"<<([^\n<>]+) ([0-9a-f]{16})>>\n(.*?)\n<<end of \1 \2>>", re.DOTALL)
NUMBERS = ("two", "three", "four", "five")


def judge(request: Request) -> Respond:
    """Rates by length, on whatever scale it is given, and prefers the longer answer; has no verdict on a marked one."""
    texts = [(name, text) for name, _, text in BLOCK.findall(request.body["messages"][-1]["content"])]
    properties = request.body["response_format"]["json_schema"]["schema"]["properties"]
    if "better" in properties:
        a, b = ([len(text) for name, text in texts if f"assistant {letter}" in name][-1:] or [0] for letter in "AB")
        said: dict[str, Any] = {"better": "tie" if a == b else "A" if a > b else "B"}
    else:
        scale = properties["rating"]["enum"]
        said = {"rating": scale[len(texts[-1][1]) % len(scale)]}
    content = "no verdict" if any("five" in text for _, text in texts) else json.dumps({"reasons": "length", **said})
    return _reply(content)


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


def test_in_the_loop_and_by_hand(demo_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Server(judge) as server:
        config = small_config(
            run={"name": "test", "rounds": 1, "dir": str(tmp_path)},
            evaluation={"benchmarks": sections(tmp_path, server.url)},
        )
        root = Path(run(config))
        reports = [RunDir(root).round(index).report() for index in (0, 1)]
        first, last = (report["benchmarks"] for report in reports if report is not None)
        check_last(last)
        # Nobody to compare with yet, but the file.
        assert "win_rate/round_0" not in first["mt_bench"]["metrics"]
        assert set(first["arena"]["facts"]["opponents"]) == {"short"}
        asked = len(server.requests)
        assert exit_code(["eval", str(root), "--benchmark", "arena", "--round", "1"]) == 0, capfd.readouterr().err
        by_hand = json.loads((root / "benchmarks" / "arena" / "round-0001" / "result.json").read_text())
        assert by_hand["metrics"] == last["arena"]["metrics"]
        # The verdicts are in the cache; what failed, and the canned question of the check, are asked again.
        assert 0 < len(server.requests) - asked < 8


def check_last(found: dict[str, Any]) -> None:
    """Of four questions the judge has no verdict on the one with `five`."""
    bench = found["mt_bench"]
    assert (bench["facts"]["answered"], bench["facts"]["answers"]) == (4, 8)
    assert bench["facts"]["judge"]["failed"] >= 2 and bench["metrics"]["score"]["n"] == 6
    assert {"score/turn_1", "score/turn_2", "score/math", "score/writing", "win_rate/round_0"} <= set(bench["metrics"])
    arena = found["arena"]["metrics"]
    assert {"strength", "strength/short", "strength/round_0", "win_rate/short", "win_rate/previous"} <= set(arena)
    assert found["arena"]["facts"]["opponents"]["short"]["without_outcome"] == 1
    assert arena["win_rate/short"]["value"] > 0.5
    rating = found["rating"]
    assert rating["facts"]["scale"] == [1, 4] and 1 <= rating["metrics"]["rating"]["value"] <= 4
    assert rating["metrics"]["rating"]["n"] == 3
    kept = found["instructions"]["metrics"]
    assert kept["instruction_strict/words"]["n"] == 4 and set(kept) >= {"prompt_strict", "prompt_loose"}
