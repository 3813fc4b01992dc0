"""What a run exports, loaded by plain PEFT, transformers and vLLM, answers as the run's own generator did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rayalign import cli
from rayalign.store.run_dir import RunDir
from tests.integration.test_run import finish, start
from tests.renderers import renderer

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ASKED = 16
TOKENS = 32
PLAIN_VLLM = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
asked = json.load(sys.stdin)
options = {"enable_lora": True, "max_lora_rank": 16} if asked["lora"] else {}
model = LLM(asked["model"], dtype="float32", max_model_len=1024, enforce_eager=True, **options)
lora = LoRARequest("exported", 1, asked["lora"]) if asked["lora"] else None
params = SamplingParams(temperature=0.0, max_tokens=asked["tokens"], logprobs=0)
outputs = model.generate([{"prompt_token_ids": ids} for ids in asked["prompts"]], params, lora_request=lora)
found = []
for output in outputs:
    ids = list(output.outputs[0].token_ids)
    found.append((ids, [at[token].logprob for token, at in zip(ids, output.outputs[0].logprobs)]))
print("ANSWERS", json.dumps(found))
"""


@pytest.fixture(scope="module")
def run_dir(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run of one round that also answers its held-out prompts greedily."""
    folder = tmp_path_factory.mktemp("runs")
    finish(start(folder, "run.rounds=1", "evaluation.greedy=true", "evaluation.responses=1"))
    return RunDir(folder / "quickstart")


@pytest.fixture(scope="module")
def asked(run_dir: RunDir, demo_folder: Path) -> list[tuple[list[int], list[int]]]:
    """(prompt, the run's greedy answer) as token ids."""
    from rayalign.data.prompts import rows_from_records
    from rayalign.data.token_ids import tokenize_prompts
    from rayalign.demo import world
    from rayalign.learning.folders import load_tokenizer

    rows = run_dir.round(1).read_shard("greedy", 0)
    assert rows is not None and {row.sample.adapter_version for row in rows} == {1}
    found = {row.sample.prompt_id: row.sample.token_ids for row in rows[:ASKED]}
    records = rows_from_records(world.prompts(), "the demo world", "messages").rows
    rows_asked = [row for row in records if row.id in found]
    prompts, _ = tokenize_prompts(rows_asked, renderer(load_tokenizer(demo_folder)), 512)
    return [(prompt.token_ids, found[prompt.id]) for prompt in prompts]


def greedy(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    import torch

    answers = []
    for ids in prompts:
        made = model.eval().generate(
            input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
            max_new_tokens=TOKENS,
        )  # fmt: skip
        answers.append(made[0, len(ids) :].tolist())
    return answers


def vllm(model: Path, lora: Path | None, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy answers of vLLM in a process of its own, with nothing of rayalign in it."""
    return [answer for answer, _ in vllm_answers(model, lora, prompts)]


def vllm_answers(model: Path, lora: Path | None, prompts: list[list[int]]) -> list[tuple[list[int], list[float]]]:
    """The same, each with the log-probabilities of its tokens."""
    from rayalign.actors.process import QUIET_ENV

    content = {"model": str(model), "lora": lora and str(lora), "prompts": prompts, "tokens": TOKENS}
    environment = {**os.environ, **QUIET_ENV, "VLLM_CPU_KVCACHE_SPACE": "1",
                   "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_VLLM], input=json.dumps(content), capture_output=True, text=True, env=environment,
        timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.rpartition("ANSWERS")[2])


def test_adapter_and_merged_model_answer_as_in_the_run(
    run_dir: RunDir, asked: list[tuple[list[int], list[int]]], demo_folder: Path, tmp_path: Path
) -> None:
    """Sixteen greedy answers, token by token, by five ways; the base alone answers some of them otherwise."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    assert len(asked) == ASKED
    prompts, expected = [ids for ids, _ in asked], [answer for _, answer in asked]
    for options, name in (((), "adapter"), (("--merge",), "merged")):
        assert cli.exit_code(["export", str(run_dir.root), "--to", str(tmp_path / name), *options]) == 0
    base = AutoModelForCausalLM.from_pretrained(demo_folder, dtype="float32")
    assert greedy(base, prompts) != expected
    assert greedy(PeftModel.from_pretrained(base, str(tmp_path / "adapter")), prompts) == expected
    assert greedy(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="float32"), prompts) == expected
    assert vllm(demo_folder, tmp_path / "adapter", prompts) == expected
    assert vllm(tmp_path / "merged", None, prompts) == expected


def test_a_merged_model_is_the_only_one_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base lies beside its maker's own format, shards of an earlier save, an optimizer and an adapter. What vLLM
    answers from the merged folder is what base and adapter answer in PEFT, and the base itself answers otherwise."""
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    from rayalign.learning.folders import resolve_model
    from tests.tiny_run import make_base, make_saved_run

    monkeypatch.setenv("RAYALIGN_CACHE", str(tmp_path / "cache"))
    base = make_base(tmp_path / "base", context=1024, head_dim=32)
    weights = load_file(base / "model.safetensors")
    for name in ("consolidated", "optimizer", "adapter_model", "model-00001-of-00002"):
        save_file({key: torch.randn_like(value) for key, value in weights.items()}, base / f"{name}.safetensors")
    (base / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, "base_model_name_or_path": "x"}))
    (base / "params.json").write_text("{}")
    saved = make_saved_run(tmp_path / "run", base)
    for options, name in (((), "adapter"), (("--merge",), "merged")):
        assert cli.exit_code(["export", str(saved.root), "--to", str(tmp_path / name), *options]) == 0
    assert [path.name for path in (tmp_path / "merged").glob("*.safetensors*")] == ["model.safetensors"]
    assert not (tmp_path / "merged" / "params.json").exists()

    prompts = [[0, 3, 10 + i, 20 + i, 4] for i in range(ASKED)]
    own = resolve_model(str(base))
    plain = AutoModelForCausalLM.from_pretrained(own, dtype="float32")
    bare = greedy(plain, prompts)
    expected = greedy(PeftModel.from_pretrained(plain, str(tmp_path / "adapter")), prompts)
    assert bare != expected
    assert vllm(tmp_path / "merged", None, prompts) == expected
    assert vllm(own, None, prompts) == bare
