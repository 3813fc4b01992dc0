"""What an offline run reads, from real files and the demo world, with the demo tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.run import RunConfig
from rayalign.data.judged import JudgedStreams
from rayalign.demo.language import build_tokenizer
from rayalign.errors import DataError
from rayalign.launch.offline import Offline, open_samples, read_offline
from rayalign.records import Prompt
from tests.fakes import make_config
from tests.renderers import renderer

TOKENIZER = build_tokenizer()
JUDGMENTS = Path(__file__).parents[3] / "shared" / "data" / "cut_judgments_iter1.json"


def config_of(source: Path | str, format: str = "auto", **changes: Any) -> RunConfig:
    samples = {"source": str(source), "format": format, **changes.pop("samples", {})}
    return make_config(**{"sampling": {}, "samples": samples, "scoring": [], "prompts": {"source": "demo"}, **changes})


def read(source: Path | str, format: str = "auto", **changes: Any) -> Offline:
    config = config_of(source, format, **changes)
    assert config.samples is not None
    return read_offline(config, open_samples(config.samples, Path()), renderer(TOKENIZER, given=True))


def read_prompts(found: Offline) -> list[Prompt]:
    return found.prompts.take(found.prompts.ids()[0])


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


PAIRS = [
    {"prompt": "List two animals.", "chosen": "cat, dog.", "rejected": "cat."},
    {"prompt": "List two animals.", "chosen": "fox, bear.", "rejected": "cat."},
    {"prompt": "Name a tool.", "chosen": "saw.", "rejected": "peach, plum, mango, grape, lemon, apple."},
]


def test_prompts_with_the_marks_of_a_template_are_counted(tmp_path: Path) -> None:
    marked = {"prompt": "<|im_start|>user\nName a fruit.<|im_end|>\n", "chosen": "plum.", "rejected": "saw."}
    found = read(written(tmp_path, [*PAIRS, marked]), objective={"type": "dpo"})
    assert len(found.prompts) == 2
    assert {reason: len(names) for reason, names in found.skipped.items()} == {
        "the prompt holds the marks of a chat template": 1
    }


def test_pairs_of_one_prompt_become_one_group(tmp_path: Path) -> None:
    """Rewards 1, 0, 1, 0 in the file's order."""
    found = read(written(tmp_path, PAIRS), objective={"type": "dpo"})
    prompts = read_prompts(found)
    assert [prompt.text for prompt in prompts] == ["List two animals.", "Name a tool."]
    rows = found.responses.rows(prompts[0])
    assert [(row.sample.index, row.sample.text, row.reward) for row in rows] == [
        (0, "cat, dog.", 1.0), (1, "cat.", 0.0), (2, "fox, bear.", 1.0), (3, "cat.", 0.0),
    ]  # fmt: skip
    assert {row.scores[0].scorer for row in rows} == {"dataset:preference"}


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    """Six words are more than 8 tokens; the prompt keeps its chosen answer."""
    found = read(written(tmp_path, PAIRS), objective={"type": "dpo"}, samples={"max_tokens": 8})
    (reason,) = found.skipped
    assert reason == "responses longer than samples.max_tokens = 8"
    _, tool = read_prompts(found)
    assert len(found.skipped[reason]) == 1 and tool.id in found.skipped[reason][0]
    assert [row.sample.text for row in found.responses.rows(tool)] == ["saw."]


def test_the_first_rows_metadata_and_the_first_target(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Name a tool.", "chosen": "saw.", "rejected": "cat.", "n": 1},
        {"prompt": "Name a tool.", "chosen": "axe.", "rejected": "cat.", "n": 2},
        {"prompt": "Name a tool.", "chosen": "axe.", "rejected": "cat.", "n": 2},
    ]
    found = read(written(tmp_path, rows), objective={"type": "dpo"})
    (prompt,) = read_prompts(found)
    assert prompt.metadata["n"] == 1 and found.responses.count(prompt) == 4
    assert "1 duplicate rows of samples.source left out" in found.notices


def test_prompts_without_a_response_that_fits_are_no_prompts(tmp_path: Path) -> None:
    long = {"prompt": "Name fruits.", "chosen": PAIRS[2]["rejected"], "rejected": f"{PAIRS[2]['rejected']} fig."}
    found = read(written(tmp_path, [long, *PAIRS]), objective={"type": "dpo"}, samples={"max_tokens": 8})
    assert [prompt.text for prompt in read_prompts(found)] == ["List two animals.", "Name a tool."]


