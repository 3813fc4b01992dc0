"""What a stranger gets wrong: exit code 2, what was found, why, what to do, no traceback, and no Ray started."""

from __future__ import annotations

import json
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
    assert exit_code(["run", str(config or CONFIGS / "quickstart.yaml"), *arguments]) == 2
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err + captured.out
    assert not list(tmp_path.glob("runs/*/rounds"))
    return captured.err


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
    RunDir(tmp_path / "runs" / "quickstart").open(redact(config.to_dict()))
    error = refused(capfd, tmp_path, "sampling.responses=2")
    assert "sampling.responses: 8 -> 2" in error and "--fork" in error


def test_mended_input_is_accepted_by_the_same_run_name(capfd, demo_folder, tmp_path: Path) -> None:
    """A run whose inputs could not be read leaves nothing that the mended config would not fit."""
    refused(capfd, tmp_path, "prompts.source=no/such/prompts.jsonl")
    assert not (tmp_path / "runs" / "quickstart" / "config.yaml").exists()
