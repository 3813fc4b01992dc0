"""What a run says of the prompts that it read."""

from __future__ import annotations

import json
from pathlib import Path

from rayalign.data.dataset import KEPT_NAMES
from rayalign.data.prompts import load_prompt_rows
from rayalign.launch.inputs import _say_rows
from tests.fakes import FakeReporter, make_config


def test_left_out_prompts_are_counted_and_the_first_ones_named(tmp_path: Path) -> None:
    source = tmp_path / "prompts.jsonl"
    blank, total = '{"prompt": " "}\n', KEPT_NAMES + 7
    source.write_text('{"prompt": "A"}\n{"prompt": null}\n' + blank * total)
    rows = load_prompt_rows(str(source))
    assert len(list(rows.rows)) == 1
    console = FakeReporter()
    config = make_config(prompts={"source": str(source)})
    _say_rows(config, console, rows, 3, tmp_path)  # type: ignore[arg-type]
    assert console.said[0].startswith(f"{source}: format prompts (")
    assert console.said[1:] == [
        "3 duplicate prompts merged",
        "1 prompts left out, prompt is not text: line 2",
        f"{total} prompts left out, blank prompt: line 3, line 4, line 5, line 6, line 7, ... "
        "(more in logs/skipped_prompts.json)",
    ]
    written = json.loads((tmp_path / "skipped_prompts.json").read_text())
    assert written["prompt is not text"] == {"count": 1, "first": ["line 2"]}
    assert written["blank prompt"]["count"] == total
    assert written["blank prompt"]["first"] == [f"line {3 + i}" for i in range(KEPT_NAMES)]


def test_texts_that_no_model_is_shown_are_named(tmp_path: Path) -> None:
    """A name or a number beside a prompt is a label; a text of several words may have been meant to be seen."""
    source = tmp_path / "prompts.jsonl"
    row = {"question": "How many?", "table": "a b c d", "grade": "two", "code": 7}
    source.write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    rows = load_prompt_rows(str(source))
    assert len(list(rows.rows)) == 2
    console = FakeReporter()
    _say_rows(make_config(prompts={"source": str(source)}), console, rows, 0, tmp_path)  # type: ignore[arg-type]
    assert console.said[1:] == ["prompts.source: texts kept as metadata, which no model is shown: table (2 rows)"]
