"""Every row record goes through its Parquet schema and comes back the same."""

from __future__ import annotations

import io
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, strategies as st

from rayalign.records import Adapter, EvalReport, Metric, Prompt, Sample, Score, ScoredSample, TrainingGroup, prompt_id

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids = st.text("0123456789abcdef", min_size=16, max_size=16)
tokens = st.lists(st.integers(0, 2**31 - 1), max_size=6)
floats = st.floats(allow_nan=False)
small = st.integers(0, 2**31 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
messages = st.lists(st.fixed_dictionaries({"role": texts, "content": texts}), min_size=1, max_size=3)

prompts = st.builds(
    Prompt,
    id=ids,
    messages=messages,
    token_ids=tokens,
    target=st.none() | texts,
    metadata=st.dictionaries(texts, json_values, max_size=3),
)
samples = st.builds(
    Sample,
    prompt_id=ids,
    index=small,
    text=texts,
    token_ids=tokens,
    logprobs=st.lists(floats, max_size=6),
    finish_reason=st.sampled_from(["stop", "length"]),
    adapter_version=small,
    seed=st.integers(0, 2**63 - 1),
)
scores = st.builds(
    Score,
    scorer=texts,
    scorer_version=texts,
    status=st.sampled_from(["ok", "abstain", "error", "timeout"]),
    reward=st.none() | floats,
    judgment=st.none() | texts,
    verdict=st.sampled_from([None, "perfect", "flawed"]),
    preferred_over=st.none() | small,
    aspects=st.dictionaries(texts, floats, max_size=3),
    latency_s=floats,
    cost=floats,
    reason=st.none() | texts,
)
scored = st.builds(ScoredSample, sample=samples, scores=st.lists(scores, max_size=3), reward=st.none() | floats)
groups = st.builds(
    TrainingGroup,
    prompt_id=ids,
    prompt_token_ids=tokens,
    response_indices=tokens,
    response_token_ids=st.lists(tokens, max_size=3),
    response_logprobs=st.lists(st.lists(floats, max_size=4), max_size=3),
    rewards=st.lists(floats, max_size=3),
    judgments=st.lists(st.none() | texts, max_size=3),
    judged_prompt_token_ids=st.lists(tokens, max_size=3),
    target_token_ids=st.none() | tokens,
    drop_reason=st.none() | texts,
)


def through_parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> list[dict[str, Any]]:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer)
    return pq.read_table(io.BytesIO(buffer.getvalue())).to_pylist()


@pytest.mark.parametrize(
    ("record", "strategy"),
    [(Prompt, prompts), (Sample, samples), (TrainingGroup, groups)],
    ids=lambda value: getattr(value, "__name__", ""),
)
@given(data=st.data())
def test_parquet_round_trip(record: Any, strategy: st.SearchStrategy[Any], data: st.DataObject) -> None:
    rows = data.draw(st.lists(strategy, max_size=3))
    read = through_parquet([row.to_row() for row in rows], record.schema())
    assert [record.from_row(row) for row in read] == rows
    assert [set(row.to_row()) for row in rows] == [set(record.schema().names)] * len(rows)


@given(rows=st.lists(scored, max_size=3))
def test_scored_samples_join_their_samples_again(rows: list[ScoredSample]) -> None:
    read = through_parquet([row.to_row() for row in rows], ScoredSample.schema())
    assert [ScoredSample.from_row(row, given.sample) for row, given in zip(read, rows, strict=True)] == rows


def test_a_missing_reward_is_null_and_not_nan() -> None:
    sample = Sample("a" * 16, 0, "x", [1], [-0.5], "stop", 0, 1)
    failed = ScoredSample(sample, [Score("rule:x", "1", "error", reason="timed out")], None)
    (row,) = through_parquet([failed.to_row()], ScoredSample.schema())
    assert row["reward"] is None
    assert row["scores"][0]["reward"] is None


def test_a_score_beside_another_sample_is_refused() -> None:
    one, other = (Sample("a" * 16, index, "x", [1], [-0.5], "stop", 0, 1) for index in (0, 1))
    row = ScoredSample(one, [], 0.5).to_row()
    with pytest.raises(ValueError, match="beside"):
        ScoredSample.from_row(row, other)


def test_log_probabilities_keep_every_bit() -> None:
    value = math.nextafter(-0.1, 0)
    sample = Sample("a" * 16, 0, "x", [1, 2], [value, -math.inf], "stop", 0, 1)
    (row,) = through_parquet([sample.to_row()], Sample.schema())
    assert Sample.from_row(row).logprobs == [value, -math.inf]


@given(first=messages, second=messages)
def test_prompt_ids_differ_with_content(first: list[dict[str, str]], second: list[dict[str, str]]) -> None:
    assert (prompt_id(first) == prompt_id(second)) == (first == second)


def test_reports_and_adapters() -> None:
    report = EvalReport(2, 2, {"pass_rate": Metric(0.5, 256, (0.45, 0.55))})
    assert EvalReport.from_dict(report.to_dict()) == report
    assert Adapter.base("ab").is_base
    assert not Adapter(1, "rounds/0001/adapter", "cd", "ab", 0).is_base
