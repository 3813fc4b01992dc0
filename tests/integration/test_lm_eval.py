"""lm-evaluation-harness on a tiny run: a local task, on the base and on the adapter, beside the same by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rayalign.config.file import benchmark_from
from rayalign.errors import ConfigError, DataError
from rayalign.launch.lm_eval import HarnessRunner, model_folders, read_lm_eval
from rayalign.learning.folders import load_tokenizer
from rayalign.records import SavedAdapter
from rayalign.store.benchmark_dir import BenchmarkDir
from tests.fakes import FakeReporter
from tests.tiny_run import make_base, make_saved_run

pytest.importorskip("lm_eval")
QUESTIONS = [
    {"question": f"w{i} w{i + 1}", "choices": [f"w{(7 * i) % 50}", f"w{(11 * i + 3) % 50}"], "answer": i % 2}
    for i in range(16)
]
TASK = """
task: words
dataset_path: json
dataset_kwargs: {data_files: {test: words.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "words.yaml").write_text(TASK)
    (folder / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    return folder


@torch.no_grad()
def right_by_hand(base: Path, adapter: Path | None) -> float:
    """How often the model gives the right word more than the other."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), load_tokenizer(base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    right = []
    for row in QUESTIONS:
        asked = tokenizer(row["question"], add_special_tokens=False)["input_ids"]
        words = [tokenizer(choice, add_special_tokens=False)["input_ids"][0] for choice in row["choices"]]
        logits = model(torch.tensor([asked])).logits[0, -1]
        right.append(int(logits[words].argmax()) == row["answer"])
    return sum(right) / len(right)


@pytest.mark.slow
def test_a_local_task_on_base_and_adapter(tmp_path: Path, tasks: Path) -> None:
    base = make_base(tmp_path / "base")
    run_dir = make_saved_run(tmp_path / "run", base)
    section = benchmark_from(
        {"type": "lm_eval", "tasks": ["words"], "folder": str(tasks), "device": "cpu", "dtype": "float32"}, "a test"
    )
    harness = read_lm_eval(section, tmp_path)
    assert len(harness.version) == 16
    runner = HarnessRunner("lm_eval", 1, harness, base, FakeReporter())
    one = run_dir.round(1).adapter()
    assert one is not None
    marks = set()
    for served in (SavedAdapter.base(one.record.base_model_sha256), one):
        place = BenchmarkDir.in_round(run_dir.round(served.record.version), "lm_eval", runner.marks(1, served))
        marks.add(place.marks)
        result = runner.run(place, served)
        scratch = tmp_path / f"scratch {served.record.version}"
        scratch.mkdir()
        expected = right_by_hand(*model_folders(base, served, scratch))
        assert result.metrics["words/acc"].value == pytest.approx(expected)
        assert result.metrics["words/acc"].n == 16
        low, high = result.metrics["words/acc"].ci95
        assert 0 <= low <= expected <= high <= 1
        assert result.rows == [{"id": "words", "questions": 16, "acc": pytest.approx(expected)}]
    assert len(marks) == 2


@pytest.mark.slow
def test_tasks_that_are_not_there_end_it_before_a_model_is_loaded(
    tmp_path: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    wrong = benchmark_from({"type": "lm_eval", "tasks": ["wrds"], "folder": str(tasks)}, "a test")
    with pytest.raises(ConfigError, match="no task is called wrds"):
        read_lm_eval(wrong, tmp_path)
    stock = benchmark_from({"type": "lm_eval", "tasks": ["arc_easy"]}, "a test")
    with pytest.raises(DataError, match="the data of arc_easy cannot be had from the hub") as error:
        read_lm_eval(stock, tmp_path)
    assert error.value.exit_code == 2
