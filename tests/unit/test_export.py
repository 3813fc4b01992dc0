"""Exported adapters and merged models, loaded with plain PEFT and transformers; what may be overwritten."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from rayalign import cli
from rayalign.commands.export import export
from rayalign.config.model import LoraSection, ModelSection
from rayalign.errors import ExportError, ModelError, RunFolderError
from rayalign.learning import export as merging
from rayalign.learning.model import build_policy
from rayalign.learning.packing import collate_padded
from rayalign.records import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from rayalign.store.folder import Folder
from rayalign.store.run_dir import RunDir
from tests.renderers import prompt_ids
from tests.tiny_run import make_base, make_saved_run

torch.set_num_threads(1)
IDS = torch.tensor([[0, 3, 7, 8, 4, 10, 20]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def saved(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make_saved_run(tmp_path_factory.mktemp("runs") / "tiny", base)


def run_export(run: RunDir, to: Path, **options: Any) -> list[str]:
    said: list[str] = []
    export(str(run.root), to, say=lambda text: said.extend(text.splitlines()), **options)
    return said


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS).logits[0]


def test_adapter_in_plain_peft_is_the_learners_policy(saved: RunDir, base: Path, tmp_path: Path) -> None:
    said = run_export(saved, tmp_path / "a")
    found = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "a"))
    policy = build_policy(base, ModelSection(base=str(base), lora=LoraSection(r=8, alpha=16))).eval()
    adapter = saved.round(1).adapter()
    assert adapter is not None and adapter.files is not None
    policy.load_adapter(adapter.files.files)
    with torch.no_grad():
        expected = policy(collate_padded([([0, 3, 7], [8, 4, 10, 20])]))
    logps = logits(found).log_softmax(-1)[2:6].gather(-1, IDS[0, 3:, None])[:, 0]
    torch.testing.assert_close(logps, expected, rtol=1e-4, atol=1e-4)
    assert float((logits(found) - logits(AutoModelForCausalLM.from_pretrained(base))).abs().max()) > 0.1
    config = json.loads((tmp_path / "a" / ADAPTER_CONFIG).read_text())
    assert config["base_model_name_or_path"] == str(base)
    assert list(config) == sorted(config)
    assert said[-1] == (
        f"serve it: vllm serve {base} --dtype float32 --enable-lora --max-lora-rank 8 "
        f"--lora-modules tiny-round-1={tmp_path / 'a'}"
    )


def test_same_export_from_an_object_store(base: Path, folder: Folder, saved: RunDir, tmp_path: Path) -> None:
    """On either storage the same weights, config and card (but for the name of the run and hash of its config)."""
    stored = make_saved_run(folder / "tiny", base)
    run_export(saved, tmp_path / "here")
    run_export(stored, tmp_path / "there")
    for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_card(saved: RunDir, base: Path, tmp_path: Path) -> None:
    run_export(saved, tmp_path / "a", round_index=1)
    _, front, text = (tmp_path / "a" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "peft",
        "pipeline_tag": "text-generation", "tags": ["rayalign", "lora", "nca"],
    }  # fmt: skip
    assert "| mean reward | 0.625 | [0.500, 0.750] | 32 |" in text
    record = json.loads((tmp_path / "a" / "export.json").read_text())
    assert record["adapter_sha256"] == record["files"][ADAPTER_WEIGHTS]
    assert all(digest in text for digest in (record["adapter_sha256"], record["base_model_sha256"]))
    assert "    vllm serve" in text and "PeftModel.from_pretrained" in text and "    objective:" in text


@pytest.mark.parametrize("merge", [False, True], ids=["adapter", "merged"])
def test_the_card_names_no_place_of_this_machine(merge: bool, base: Path, tmp_path: Path) -> None:
    """Of what lies in folders of the user's it says the names; a path that the user wrote short stays as it is."""
    changes = {
        "prompts": {"source": str(tmp_path / "mine" / "prompts.jsonl")},
        "scoring": [
            {"type": "rule", "function": f"{tmp_path}/rules/mine.py:score"},
            {"type": "rule", "function": "rules/other.py:score", "weight": 0},
        ],
    }
    run = make_saved_run(tmp_path / "runs" / "tiny", base, **changes)
    said = run_export(run, tmp_path / "e", merge=merge)
    card = (tmp_path / "e" / "README.md").read_text()
    assert str(tmp_path) not in card and str(base.parent) not in card and str(Path.home()) not in card
    assert f"for `{base.name}`" in card and f"base: {base.name}\n" in card
    assert "Prompts: `prompts.jsonl`" in card and "function: mine.py:score" in card and "rules/other.py:score" in card
    assert (f"`{base.name}` stands for the folder of the base model" in card) is not merge
    assert (f"vllm serve {base.name} --dtype" in card) is not merge
    assert merge or f"serve it: vllm serve {base} " in said[-1]


