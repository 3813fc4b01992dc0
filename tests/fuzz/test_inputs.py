"""Configs, datasets and replies of services that are anything at all: an error with a remedy, never a traceback."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from rayalign import cli
from rayalign.config.file import load_config, load_config_of
from rayalign.config.stages import StageConfig
from rayalign.data.loading import load_dataset_rows
from rayalign.data.prompts import load_prompt_rows
from rayalign.errors import DataError, RayalignError
from rayalign.scoring.judges.templates import TemplateName, make_template
from rayalign.scoring.services.calls import Failure
from rayalign.scoring.services.completions import read_completion
from rayalign.scoring.services.remote import RemoteScorer
from rayalign.scoring.services.transport import Key
from tests.fuzz.junk import changed, damaged, text, value

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIGS, FILES, REPLIES, DRY_RUNS = 3000, 3000, 500, 60
WHOLE = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "configs").glob("*.yaml"))]
ROWS = [
    {"prompt": "List two animals.", "response": "cat, dog"},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    {"prompt": "a", "chosen": "b", "rejected": "c"},
    {"instruction": "a", "input": "", "output": "b"},
    {
        "prompt": [{"role": "user", "content": "a"}],
        "completion": [{"role": "assistant", "content": "b"}],
        "label": True,
    },
    {"question": "1+1?", "answer": "#### 2"},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    {"prompt": "a", "responses": ["b", "c"], "rewards": [0.1, 0.9]},
]


def config_text(rng: random.Random) -> bytes:
    data = changed(rng, rng.choice(WHOLE))
    try:
        content = yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, ValueError):
        content = json.dumps(data).encode()
    return damaged(rng, content) if rng.random() < 0.3 else content


def is_fine(seed: object, action: Callable[..., Any], *arguments: Any) -> bool:
    """Whether an input is taken; where it is refused, in words and with what to do."""
    try:
        action(*arguments)
        return True
    except RayalignError as error:
        assert error.found and error.exit_code in (2, 3), f"{seed}: {error!r}"
        return False
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error


def test_configs(tmp_path: Path) -> None:
    file, fine = tmp_path / "config.yaml", 0
    for seed in range(CONFIGS):
        rng = random.Random(f"config {seed}")
        file.write_bytes(config_text(rng))
        overrides = [f"{text(rng)}={text(rng)}" for _ in range(rng.choice([0, 0, 0, 1]))]
        fine += is_fine(seed, load_config, file, overrides)
        is_fine(seed, load_config_of, StageConfig, file)
    # Some changes are none, or of settings that may be anything.
    assert 0 < fine < CONFIGS / 2


def test_commands_on_such_configs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = set()
    for seed in range(DRY_RUNS):
        rng = random.Random(f"dry {seed}")
        file = tmp_path / f"{seed}.yaml"
        file.write_bytes(config_text(rng))
        codes.add(cli.exit_code(["run", str(file), "--dry-run", "--set", f"run.dir={tmp_path / 'runs'}"]))
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err, f"seed {seed}: {said.err[-2000:]}"
    assert codes <= {0, 2} and 2 in codes


def dataset(rng: random.Random) -> tuple[str, bytes]:
    """The name and content of a file of rows."""
    kind = rng.choice(["jsonl", "jsonl", "json", "csv", "parquet", "txt", "arrow"])
    row = rng.choice(ROWS)
    rows = [changed(rng, row) if rng.random() < 0.3 else row for _ in range(rng.randrange(6))]
    if kind == "parquet":
        stream = io.BytesIO()
        plain = [{"prompt": str(index), "n": rng.choice([1, None])} for index in range(len(rows) + 1)]
        pq.write_table(pa.Table.from_pylist(plain), stream)
        content = stream.getvalue()
    elif kind == "arrow":
        sink = io.BytesIO()
        table = pa.Table.from_pylist([{"prompt": "a"}])
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        content = sink.getvalue()
    elif kind == "csv":
        content = "\n".join(["prompt,response", *(f"{text(rng)},{text(rng)}" for _ in rows)]).encode()
    elif kind == "json":
        content = json.dumps(rng.choice([rows, {"data": rows}, rows[:1] and rows[0]])).encode()
    else:
        content = "\n".join(json.dumps(one) for one in rows).encode()
    return f"data.{kind}", damaged(rng, content) if rng.random() < 0.4 else content


def all_prompts(source: str, field: str) -> int:
    return len(list(load_prompt_rows(source, field).rows))


def test_datasets(tmp_path: Path) -> None:
    fine = 0
    for seed in range(FILES):
        rng = random.Random(f"data {seed}")
        name, content = dataset(rng)
        file = tmp_path / name
        file.write_bytes(content)
        field = rng.choice(["auto", "auto", "prompt", text(rng)])
        fine += is_fine(f"{seed} {name}", all_prompts, str(file), field)
        is_fine(f"{seed} {name}", load_dataset_rows, str(file))
        file.unlink()
    assert FILES / 5 < fine < FILES


COMPLETION = {
    "id": "x", "object": "chat.completion", "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": '{"id": "n", "rating": 3}'},
                 "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
}  # fmt: skip
NAMES: tuple[TemplateName, ...] = ("cut", "rating", "pairwise")
TEMPLATES = [
    make_template(name, None, reasons=reasons, structured=structured)
    for name in NAMES
    for reasons in (False, True)
    for structured in (False, True)
]


def reply(rng: random.Random, whole: Any) -> bytes:
    content = json.dumps(changed(rng, whole)).encode()
    if rng.random() < 0.3:
        content = b"".join(b"data: " + content + b"\n\n" for _ in range(rng.randrange(4))) + b"data: [DONE]\n\n"
    return damaged(rng, content) if rng.random() < 0.5 else content


def test_replies_of_judges() -> None:
    taken = 0
    for seed in range(REPLIES):
        rng = random.Random(f"judge {seed}")
        try:
            said = read_completion(reply(rng, COMPLETION).decode(errors="replace"), Key(None)).text
            taken += 1
        except Failure as failure:
            assert failure.reason and failure.status == "error"
            said = json.dumps(value(rng))
        for template in TEMPLATES:
            try:
                template.parse(rng.choice([said, text(rng), '{"id": "n", "rating": ' + said + "}"]), "n")
            except DataError as error:
                assert error.found
    assert 0 < taken < REPLIES


def test_replies_of_reward_services() -> None:
    scorer = RemoteScorer.__new__(RemoteScorer)
    scorer._key = Key(None)
    ids, taken = ["a", "b"], 0
    whole = {"scores": [{"id": "a", "reward": 0.5}, {"id": "b", "reward": None}]}
    for seed in range(REPLIES):
        rng = random.Random(f"reward {seed}")
        content = json.dumps(whole).encode() if seed == 0 else reply(rng, whole)
        try:
            rewards = scorer._read(content, ids)
            assert len(rewards) == 2 and all(one is None or isinstance(one, float) for one in rewards)
            taken += 1
        except Failure as failure:
            assert failure.reason and failure.status == "error"
    assert 0 < taken < REPLIES
