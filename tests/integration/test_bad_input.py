"""What a stranger gets wrong: exit code 2, what was found, why, what to do, no traceback, and no Ray started."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rayalign.cli import exit_code

pytestmark = pytest.mark.integration
CONFIGS = Path(__file__).parents[2] / "configs"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def refused(capfd: pytest.CaptureFixture[str], tmp_path: Path, *settings: str, config: Path | None = None) -> str:
    """Run the quickstart with these settings; returns what was printed to stderr."""
    overrides = [f"run.dir={tmp_path / 'runs'}", *settings]
    arguments = [part for setting in overrides for part in ("--set", setting)]
    command = ["run", str(config or CONFIGS / "quickstart.yaml"), *arguments]
    assert exit_code([*command, "--dry-run"]) == 2
    dry = capfd.readouterr()
    assert exit_code(command) == 2
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err + captured.out + dry.out
    assert dry.err == captured.err
    assert not list(tmp_path.glob("runs/*/rounds/*/samples"))
    return captured.err


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/no"])
def test_run_dir_that_cannot_be_made(capfd, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    error = refused(capfd, tmp_path, f"run.dir={tmp_path / place}")
    assert "run.dir:" in error and "why:" in error and "remedy:" in error


def test_folder_with_foreign_files(capfd, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "quickstart"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    error = refused(capfd, tmp_path)
    assert "holds thesis.txt" in error and "remedy:" in error
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_base_that_is_a_classifier(capfd, tmp_path: Path) -> None:
    write(tmp_path / "config.json", json.dumps({"architectures": ["BertForSequenceClassification"]}))
    error = refused(capfd, tmp_path, f"model.base={tmp_path}")
    assert "BertForSequenceClassification" in error and "remedy:" in error


def test_all_prompts_too_long(capfd, demo_folder, tmp_path: Path) -> None:
    error = refused(capfd, tmp_path, "prompts.max_tokens=1")
    assert "prompts.max_tokens = 1: no prompt" in error and "remedy:" in error


def test_rows_with_only_text(capfd, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", '{"text": "Name animals."}\n{"text": "Name fruits."}\n')
    assert "prompts.field: text" in refused(capfd, tmp_path, f"prompts.source={file}")


def rows(count: int) -> list[str]:
    return [json.dumps({"prompt": f"Name {i} animals."}) for i in range(count)]


def test_misspelt_key(capfd, tmp_path: Path) -> None:
    assert "responses" in refused(capfd, tmp_path, "sampling.respones=4")


def test_negative_rounds(capfd, tmp_path: Path) -> None:
    error = refused(capfd, tmp_path, "run.rounds=-1")
    assert "run.rounds" in error and "-1" in error


def test_rank_that_vllm_cannot_serve(capfd, tmp_path: Path) -> None:
    error = refused(capfd, tmp_path, "model.lora.r=12")
    assert "12" in error and "16" in error


def test_missing_prompts_file(capfd, demo_folder, tmp_path: Path) -> None:
    error = refused(capfd, tmp_path, "prompts.source=no/such/prompts.jsonl")
    assert "no/such/prompts.jsonl" in error


def test_line_17_is_broken(capfd, demo_folder, tmp_path: Path) -> None:
    lines = rows(30)
    lines[16] = '{"prompt": "half'
    file = write(tmp_path / "prompts.jsonl", "\n".join(lines))
    error = refused(capfd, tmp_path, f"prompts.source={file}")
    assert "line 17" in error and "prompts.jsonl" in error


def test_empty_prompts(capfd, demo_folder, tmp_path: Path) -> None:
    file = write(tmp_path / "prompts.jsonl", '{"prompt": ""}\n{"prompt": "   "}\n')
    assert "prompts.jsonl" in refused(capfd, tmp_path, f"prompts.source={file}")


def test_unknown_model_folder(capfd, demo_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = refused(capfd, tmp_path, f"model.base={tmp_path}/no-model")
    assert "no-model" in error and "remedy" in error


def test_folder_without_a_model(capfd, demo_folder, tmp_path: Path) -> None:
    assert "config.json" in refused(capfd, tmp_path, f"model.base={tmp_path}")


def test_a_base_that_cannot_be_trained_starts_nothing(capfd, demo_folder, tmp_path: Path) -> None:
    """Two tokens that only the tokenizer has; then a target that vLLM does not serve."""
    from transformers import AutoTokenizer

    base = Path(shutil.copytree(demo_folder, tmp_path / "base"))
    error = refused(capfd, tmp_path, f"model.base={base}", "model.lora.targets=[q_proj, lm_head]")
    assert "model.lora.targets: lm_head" in error and "choose from down_proj" in error
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(base)
    error = refused(capfd, tmp_path, f"model.base={base}")
    assert "'<think>'" in error and "remedy: resize" in error
    assert not (tmp_path / "runs" / "quickstart" / "config.yaml").exists()


def test_context_too_short(capfd, demo_folder, tmp_path: Path) -> None:
    assert "context" in refused(capfd, tmp_path, "prompts.max_tokens=100000")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import no_such_module\n", "no_such_module"),
        ("def score(prompt response)\n", "SyntaxError"),
        ("def other(prompt, response):\n    return 1.0\n", "other"),
        ("def score(prompt):\n    return 1.0\n", "(prompt, response)"),
    ],
)
def test_rule_that_cannot_be_used(capfd, demo_folder, tmp_path: Path, text: str, expected: str) -> None:
    file = write(tmp_path / "rule.py", text)
    assert expected in refused(capfd, tmp_path, f"scoring.0.function={file}:score")


@pytest.mark.parametrize(
    ("result", "why"),
    [("len(response) > 3", "the rule returned True"), ("'good'", "the rule returned 'good'"), ("nothing", "NameError")],
)
def test_a_rule_that_never_gives_a_number(capfd, demo_folder, tmp_path: Path, result: str, why: str) -> None:
    """Said before Ray starts, and nothing is kept that a mended file would not fit."""
    rule = write(tmp_path / "rule.py", f"def score(prompt, response):\n    return {result}\n")
    error = refused(capfd, tmp_path, f"scoring=[{{type: rule, function: {rule}:score}}]")
    assert "rule:rule.py:score fails on each of" in error and why in error and "remedy" in error
    assert not list(tmp_path.glob("runs/*/config.yaml"))


def test_missing_rule_file(capfd, demo_folder, tmp_path: Path) -> None:
    assert "nowhere.py" in refused(capfd, tmp_path, "scoring.0.function=nowhere.py:score")


def test_run_folder_of_another_config(capfd, demo_folder, tmp_path: Path) -> None:
    from rayalign.config.file import load_config, redact
    from rayalign.store.run_dir import RunDir

    config = load_config(CONFIGS / "quickstart.yaml", [f"run.dir={tmp_path / 'runs'}"])
    run_dir = RunDir(tmp_path / "runs" / "quickstart")
    run_dir.open(redact(config.to_dict()))
    run_dir.round(0).commit("evaluation-00000", {})
    error = refused(capfd, tmp_path, "sampling.responses=2")
    assert "sampling.responses: 8 -> 2" in error and "--fork" in error


def test_mended_input_is_accepted_by_the_same_run_name(capfd, demo_folder, tmp_path: Path) -> None:
    """A run whose inputs could not be read leaves nothing that the mended config would not fit."""
    refused(capfd, tmp_path, "prompts.source=no/such/prompts.jsonl")
    assert not (tmp_path / "runs" / "quickstart" / "config.yaml").exists()


def begun(config: Path, tmp_path: Path, *settings: str) -> None:
    """A run folder as a first attempt leaves it that was stopped in round 0's evaluation."""
    from rayalign.config.file import load_config, redact
    from rayalign.launch.inputs import read_inputs
    from rayalign.launch.run import inputs_read
    from rayalign.launch.session import own_console
    from rayalign.store.run_dir import RunDir

    read = load_config(config, [f"run.dir={tmp_path / 'runs'}", *settings])
    folder = RunDir(tmp_path / "runs" / "quickstart")
    with own_console(tmp_path / "driver.log") as console:
        inputs = read_inputs(read, tmp_path, console, tmp_path, folder.date)
    folder.open(redact(read.to_dict()))
    folder.keep_inputs(inputs_read(inputs))
    folder.round(0).commit("evaluation-00000", {})


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("target", "prompt_targets, holdout_targets"),
        ("metadata", "prompt_metadata, holdout_metadata"),
        ("template", "prompt_tokens, holdout_tokens"),
        ("prompt", "prompt_targets, prompt_metadata, holdout_tokens, holdout_targets, holdout_metadata"),
    ],
)
def test_inputs_that_change_between_two_attempts(part, changed, capfd, demo_folder, tmp_path: Path) -> None:
    import shutil

    model = tmp_path / "model"
    shutil.copytree(demo_folder, model)
    made = [{"prompt": f"List {i} animals.", "target": "cat.", "metadata": {"answer": i, "n": 1}} for i in range(20)]
    source = write(tmp_path / "prompts.jsonl", "\n".join(map(json.dumps, made)))
    settings = [f"prompts.source={source}", f"model.base={model}"]
    begun(CONFIGS / "quickstart.yaml", tmp_path, *settings)
    match part:
        case "target":
            made = [{**row, "target": "dog."} for row in made]
        case "metadata":
            made = [{**row, "metadata": {"n": 1, "answer": -1}} for row in made]
        case "prompt":
            made = [{**row, "prompt": f"{row['prompt']}."} for row in made]
        case _:
            template = model / "chat_template.jinja"
            template.write_text(template.read_text().replace("{{ '<|' +", "list {{ '<|' +"))
    write(source, "\n".join(map(json.dumps, made)))
    error = refused(capfd, tmp_path, *settings)
    assert f"{changed} changed" in error and "--fork" in error