def test_the_card_counts_what_was_held_out(saved: RunDir, tmp_path: Path) -> None:
    """The config asks for 40 prompts; the run had six, with two answers each."""
    run_export(saved, tmp_path / "unknown")
    assert "up to 40 held out. The model's own 4 answers to each" in (tmp_path / "unknown" / "README.md").read_text()
    run = RunDir(shutil.copytree(saved.root.local_path(), tmp_path / "run"))
    row = (run.round(1).read_shard("train", 0) or [])[0]
    held = [dataclasses.replace(row.sample, prompt_id=str(one), index=index) for one in range(6) for index in range(2)]
    for shard, samples in enumerate((held[:8], held[8:])):
        run.round(0).commit_shard("evaluation", shard, [dataclasses.replace(row, sample=one) for one in samples])
    run_export(run, tmp_path / "known")
    assert "up to 40 a round, 6 held out." in (tmp_path / "known" / "README.md").read_text()


def test_the_card_of_an_offline_run(base: Path, tmp_path: Path) -> None:
    """It did not sample its answers itself."""
    samples = {"source": str(tmp_path / "pairs.jsonl"), "format": "preference"}
    sampling, objective = {"max_tokens": 64}, {"type": "dpo"}
    run = make_saved_run(tmp_path / "runs" / "off", base, samples=samples, sampling=sampling, objective=objective)
    run_export(run, tmp_path / "e")
    card = (tmp_path / "e" / "README.md").read_text()
    assert "the dataset `pairs.jsonl`. Evaluated by `rule`." in card and "rounds of training on a dataset" in card
    assert "The model's own" not in card


def test_merged_model_is_base_and_adapter(saved: RunDir, base: Path, tmp_path: Path) -> None:
    said = run_export(saved, tmp_path / "m", merge=True)
    run_export(saved, tmp_path / "a")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "a"))
    gap = float((logits(merged) - logits(adapted)).abs().max())
    assert 0 < gap <= 1e-4
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert tokenizer("w3 w4")["input_ids"] == [8, 9]
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(base).chat_template
    assert {path.name for path in base.iterdir()} | {"README.md", "export.json"} == set(files(tmp_path / "m"))
    assert "differ from those of base and adapter by at most" in said[0]
    assert said[-1] == f"serve it: vllm serve {tmp_path / 'm'} --dtype float32"
    assert "library_name: transformers" in (tmp_path / "m" / "README.md").read_text()


def test_merged_is_saved_in_the_bases_dtype_and_the_cast_is_measured(tmp_path: Path) -> None:
    """The weights are those of the float32 sum, rounded once."""
    base = make_base(tmp_path / "base", torch.bfloat16)
    said = run_export(make_saved_run(tmp_path / "runs" / "half", base), tmp_path / "m", merge=True)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype="auto")
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}
    exact = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    run_export(RunDir(tmp_path / "runs" / "half"), tmp_path / "a")
    summed = PeftModel.from_pretrained(exact, str(tmp_path / "a")).merge_and_unload()
    name = "model.layers.1.mlp.up_proj.weight"
    rounded = summed.state_dict()[name].to(torch.bfloat16)
    assert float((merged.state_dict()[name] == rounded).float().mean()) > 0.999
    gap = float(said[1].rpartition(" ")[2])
    assert "saved in bfloat16" in said[1]
    assert 1e-3 < gap < 10
    assert said[1] in (tmp_path / "m" / "README.md").read_text()


