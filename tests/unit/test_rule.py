"""Rules in this process: a failed score is missing, never a number."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.rewards import RuleScoring
from rayalign.config.scoring import Scoring
from rayalign.demo.rules import demo_rule
from rayalign.errors import DataError
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.rules.file import RuleSource, compile_rule, read_rule
from rayalign.scoring.rules.scorer import RuleScorer
from rayalign.scoring.sources import SourceReaders, read_sources


def no_model(section: Scoring) -> tuple[Path, str]:
    raise AssertionError(f"the model of {section.name} was asked for")


def prompt(text: str = "List two animals.", **metadata: Any) -> Prompt:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return Prompt("p", messages, [1, 2], metadata=metadata)


def sample(text: str = "cat, dog.", index: int = 0) -> Sample:
    return Sample("p", index, text, [5], [-1.0], "stop", 0, 0)


def score_with(function: Callable[..., Any], prompt: Prompt = prompt(), sample: Sample = sample()) -> Score:  # noqa: B008
    (score,) = RuleScorer("rule:test", "v1", function).score([prompt], [sample])
    return score


def test_a_number_is_the_reward() -> None:
    score = score_with(lambda prompt, response: 0.25)
    assert (score.scorer, score.scorer_version, score.status, score.reward) == ("rule:test", "v1", "ok", 0.25)
    assert score.reason is None
    assert score.latency_s >= 0


def test_an_int_becomes_a_float_and_zero_is_a_reward() -> None:
    score = score_with(lambda prompt, response: 0)
    assert (score.status, score.reward) == ("ok", 0.0)
    assert type(score.reward) is float


def test_none_abstains() -> None:
    score = score_with(lambda prompt, response: None)
    assert (score.status, score.reward) == ("abstain", None)
    assert score.reason == "the rule returned None"


def test_an_exception_is_an_error_of_that_answer_alone() -> None:
    scorer = RuleScorer("rule:test", "v1", lambda prompt, response: 1 / len(response))
    first, second, third = scorer.score([prompt()] * 3, [sample("ab", 0), sample("", 1), sample("abcd", 2)])
    assert (first.reward, third.reward) == (0.5, 0.25)
    assert (second.status, second.reward) == ("error", None)
    assert second.reason == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("result", [math.nan, math.inf, -math.inf, True, False, "1.0", [1.0], 1j])
def test_what_is_no_finite_number_is_an_error(result: Any) -> None:
    score = score_with(lambda prompt, response: result)
    assert (score.status, score.reward) == ("error", None)
    assert score.reason is not None and repr(result) in score.reason


def test_the_rule_gets_the_last_message_and_the_answer() -> None:
    seen = []
    score_with(lambda *arguments: seen.append(arguments), prompt("Name a cat."), sample("Tom"))
    assert seen == [("Name a cat.", "Tom")]


def test_metadata_goes_only_to_who_asks() -> None:
    def asks(prompt: str, response: str, metadata: dict[str, Any]) -> float:
        return metadata["wanted"]

    def collects(prompt: str, response: str, **others: Any) -> float:
        return len(others)

    assert score_with(asks, prompt(wanted=0.75)).reward == 0.75
    assert score_with(lambda prompt, response: 0.5, prompt(wanted=0.75)).reward == 0.5
    assert score_with(collects, prompt(wanted=0.75)).reward == 0.0


def test_each_sample_meets_its_own_prompt() -> None:
    scorer = RuleScorer("rule:test", "v1", lambda prompt, response: float(prompt) * 10 + float(response))
    scores = scorer.score([prompt("1"), prompt("2")], [sample("3"), sample("4")])
    assert [score.reward for score in scores] == [13.0, 24.0]


@pytest.mark.parametrize(("prompts", "samples"), [(1, 2), (2, 1), (0, 1)])
def test_unequal_lengths_raise(prompts: int, samples: int) -> None:
    scorer = RuleScorer("rule:test", "v1", lambda prompt, response: 1.0)
    with pytest.raises(ValueError, match="zip"):
        scorer.score([prompt()] * prompts, [sample()] * samples)


def test_a_rule_file_is_read_and_run(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(
        "FULL = 2.0\n\n\ndef score(prompt, response):\n    return FULL if response else 0.0\n"
    )
    source = read_rule("my.py:score", tmp_path)
    assert source.function == "score"
    assert score_with(compile_rule(source), sample=sample("x")).reward == 2.0


def test_the_working_directory_comes_before_the_configs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("work", "configs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my.py").write_text(f"def score(prompt, response): return {len(folder)}\n")
    monkeypatch.chdir(tmp_path / "work")
    assert score_with(compile_rule(read_rule("my.py:score", tmp_path / "configs"))).reward == 4.0


FUTURE = "from __future__ import annotations\n"
DATACLASS = "from dataclasses import dataclass\n@dataclass\nclass Found:\n    words: int\n"


@pytest.mark.parametrize(
    "text",
    [
        "def score(prompt, response, metadata): return 1.0",
        "def score(prompt, response, metadata=None): return 1.0",
        "def score(prompt, response, *, strict=True): return 1.0",
        "def score(*texts): return 1.0",
        "class Rule:\n    def __call__(self, prompt, response): return 1.0\nscore = Rule()",
        DATACLASS + "def score(prompt, response): return float(Found(1).words)",
        FUTURE + "def score(prompt: Text, response: Text) -> float: return 1.0",
        FUTURE + DATACLASS + "def score(prompt, response): return float(Found(1).words)",
        FUTURE
        + DATACLASS
        + "import typing\ndef score(p, r): return float(typing.get_type_hints(Found)['words'] is int)",
        FUTURE + DATACLASS + "import pickle\ndef score(p, r): return float(pickle.loads(pickle.dumps(Found(1))).words)",
    ],
    ids=[
        "metadata",
        "optional-metadata",
        "keyword",
        "star",
        "object",
        "dataclass",
        "future",
        "future-dataclass",
        "hints-when-called",
        "pickle",
    ],
)
def test_shapes_of_rules_that_work(text: str) -> None:
    assert score_with(compile_rule(RuleSource("my.py", text, "score"))).reward == 1.0


def test_annotations_of_the_users_file_are_its_own() -> None:
    """The future import of `rules/scorer.py` must not reach the file, where annotations would become strings."""
    function = compile_rule(RuleSource("my.py", "def score(prompt: str, response: str) -> float: return 1.0", "score"))
    assert function.__annotations__ == {"prompt": str, "response": str, "return": float}


@pytest.mark.parametrize(
    ("text", "found", "why"),
    [
        ("def score(prompt, response)\n    return 1\n", "cannot be imported", "SyntaxError: expected ':'"),
        ("import no_such_package_of_mine\n", "cannot be imported", "ModuleNotFoundError: No module named 'no_such"),
        ("from math import no_such\n", "cannot be imported", "ImportError: cannot import name 'no_such'"),
        ("WORDS = undefined\n", "cannot be imported", "NameError: name 'undefined'"),
        ("import sys\nsys.exit(3)\n", "cannot be imported", "SystemExit: 3"),
        ("", "no function 'score'", "it defines no function"),
        ("def b(p, r): ...\ndef a(p, r): ...\n", "no function 'score'", "it defines a, b"),
        ("score = 3\n", "no function 'score'", "it defines no function"),
        ("def score(response): return 1\n", "does not take (prompt, response)", "too many positional arguments"),
        ("def score(prompt, response, strict): return 1\n", "does not take", "missing a required argument: 'strict'"),
        ("def score(metadata, response): return 1\n", "does not take", "multiple values for argument 'metadata'"),
        ("score = max\n", "does not take", "no signature found"),
        ("def score(response, prompt): return 1\n", "has 'response' where", "the prompt first and the response"),
        ("def score(completions, prompts): return 1\n", "has 'completions' where", "the prompt first"),
        ("def score(text, question): return 1\n", "has 'question' where", "the prompt first"),
        ("def score(prediction, ground_truth): return 1\n", "has 'prediction' where", "the prompt first"),
        ("def score(prompt, target): return 1\n", "has 'target' where", "the prompt first"),
        ("class S:\n  def __call__(self, Answer, Query): return 1\nscore = S()\n", "has 'Answer' where", "first"),
    ],
)
def test_a_bad_file_says_what_and_why_and_what_to_do(tmp_path: Path, text: str, found: str, why: str) -> None:
    path = tmp_path / "my.py"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_sources([RuleScoring(type="rule", function=f"{path}:score")], tmp_path, SourceReaders(no_model, demo_rule))
    assert caught.value.found.startswith("scoring.function: ")
    assert str(path) in caught.value.found
    assert found in caught.value.found
    assert why in caught.value.why
    assert caught.value.remedy


def test_a_missing_file_names_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        read_rule("rules/my.py:score", tmp_path / "configs")
    assert caught.value.found == "scoring.function: rules/my.py"
    assert caught.value.why == f"there is no such file: neither rules/my.py nor {tmp_path}/configs/rules/my.py"
    (tmp_path / "configs" / "rules" / "my.py").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        read_rule("rules/my.py:score", tmp_path / "configs")
    assert caught.value.why == f"{tmp_path}/configs/rules/my.py is no file"


@pytest.mark.parametrize("spec", ["my.py", "my:score", "score", "my.py:", "my.py:two words", ":score"])
def test_a_spec_of_another_form_is_refused(spec: str, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("def score(prompt, response): return 1\n")
    with pytest.raises(DataError) as caught:
        read_rule(spec, tmp_path)
    assert caught.value.found == f"scoring.function: {spec!r}"
    assert "my_file.py:function" in caught.value.why
    assert caught.value.remedy


def test_demo_has_no_file_and_order_is_kept(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("def score(prompt, response): return 1\n")
    sections = [RuleScoring(type="rule", function=name) for name in (f"{tmp_path}/my.py:score", "demo")]
    first, second = read_sources(sections, tmp_path, SourceReaders(no_model, demo_rule))
    assert first.rule is not None and first.rule.function == "score"
    assert first.version == first.rule.version
    assert second.rule is not None and (second.rule.function, second.rule.shipped) == ("score", True)
    assert second.version == "demo", "what a run of before the rule travelled compares"


def test_the_version_changes_with_text_and_function(tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    versions = []
    for text in ("def a(p, r): return 1\ndef b(p, r): return 1\n", "def a(p, r): return 2\ndef b(p, r): return 1\n"):
        path.write_text(text)
        versions += [read_rule(f"{path}:{name}", tmp_path).version for name in ("a", "b", "a")]
    assert versions[0] == versions[2] and versions[3] == versions[5]
    assert len(set(versions)) == 4
    assert versions[0] == RuleSource("other.py", "def a(p, r): return 1\ndef b(p, r): return 1\n", "a").version


def test_the_version_does_not_hang_on_where_the_file_lies() -> None:
    one, two = (RuleSource(path, "def a(p, r): return 1\n", "a").version for path in ("/here/my.py", "there.py"))
    assert one == two


def test_a_file_that_fails_leaves_no_module_behind() -> None:
    before = set(sys.modules)
    with pytest.raises(DataError):
        compile_rule(RuleSource("my.py", "1 / 0", "score"))
    assert set(sys.modules) == before


def test_an_exit_is_an_error_of_that_answer() -> None:
    def leaves(prompt: str, response: str) -> float:
        sys.exit(3)

    assert score_with(leaves).reason == "SystemExit: 3"
