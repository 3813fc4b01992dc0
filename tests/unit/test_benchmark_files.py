"""Benchmarks of a config and the files that they name: what is read, and what is refused with where it stands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.benchmarks import (
    ArenaBenchmark,
    InstructionsBenchmark,
    LMEvalBenchmark,
    MTBenchmark,
    RatingBenchmark,
)
from rayalign.config.file import benchmark_from
from rayalign.errors import ConfigError, DataError
from rayalign.evaluation.benchmarks.base import Answer
from rayalign.evaluation.benchmarks.lm_eval_results import harness_result
from rayalign.evaluation.benchmarks.mt_bench import by_reference
from rayalign.launch.judged_benchmarks import read_arena, read_instructions, read_mt_bench, read_rating
from rayalign.launch.lm_eval import model_folders, read_lm_eval
from rayalign.records import Adapter, AdapterFiles, SavedAdapter

MT_BENCH = Path(__file__).parents[3] / "shared" / "data" / "mt_bench_questions.jsonl"
JUDGE = {"type": "judge", "transport": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}


def write_rows(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def section(**keys: Any) -> Any:
    return benchmark_from(keys, "a test")


def mt_bench(folder: Path, **keys: Any) -> MTBenchmark:
    rows = [
        {"question_id": 81, "category": "writing", "turns": ["a", "b"]},
        {"question_id": 111, "category": "math", "turns": ["c", "d"], "reference": ["e", "f"]},
    ]
    return section(type="mt_bench", questions=write_rows(folder / "q.jsonl", *rows), judge=JUDGE, **keys)


def test_mt_bench_reads_questions_and_a_baselines_answers(tmp_path: Path) -> None:
    answers = write_rows(
        tmp_path / "gpt 4.jsonl",
        {"question_id": 81, "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["x", "y"]}]},
        {"question_id": 99, "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["x", "y"]}]},
    )
    found = mt_bench(tmp_path, baselines=[0, "previous", answers])
    assert (found.files, found.rounds) == ([answers], [0, "previous"])
    bench = read_mt_bench(found, tmp_path)
    assert [one.id for one in bench.items] == ["81", "111"]
    assert bench.baselines == {"gpt_4": {"81": ("x", "y")}}
    assert [one.id for one in read_mt_bench(mt_bench(tmp_path, limit=1), tmp_path).items] == ["81"]


@pytest.mark.skipif(not MT_BENCH.exists(), reason="no ../shared/data here")
def test_the_published_questions_are_read() -> None:
    bench = read_mt_bench(section(type="mt_bench", questions=str(MT_BENCH), judge=JUDGE), Path())
    assert len(bench.items) == 80
    assert {len(one.turns) for one in bench.items} == {2}
    shown = [one for one in bench.items if by_reference(one)]
    assert {one.category for one in shown} == {"math", "reasoning", "coding"} and len(shown) == 29


def test_files_that_cannot_be_used_say_where(tmp_path: Path) -> None:
    bad = write_rows(tmp_path / "bad.jsonl", {"question_id": 1, "turns": ["a"]}, {"question_id": 2, "turns": "b"})
    with pytest.raises(DataError, match=r"bad\.jsonl, line 2: turns"):
        read_mt_bench(section(type="mt_bench", questions=bad, judge=JUDGE), tmp_path)
    with pytest.raises(DataError, match=r"gone\.jsonl"):
        read_mt_bench(section(type="mt_bench", questions=str(tmp_path / "gone.jsonl"), judge=JUDGE), tmp_path)
    other = write_rows(tmp_path / "other.jsonl", {"question_id": 5, "choices": [{"turns": ["x"]}]})
    with pytest.raises(DataError, match="baseline other answers none of the questions"):
        read_mt_bench(mt_bench(tmp_path, baselines=[other]), tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"type": "arena", "questions": "q", "judge": JUDGE}, "baselines"),
        ({"type": "arena", "questions": "q", "judge": JUDGE, "baselines": []}, "baselines"),
        ({"type": "mt_bench", "questions": "q", "baselines": ["a/x.json", "b/x.json"]}, "two baselines are called x"),
        ({"type": "mt_bench", "questions": "q", "baselines": [-1]}, "baselines"),
        ({"type": "rating", "questions": "q", "scale": [5, 1]}, "write the lowest rating first"),
        ({"type": "lm_eval", "tasks": []}, "tasks"),
        ({"type": "lm_eval", "tasks": ["arc_easy"], "temperature": 1.0}, "takes no temperature"),
        ({"type": "lm_eval", "tasks": ["arc_easy"], "max_tokens": 5}, "takes no max_tokens"),
        ({"type": "instructions"}, "questions"),
        ({"type": "mtbench", "questions": "q"}, "mt_bench"),
    ],
)
def test_keys_that_do_not_fit_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        section(**keys)


def test_arena_joins_answers_to_questions_by_their_words(tmp_path: Path) -> None:
    asked = write_rows(tmp_path / "q.jsonl", {"instruction": "Name a fruit."}, {"instruction": "Name a fish."})
    answers = tmp_path / "davinci.json"
    answers.write_text(json.dumps([{"instruction": "Name a fish.", "output": "Cod.", "generator": "davinci"}]))
    found: ArenaBenchmark = section(
        type="arena", questions=asked, judge=JUDGE, baselines=[str(answers)], rubric="Be strict."
    )
    arena = read_arena(found, tmp_path)
    assert [one.turns for one in arena.items] == [("Name a fruit.",), ("Name a fish.",)]
    assert arena.baselines == {"davinci": {arena.items[1].id: ("Cod.",)}}
    assert arena.task.rubric == "Be strict."


@pytest.mark.parametrize(
    ("keys", "scale"),
    [
        ({}, None),
        ({"rubric": "Rate politeness from 1 to 5."}, (1, 5)),
        ({"rubric": "Rate politeness."}, (1, 10)),
        ({"rubric": "Rate politeness from 1 to 5.", "scale": [0, 3]}, (0, 3)),
        ({"scale": [1, 7]}, (1, 7)),
        ({"rubric": {"file": "rubric.md"}}, (0, 4)),
    ],
)
def test_a_ratings_scale(tmp_path: Path, keys: dict[str, Any], scale: tuple[int, int] | None) -> None:
    (tmp_path / "rubric.md").write_text("0 to 4 points for brevity.")
    for name, content in (("q.csv", "prompt\nHi\nHo\n"), ("q.json", '[{"prompt": "Hi"}, {"prompt": "Ho"}]')):
        (tmp_path / name).write_text(content)
        found: RatingBenchmark = section(type="rating", questions=name, judge=JUDGE, **keys)
        rating = read_rating(found, tmp_path)
        assert [item.messages[-1]["content"] for item in rating.items] == ["Hi", "Ho"]
        assert (None if rating.task is None else (rating.task.lowest, rating.task.highest)) == scale


def test_instructions_are_checked_strictly_and_loosely(tmp_path: Path) -> None:
    """Two constraints kept and one broken: of two prompts one is followed, of three constraints two."""
    asked = write_rows(
        tmp_path / "q.jsonl",
        {"prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        {"prompt": "Free."},
        {
            "prompt": "Short, no commas.",
            "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
            "kwargs": [{}, {"relation": "less than", "num_words": 3}],
        },
    )
    found: InstructionsBenchmark = section(type="instructions", questions=asked)
    bench = read_instructions(found, tmp_path)
    first, second = bench.prompts
    answers = {first.id: [Answer("Very well", False, 2)], second.id: [Answer("This is far too long", False, 5)]}
    assert [one.id for one in bench.ask(0, {})] == [first.id, second.id]
    assert (bench.ask(1, answers), bench.questions(answers)) == ([], [])
    result = bench.result(answers, {}, seed=0)
    assert (result.metrics["prompt_strict"].value, result.metrics["prompt_strict"].n) == (0.5, 2)
    assert result.metrics["instruction_strict"].value == pytest.approx(2 / 3)
    assert [one["strict"] for one in result.rows[1]["constraints"]] == [True, False]
    odd = write_rows(tmp_path / "odd.jsonl", {"prompt": "Free."}, {"prompt": "Odd.", "constraints": [{"kind": "wrds"}]})
    with pytest.raises(DataError, match=r"odd\.jsonl, line 2: .*constraints\.0"):
        read_instructions(section(type="instructions", questions=odd), tmp_path)
    bare = write_rows(tmp_path / "bare.jsonl", {"prompt": "Free."}, {"prompt": "Too."})
    with pytest.raises(DataError, match=r"no prompt of .* has constraints"):
        read_instructions(section(type="instructions", questions=bare), tmp_path)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    found: LMEvalBenchmark = section(type="lm_eval", tasks=["arc_easy"])
    with pytest.raises(ConfigError) as error:
        read_lm_eval(found, tmp_path, find=lambda name: None)
    assert error.value.remedy == "pip install 'rayalign[lm-eval]'" and error.value.exit_code == 2


def test_a_folder_of_tasks_that_is_not_there_is_named(tmp_path: Path) -> None:
    found: LMEvalBenchmark = section(type="lm_eval", tasks=["mine"], folder="gone")
    with pytest.raises(DataError, match="lm_eval: folder: gone"):
        read_lm_eval(found, tmp_path, find=lambda name: name)


def test_the_harness_results_become_metrics_with_intervals() -> None:
    """.5 +- 1.96 x .1; a share's interval ends at 1; a metric without a standard error stands in the facts."""
    reply = {
        "results": {
            "fruit": {"alias": "fruit", "acc,none": 0.5, "acc_stderr,none": 0.1, "sample_len": 25},
            "gsm8k": {
                "exact_match,strict-match": 0.95, "exact_match_stderr,strict-match": 0.05,
                "exact_match,flexible-extract": 1.0, "exact_match_stderr,flexible-extract": "N/A", "alias": "gsm8k",
            },
            "subtask": {"acc,none": 0.1, "acc_stderr,none": 0.1},
        },
        "n-samples": {name: {"original": 90, "effective": 25} for name in ("fruit", "gsm8k", "subtask")},
        "versions": {"fruit": 1},
    }  # fmt: skip
    result = harness_result(reply, ["fruit", "gsm8k"])
    assert set(result.metrics) == {"fruit/acc", "gsm8k/exact_match/strict-match"}
    fruit, gsm8k = result.metrics.values()
    assert (fruit.value, fruit.n, fruit.ci95) == (0.5, 25, (pytest.approx(0.304), pytest.approx(0.696)))
    assert gsm8k.ci95 == (pytest.approx(0.852), 1.0)
    assert result.facts["without_interval"] == {"gsm8k/exact_match/flexible-extract": 1.0}
    assert [row["id"] for row in result.rows] == ["fruit", "gsm8k", "subtask"]


@pytest.mark.parametrize("full", [False, True])
def test_what_is_served_as_folders(tmp_path: Path, full: bool) -> None:
    base, scratch = tmp_path / "base", tmp_path / "scratch"
    base.mkdir(), scratch.mkdir()
    for name in ("config.json", "tokenizer.json", "model-00001.safetensors", "model.safetensors.index.json"):
        (base / name).write_text("base")
    weights = "model.safetensors" if full else "adapter_model.safetensors"
    files = {weights: b"round", "config.json" if full else "adapter_config.json": b"{}"}
    served = SavedAdapter(Adapter(1, "p", "s", "b", 0), AdapterFiles(1, "s", files))
    model, adapter = model_folders(base, served, scratch)
    there = {path.name: path.read_bytes() for path in (model if full else adapter or base).iterdir()}
    assert there == (files | {"tokenizer.json": b"base"} if full else files)
    assert (model, adapter) == ((scratch / "served", None) if full else (base, scratch / "served"))
    shutil.rmtree(scratch / "served")
    assert (base / "tokenizer.json").read_text() == (base / "config.json").read_text() == "base"
    assert model_folders(base, SavedAdapter.base("b"), scratch) == (base, None)