def test_merge_that_changes_logits_is_refused(saved: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = merging.plain_logits
    monkeypatch.setattr(merging, "plain_logits", lambda *a: [logits_TV + 2e-4 for logits_TV in real(*a)])
    with pytest.raises(ModelError, match=r"merged logits are up to 2\.\de-04 off(.|\n)*without --merge"):
        run_export(saved, tmp_path / "m", merge=True)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(merging, "plain_logits", lambda *a: [logits_TV * float("nan") for logits_TV in real(*a)])
    with pytest.raises(ModelError, match="nan"):
        run_export(saved, tmp_path / "m", merge=True)


@pytest.mark.parametrize(
    ("asked", "words"),
    [(0, "round 0 is the base model"), (7, "round 7 is not there(.|\n)*finished are 0-1(.|\n)*--round")],
)
def test_rounds_that_cannot_be_exported(
    saved: RunDir, tmp_path: Path, asked: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunFolderError, match=words):
        run_export(saved, tmp_path / "a", round_index=asked)
    assert cli.exit_code(["export", str(saved.root), "--round", str(asked), "--to", str(tmp_path / "a")]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_best_round_is_said_and_exported(saved: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["export", str(saved.root), "--round", "best", "--to", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("round 1 is best by mean reward on the held-out prompts (round 1: 0.625)\n")
    assert json.loads((tmp_path / "a" / "export.json").read_text())["round"] == 1


def test_unfinished_round_and_no_run(saved: RunDir, tmp_path: Path) -> None:
    run = RunDir(shutil.copytree(saved.root.local_path(), tmp_path / "run"))
    (run.round(1).root / "COMMIT.json").delete()
    with pytest.raises(RunFolderError, match="round 1 is not finished"):
        run_export(run, tmp_path / "a", round_index=1)
    with pytest.raises(RunFolderError, match="round 0 is the base model"):
        run_export(run, tmp_path / "a")
    with pytest.raises(RunFolderError, match="is not a run folder"):
        run_export(RunDir(tmp_path / "nothing"), tmp_path / "a")


def test_damaged_adapter_is_refused(saved: RunDir, tmp_path: Path) -> None:
    run = RunDir(shutil.copytree(saved.root.local_path(), tmp_path / "run"))
    weights = run.round(1).root.local_path() / "adapter" / ADAPTER_WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RunFolderError, match="the commit says"):
        run_export(run, tmp_path / "a")


def test_another_base_is_refused_and_a_moved_one_found(saved: RunDir, base: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(base, tmp_path / "moved"))
    run_export(saved, tmp_path / "a", base=str(moved))
    assert json.loads((tmp_path / "a" / ADAPTER_CONFIG).read_text())["base_model_name_or_path"] == str(moved)
    (moved / "config.json").write_text((moved / "config.json").read_text() + "\n")
    with pytest.raises(ModelError, match=r"the run trained on a model of checksum(.|\n)*--base"):
        run_export(saved, tmp_path / "b", base=str(moved))


def test_what_is_in_the_folder_already(saved: RunDir, tmp_path: Path) -> None:
    """Empty is taken, the same export is replaced, and everything else stays untouched."""
    target = tmp_path / "a"
    target.mkdir()
    run_export(saved, target)
    whole = files(target)
    (target / "README.md").unlink()
    run_export(saved, target)
    assert files(target) == whole
    with pytest.raises(ExportError, match=r"another export \(merged differ\)"):
        run_export(saved, target, merge=True)
    (target / "README.md").write_text("my own words")
    with pytest.raises(ExportError, match=r"README\.md were added or changed"):
        run_export(saved, target)
    (target / "README.md").write_bytes(whole["README.md"])
    (target / "notes.txt").write_text("x")
    with pytest.raises(ExportError, match=r"notes\.txt"):
        run_export(saved, target)
    assert files(target) == {**whole, "notes.txt": b"x"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    with pytest.raises(ExportError, match="holds no export"):
        run_export(saved, tmp_path / "other")
    with pytest.raises(ExportError, match="there is a file"):
        run_export(saved, tmp_path / "other" / "x")
    with pytest.raises(ExportError, match="cannot be written"):
        run_export(saved, tmp_path / "other" / "x" / "y")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "other"}


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "adapter"])
def test_the_template_that_was_trained_with_comes_along(merge: bool, base: Path, tmp_path: Path) -> None:
    """Loaded without rayalign, the export renders a conversation as the run did."""
    run = make_saved_run(tmp_path / "runs" / "named", base, prompts={"source": "demo", "template": "zephyr"})
    run_export(run, tmp_path / "e", merge=merge)
    found, own = AutoTokenizer.from_pretrained(tmp_path / "e"), AutoTokenizer.from_pretrained(base)
    asked = [{"role": "user", "content": "w3 w4"}]
    told = found.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    assert told == prompt_ids(asked, own, "zephyr") != prompt_ids(asked, own)
    assert "chat_template" not in json.loads((tmp_path / "e" / "tokenizer_config.json").read_text())
    card = (tmp_path / "e" / "README.md").read_text()
    assert "It was trained on the chat template `zephyr`, which the tokenizer here has." in card
    assert ("--tokenizer e --enable-lora" in card) is not merge


def test_an_end_that_the_base_does_not_know_comes_along(base: Path, tmp_path: Path) -> None:
    """The base stops at its EOS, its template ends an answer with another token: the merged model stops at both."""
    other = tmp_path / "base"
    shutil.copytree(base, other)
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} w7 {% endfor %}"
    tokenizer.save_pretrained(other)
    (w7,) = tokenizer("w7")["input_ids"]
    run = make_saved_run(tmp_path / "runs" / "ends", other)
    run_export(run, tmp_path / "m", merge=True)
    assert json.loads((tmp_path / "m" / "generation_config.json").read_text())["eos_token_id"] == [1, w7]
    said = run_export(run, tmp_path / "a")
    assert "answers end with w7" in said[0]


def test_no_template_is_said(base: Path, tmp_path: Path) -> None:
    run = make_saved_run(tmp_path / "runs" / "bare", base, prompts={"source": "demo", "template": "none"})
    assert "trained on bare text" in run_export(run, tmp_path / "a")[0]


@pytest.mark.parametrize(("largest", "allowed"), [(0.5, 1e-4), (3.0, 1e-4), (30.0, 9e-4), (2000.0, 6e-2)])
def test_what_rounding_may_do_grows_with_the_logits(largest: float, allowed: float) -> None:
    """A real model of 30 layers, with logits up to 30, differs by 1.1e-4 after a merge that is right."""
    logits = [torch.tensor([[0.1, -largest]]), torch.tensor([[0.2, 0.3]])]
    assert merging.allowed_difference(logits) == pytest.approx(allowed)