def test_a_prompt_that_is_too_long_is_named_once(tmp_path: Path) -> None:
    wordy = [{**row, "prompt": "Name " + "a tool, " * 40} for row in PAIRS[:2]]
    found = read(
        written(tmp_path, [*wordy, *PAIRS]), objective={"type": "dpo"}, prompts={"source": "demo", "max_tokens": 64}
    )
    assert [prompt.text for prompt in read_prompts(found)] == ["List two animals.", "Name a tool."]
    (names,) = found.skipped.values()
    assert len(names) == 1 and "tokens" in names[0]


def test_a_dataset_without_what_is_learned_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl has no judgments"):
        read(written(tmp_path, PAIRS), objective={"type": "cut"})


def test_no_response_fits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 3 rows has a response") as caught:
        read(written(tmp_path, PAIRS), objective={"type": "dpo"}, samples={"max_tokens": 1})
    assert "responses longer than samples.max_tokens = 1: 6" in str(caught.value)


@pytest.mark.parametrize(
    ("format", "objective"), [("preference", "dpo"), ("ultrafeedback", "nca"), ("judgments", "cut")]
)
def test_the_demo_worlds_own_data(format: str, objective: str) -> None:
    found = read("demo", format, objective={"type": objective})
    assert len(found.prompts) == 2160 and not found.skipped


@pytest.mark.skipif(not JUDGMENTS.exists(), reason="shared/data/cut_judgments_iter1.json is not beside the project")
def test_real_judgments_hold_every_row_whole() -> None:
    """713 of 1,000 rows are without fault; no judgment of the others is cut; a response's ids are its own text's."""
    shipped = {"type": "cut", "template": "{instruction}\nJudgment: {judgment}", "judgment_max_tokens": 2048}
    limits = {"samples": {"max_tokens": 5120}, "objective": shipped}
    config = config_of(JUDGMENTS, "judgments", **limits)
    found = read(JUDGMENTS, "judgments", **limits)
    assert (len(found.prompts), len(found.responses), found.skipped) == (1000, 1000, {})
    assert found.responses.verdicts == {"perfect": 713, "flawed": 287}
    streams = JudgedStreams(config.objectives, renderer(TOKENIZER))
    flawed = 0
    for prompt in read_prompts(found):
        (row,) = found.responses.rows(prompt)
        assert TOKENIZER.decode(row.sample.token_ids[:-1]) == row.sample.text
        assert row.sample.token_ids[-1] == TOKENIZER.eos_token_id
        judgment = row.scores[0].judgment
        if judgment is not None:
            flawed += 1
            assert streams.cut(judgment) == judgment
    assert flawed == 287


def test_questions_in_a_field_of_their_own_are_prompts_of_their_own(tmp_path: Path) -> None:
    """Answers that begin alike to different questions are no answers to one prompt."""
    rows = [
        {"instruction": f"List {count} animals.", "input": "", "chosen": "cat, dog.", "rejected": "cat, saw."}
        for count in ("two", "three", "four")
    ]
    found = read(written(tmp_path, rows), objective={"type": "dpo"})
    prompts = read_prompts(found)
    assert [prompt.text for prompt in prompts] == [row["instruction"] for row in rows]
    assert [len(found.responses.rows(prompt)) for prompt in prompts] == [2, 2, 2]


def test_pairs_under_names_of_their_own(tmp_path: Path) -> None:
    rows = [{"q": row["prompt"], "good": row["chosen"], "bad": row["rejected"]} for row in PAIRS]
    source = written(tmp_path, rows)
    with pytest.raises(DataError, match="no known format") as caught:
        read(source, objective={"type": "dpo"})
    assert "samples.fields: {prompt: NAME, chosen: NAME, rejected: NAME}" in caught.value.remedy
    own = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    found = read(source, objective={"type": "dpo"}, samples={"fields": own})
    assert [prompt.text for prompt in read_prompts(found)] == ["List two animals.", "Name a tool."]
    assert len(found.responses) == 6


def test_scores_of_answers_that_are_not_there_are_named(tmp_path: Path) -> None:
    rows = [{"prompt": "Name a tool.", "A0": "saw.", "A1": "cat.", "score_A0": 1.0, "score_A1": 0.0, "score_A2": 3.0}]
    found = read(written(tmp_path, rows), objective={"type": "nca"})
    assert {reason: len(names) for reason, names in found.skipped.items()} == {"no field A2": 1}


def test_rows_without_responses_tell_how_they_were_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 1 rows has a response to train on") as caught:
        read(written(tmp_path, [{"prompt": "Name a tool.", "better": "saw.", "worse": "cat."}]))
    assert "they were read as prompts" in caught.value.why and "samples.fields" in caught.value.remedy
