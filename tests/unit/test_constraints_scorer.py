"""Constraints of prompts: as a scorer rewards them, as a benchmark counts them, and as a run checks them first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.rewards import ConstraintsScoring
from rayalign.config.scoring import ScorerSettings
from rayalign.data.prompts import PromptRow, load_prompt_rows, rows_from_records
from rayalign.errors import DataError
from rayalign.evaluation.benchmarks.instructions import CheckedAnswer, check_answers, instruction_metrics
from rayalign.launch.constraints import check_constraints, with_constraints
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.constraints import ConstraintsScorer
from rayalign.scoring.scorers import Scorers
from rayalign.scoring.sources import ScorerSource
from tests.fakes import make_config

BRIEF = [{"kind": "words", "at_most": 3}, {"kind": "no_commas"}, {"kind": "ends_with", "phrase": "."}]
IFEVAL = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"num_words": None}]}
SCORING = [{"type": "constraints"}]


def prompt(identity: str = "p", **metadata: Any) -> Prompt:
    return Prompt(identity, [{"role": "user", "content": "Name a fish."}], [1], metadata=metadata)


def score(one: Prompt, text: str, **settings: Any) -> Score:
    scorer = ConstraintsScorer(ConstraintsScoring(type="constraints", **settings))
    (found,) = scorer.score([one], [Sample(one.id, 0, text, [], [], "stop", 0, 0)])
    scorer.close()
    return found


@pytest.mark.parametrize(
    ("text", "share", "every", "loose"),
    [
        ("A cod.", 1.0, 1.0, 1.0),
        ("A cod, perhaps", 1 / 3, 0.0, 1 / 3),
        ("A very large cod.", 2 / 3, 0.0, 2 / 3),
        ("Sure, here:\nA cod.", 1 / 3, 0.0, 1.0),
        ("<think>a, b, c, d</think>A cod.", 1.0, 1.0, 1.0),
        ("", 0.0, 0.0, 0.0),
    ],
)
def test_the_reward_is_the_share_that_is_kept(text: str, share: float, every: float, loose: float) -> None:
    one = prompt(constraints=BRIEF)
    assert score(one, text).reward == pytest.approx(share)
    assert score(one, text, all=True).reward == every
    assert score(one, text, loose=True).reward == pytest.approx(loose)


def test_aspects_say_what_was_broken() -> None:
    found = score(prompt(constraints=[*BRIEF, {"kind": "words", "exactly": 1}]), "Cod, a very large one.")
    assert found.aspects == {"constraints": 4.0, "broken/no_commas": 1.0, "broken/words": 2.0}


def test_a_prompt_without_constraints_abstains_and_a_bad_one_fails() -> None:
    assert score(prompt(answer="7"), "7").status == "abstain"
    bad = score(prompt(constraints=[{"kind": "wordz"}]), "7")
    assert (bad.status, bad.reward) == ("error", None) and "constraints.0.kind is 'wordz'" in (bad.reason or "")


def test_another_field_and_ifevals_own() -> None:
    one = prompt(rules=BRIEF, **IFEVAL)
    assert score(one, "A cod, a ling, an eel", field="rules").reward == 0.0
    assert score(one, "A cod and a ling or an eel", field="rules").reward == 0.5
    assert score(one, "A cod and a ling or an eel").reward == 1.0


def test_the_version_hangs_on_the_settings() -> None:
    settings: list[dict[str, Any]] = [{}, {"field": "rules"}, {"all": True}, {"loose": True}]
    assert len({ConstraintsScorer(ConstraintsScoring(type="constraints", **one)).version for one in settings}) == 4


def test_it_is_wired() -> None:
    config = make_config(scoring=SCORING)
    settings = ScorerSettings(config.scoring, config.combine, 0)
    scorers = Scorers(settings, [ScorerSource()])
    one = prompt(constraints=BRIEF)
    (row,) = scorers.score([one], [Sample("p", 0, "A cod.", [], [], "stop", 0, 0)])
    scorers.close()
    assert row.reward == 1.0 and list(scorers.versions) == ["constraints:constraints"]


def rows_of(tmp_path: Path, *records: dict[str, Any]) -> Iterator[PromptRow]:
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(f"{json.dumps({'prompt': f'Name fish {i}.', **one})}\n" for i, one in enumerate(records)))
    config = make_config(scoring=SCORING, prompts={"source": str(source)})
    return with_constraints(config, load_prompt_rows(str(source))).rows


def test_a_row_whose_constraints_are_not_understood_is_named(tmp_path: Path) -> None:
    bad = {"constraints": [{"kind": "words", "most": 3}]}
    with pytest.raises(DataError) as caught:
        list(rows_of(tmp_path, {"constraints": BRIEF}, {}, bad))
    assert caught.value.found == f"{tmp_path}/prompts.jsonl, line 3: constraints.0.most"
    assert "did you mean at_most?" in caught.value.remedy and caught.value.exit_code == 2


def test_rows_of_ifevals_form_are_read_as_they_are(tmp_path: Path) -> None:
    rows = list(rows_of(tmp_path, {"key": 1, **IFEVAL}, {"key": 2}))
    assert [row.messages[0]["content"] for row in rows] == ["Name fish 0.", "Name fish 1."]
    assert rows[0].metadata == {"key": 1, **IFEVAL}


def test_a_scorer_without_anything_to_check_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="constraints:constraints works with constraints, and no prompt has one"):
        list(rows_of(tmp_path, {"note": "a"}, {"note": "b"}))
    with pytest.raises(DataError, match="no prompt has one"):
        check_constraints(make_config(scoring=SCORING), [prompt()])


def test_held_out_prompts_of_a_dataset_are_named_by_their_id() -> None:
    check_constraints(make_config(scoring=SCORING), [prompt(), prompt("q", **IFEVAL)])
    with pytest.raises(DataError, match=r"prompt q: instruction_id_list\.0: the instruction 'no_comma'"):
        check_constraints(make_config(scoring=SCORING), [prompt("q", instruction_id_list=["no_comma"])])


def test_without_such_a_scorer_nothing_is_looked_at() -> None:
    rows = rows_from_records([{"prompt": "Hi", "constraints": {"count": 3}}], "here")
    (row,) = with_constraints(make_config(), rows).rows
    assert (row.metadata, row.where) == ({"constraints": {"count": 3}}, "here, row 1")
    check_constraints(make_config(), [prompt(constraints=7)])


def test_answers_are_checked_strictly_and_loosely() -> None:
    prompts = [prompt("a", constraints=BRIEF), prompt("b", **IFEVAL), prompt("c")]
    answers = {"a": ["A cod.", "Sure, here:\nA cod."], "b": ["Cod, ling", "<think>,</think>Cod"], "c": ["Cod"]}
    kinds = ("words", "no_commas", "ends_with")
    assert check_answers(prompts, answers) == [
        CheckedAnswer("a", 0, kinds, (True, True, True), (True, True, True)),
        CheckedAnswer("a", 1, kinds, (False, False, True), (True, True, True)),
        CheckedAnswer("b", 0, ("no_commas",), (False,), (False,)),
        CheckedAnswer("b", 1, ("no_commas",), (True,), (True,)),
    ]


def test_accuracies_by_prompt_and_by_instruction() -> None:
    """By hand: of four answers two keep all strictly and three loosely; of 8 constraints 5 and 7."""
    prompts = [prompt("a", constraints=BRIEF), prompt("b", **IFEVAL)]
    answers = {"a": ["A cod.", "Sure, here:\nA cod."], "b": ["Cod, ling", "Cod"]}
    metrics = instruction_metrics(check_answers(prompts, answers), seed=0)
    assert {name: (metric.value, metric.n) for name, metric in metrics.items()} == {
        "instruction_loose": (7 / 8, 8),
        "instruction_strict": (5 / 8, 8),
        "prompt_loose": (3 / 4, 4),
        "prompt_strict": (2 / 4, 4),
        "instruction_loose/ends_with": (1.0, 2),
        "instruction_loose/no_commas": (3 / 4, 4),
        "instruction_loose/words": (1.0, 2),
        "instruction_strict/ends_with": (1.0, 2),
        "instruction_strict/no_commas": (2 / 4, 4),
        "instruction_strict/words": (1 / 2, 2),
    }
    # Only two prompts: a resample is one twice (2/3 strictly of a, or 1/2 of b) or both.
    assert metrics["instruction_strict"].ci95 == (1 / 2, 4 / 6)
    assert instruction_metrics([], seed=0) == {}


def test_a_row_tells_what_was_kept() -> None:
    (one,) = check_answers([prompt("b", **IFEVAL)], {"b": ["Cod, ling"]})
    kept = [{"kind": "no_commas", "strict": False, "loose": False}]
    assert json.loads(json.dumps(one.to_row())) == {"prompt_id": "b", "index": 0, "constraints": kept}
