"""Rows and files made up at random: whatever stands in one, it is read, counted, or refused with a reason."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings, strategies as st

from rayalign.cli import exit_code
from rayalign.data.dataset import BadRow
from rayalign.data.formats import FORMATS, detect, read_record
from rayalign.data.writers import WRITERS
from rayalign.errors import DataError
from tests.unit.format_cases import CAR, CASES, COD, FISH

FIELDS = [
    *sorted({name for case in CASES for name in case.row}),
    *("conversations", "query", "system", "system_prompt", "history", "tools", "tool_calls", "kto_tag", "metadata"),
    *("context", "passage", "chat_history", "systemPrompt", "images", "A0", "score_A0", "meta"),
    "\ud83d",
]
roles = st.sampled_from(["user", "assistant", "system", "human", "gpt", "tool", ""])
texts = st.text() | st.sampled_from(
    [
        "\ud800", "\n\nHuman: Hi\n\nAssistant: Hello", "[{'role': 'user', 'content': 'a'}]", "[['a' 'b']]", "[[1,2]",
        "[{'role': 'user', 'content': 'a'}\n {'role': 'user', 'content': 'b'}]", "null", "[]", " ",
    ]
)  # fmt: skip
turns = (
    st.fixed_dictionaries({"role": roles, "content": texts})
    | st.fixed_dictionaries({"from": roles, "value": texts})
    | st.dictionaries(st.sampled_from(["role", "content", "from", "tool_calls", "weight"]), texts | st.none())
)
json_scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(10**400)
other_scalars = st.one_of(
    st.binary(max_size=4), st.dates(), st.datetimes(), st.times(), st.timedeltas(), st.uuids(), st.complex_numbers(),
    st.decimals(), st.sets(st.integers()), st.builds(object), st.integers(0, 3).map(lambda n: 10 ** (5000 + n)),
)  # fmt: skip
inner = st.sampled_from([*FIELDS, "overall_score", "response", "critique", "rating", "questions"]) | st.text(max_size=2)


def nested(scalars: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    start = scalars | turns | st.lists(turns, min_size=1, max_size=3)
    return st.recursive(
        start, lambda part: st.lists(part, max_size=3) | st.dictionaries(keys, part, max_size=4), max_leaves=8
    )


values = nested(json_scalars, inner)
odd_values = nested(json_scalars | other_scalars, inner | st.integers()) | st.tuples(values, values)


def replaced(value: Any, old: str, new: Any) -> Any:
    if isinstance(value, dict):
        return {key: replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, old, new) for item in value]
    return new if value == old else value


@st.composite
def rows(draw: st.DrawFn, of: st.SearchStrategy[Any]) -> tuple[Any, str]:
    """(a row, its format): a published one with some fields changed, taken away or put to it, or anything at all."""
    case = draw(st.sampled_from(CASES))
    if draw(st.integers(0, 5)) == 0:
        return draw(of), case.format
    row = replaced(copy.deepcopy(case.row), draw(st.sampled_from([FISH, COD, CAR])), draw(texts | of))
    row |= draw(st.dictionaries(st.sampled_from(FIELDS), of, max_size=2))
    for name in draw(st.lists(st.sampled_from(sorted(row)), max_size=1)):
        del row[name]
    return row, case.format


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(made=rows(odd_values))
@example(made=({"prompt": {"\ud83d": [1j]}}, "prompts"))
def test_any_row_is_read_or_counted(made: tuple[Any, str]) -> None:
    """What is read is strict JSON in UTF-8, and comes back from every format that can be written."""
    record, format = made
    try:
        detect([record], "here")
    except DataError as error:
        str(error).encode()
    for name, row in read_record(record, "row 1", FORMATS[format]):
        if isinstance(row, BadRow):
            str(row.error(name)).encode()
            continue
        told = [row.messages, row.target, row.metadata, [answer.text for answer in row.completions]]
        json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
        assert {message["role"] for message in row.messages} <= {"system", "user", "assistant"}
        for to, write in WRITERS.items():
            for written in write(row, Counter()):
                ((_, back),) = read_record(json.loads(json.dumps(written)), "row 1", FORMATS[to])
                assert not isinstance(back, BadRow), (to, back)
                assert (back.messages, back.metadata) == (row.messages, row.metadata)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(content=st.lists(rows(values).map(lambda made: made[0]), min_size=1, max_size=3) | values, lines=st.booleans())
def test_any_file_is_converted_or_refused(content: Any, lines: bool, tmp_path_factory: Any) -> None:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    source, out = folder / ("d.jsonl" if lines else "d.json"), folder / "out.jsonl"
    parts = content if lines and isinstance(content, list) else [content]
    source.write_text("".join(json.dumps(part) + "\n" for part in parts))
    ended = exit_code(["convert", str(source), "--to", "messages", "--out", str(out)])
    assert (ended, out.exists()) in ((0, True), (2, False))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(cells=st.lists(st.lists(texts, min_size=2, max_size=2), min_size=1, max_size=3), data=st.data())
def test_any_csv_is_converted_or_refused(cells: list[list[str]], data: st.DataObject, tmp_path_factory: Any) -> None:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    source, out = folder / "d.csv", folder / "out.jsonl"
    names = data.draw(st.lists(st.sampled_from(FIELDS[:-1]), min_size=2, max_size=2, unique=True))
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in [names, *cells]]
    source.write_bytes("\n".join(quoted).encode("utf-8", "surrogatepass"))
    ended = exit_code(["convert", str(source), "--to", "messages", "--out", str(out)])
    assert (ended, out.exists()) in ((0, True), (2, False))
