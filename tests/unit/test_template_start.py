"""A chat template that cannot be used ends a run before an actor starts: exit 2, with what was found, why, a remedy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

from rayalign import cli
from rayalign.config.run import RunConfig
from rayalign.launch.inputs import read_inputs
from rayalign.rendering.template import UNDATED
from rayalign.tracking.console import Console
from tests.renderers import renderer
from tests.tiny_run import make_base

PLAIN = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} <eos> {% endfor %}"
HEADED = PLAIN + "{% if add_generation_prompt %}assistant {% endif %}"
THINKING = PLAIN + "{% if add_generation_prompt %}assistant <think> {% endif %}"
LATE = HEADED.replace("messages %}", "messages if m['role'] != 'system' %}", 1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def with_template(base: Path, folder: Path, template: Any) -> Path:
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def config_of(folder: Path, model: Path, row: dict[str, Any], **sections: Any) -> dict[str, Any]:
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(one) + "\n" for one in (row, {"prompt": "w1"}, {"prompt": "w2"})))
    (folder / "rule.py").write_text("def score(prompt, response, target=None, metadata=None):\n    return 1.0\n")
    return {
        "run": {"name": "t", "dir": str(folder / "runs"), "rounds": 1},
        "model": {"base": str(model)},
        "prompts": {"source": str(rows), "max_tokens": 16, "holdout": 1},
        "sampling": {"max_tokens": 8},
        "scoring": [{"type": "rule", "function": f"{folder}/rule.py:score"}],
        "objective": {"type": "nca"},
        **sections,
    }


SYSTEM = {"prompt": [{"role": "system", "content": "w9"}, {"role": "user", "content": "w3"}]}


@pytest.mark.parametrize(
    ("template", "row", "words"),
    [
        ({"a": HEADED, "b": HEADED}, {"prompt": "w3"}, "has the chat templates a, b, and none is named default"),
        (HEADED.replace("m['content']", "''"), {"prompt": "w3"}, "the content of the user message does not come out"),
        (PLAIN + "{% if add_generation_prompt %}w7 {% endif %}", {"prompt": "w3"}, "behind its generation prompt"),
        (LATE, SYSTEM, "has the roles system, user"),
    ],
)
def test_a_run_ends_with_exit_2(
    template: Any, row: dict[str, Any], words: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, with_template(base, tmp_path / "model", template), row)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    assert cli.exit_code(["run", str(tmp_path / "run.yaml")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said and "remedy" in said


def test_online_targets_behind_an_opened_thought_are_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = with_template(base, tmp_path / "model", THINKING)
    objective = {"type": "spin"}
    config = config_of(tmp_path, model, {"prompt": "w3", "output": "w4"}, objective=objective)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    assert cli.exit_code(["run", str(tmp_path / "run.yaml")]) == 2
    assert "opens <think> where the model answers" in " ".join(capsys.readouterr().err.split())


def test_a_datasets_answers_stand_where_the_template_puts_them_and_held_out_prompts_are_sampled_from(
    base: Path, tmp_path: Path
) -> None:
    """The template opens a thought where the model answers, and not before an answer that is given."""
    model = with_template(base, tmp_path / "model", THINKING)
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"w{i}", "chosen": f"w{i} w4", "rejected": "w5"} for i in range(8, 16)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"source": str(pairs), "max_tokens": 16, "holdout": 2}
    section = {"samples": {"source": str(pairs)}, "prompts": source, "scoring": [], "objective": {"type": "dpo"}}
    config = RunConfig.model_validate(config_of(tmp_path, model, {"prompt": "w3"}, **section))
    with (tmp_path / "console").open("w") as out:
        inputs = read_inputs(config, tmp_path, Console(out), tmp_path, UNDATED)
    tokenizer = AutoTokenizer.from_pretrained(model)
    (first, *_) = inputs.prompts.take(inputs.train_ids_N)
    assert inputs.responses is not None
    answer = inputs.responses.rows(first)[0].sample.token_ids
    said = [*first.messages, {"role": "assistant", "content": inputs.responses.rows(first)[0].sample.text}]
    assert [*first.token_ids, *answer] == tokenizer.apply_chat_template(said, return_dict=False)
    held = inputs.holdout[0]
    assert held.token_ids == renderer(tokenizer).prompt(held.messages, "p") != first.token_ids
    assert tokenizer.decode(held.token_ids).endswith("assistant <unk>")
