"""Scorers tried before a run samples: what can never give a score is refused, what can is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rayalign.actors.scorer import ScorerActor
from rayalign.config.rewards import UnitTestScoring
from rayalign.demo.rules import demo_rule
from rayalign.errors import ConfigError
from rayalign.records import Prompt, Sample, Score
from rayalign.scoring.sources import SourceReaders, read_sources
from rayalign.scoring.trial import CANNED, FEW, MOST_PROMPTS, some_prompts, try_backend, try_rules
from tests.fakes import make_config

PROMPTS = [
    Prompt(f"p{i}", [{"role": "user", "content": f"How many? {i}"}], [1], target, {"answer": i} if i else {})
    for i, target in enumerate([None, "It is 1.", None])
]


def no_model(section: Any) -> Any:
    raise AssertionError(section)


def try_rule(folder: Path, body: str, **more: Any) -> None:
    (folder / "rule.py").write_text(f"import asyncio, json, os, re, time\nFOLDER = {str(folder)!r}\n{body}\n")
    config = make_config(scoring=[{"type": "rule", "function": f"{folder}/rule.py:score", **more}])
    sources = read_sources(config.scoring, folder, SourceReaders(no_model, demo_rule))
    try_rules(config.scorer_settings, sources, PROMPTS, 1.0)


ONE = "def score(prompt, response): "
BATCH = "def score(prompts, responses): "
PLAIN: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("body", "more", "why"),
    [
        (ONE + "return '7' in response", PLAIN, r"the rule returned (True|False), which is not a finite number"),
        (ONE + "return None if response == '7' else response > 'x'", PLAIN, "the rule returned False"),
        (ONE + "return 'good'", PLAIN, "the rule returned 'good', which is not a finite number"),
        (ONE + "return float('nan')", PLAIN, "the rule returned nan"),
        (ONE + "return 10 ** 400", PLAIN, "which is not a finite number"),
        (ONE + "return {'score': 1.0}", PLAIN, "the rule returned {'score': 1.0}"),
        (ONE + "return response.lenght", PLAIN, "AttributeError: 'str' object has no attribute 'lenght'"),
        ("def score(prompt, response, metadata): return metadata['gold']", PLAIN, "KeyError: 'gold'"),
        (ONE + "open('/no/such/file')", PLAIN, "FileNotFoundError"),
        (ONE + "raise SystemExit(2)", PLAIN, "SystemExit: 2"),
        (ONE + "os._exit(3)", PLAIN, "the rule's process ended with exit status 3"),
        ("def score(prompt, response):\n while True: pass", PLAIN, "the rule took longer than timeout_s = 0.2"),
        ("async def score(prompt, response): return 'good'", PLAIN, "the rule returned 'good'"),
        (BATCH + "return 1.0", {"batch": True}, "the rule returned a float for a batch of 4, not a list"),
        (BATCH + "return [1.0]", {"batch": True}, "the rule returned 1 scores for a batch of 4"),
        (BATCH + "return [True] * len(prompts)", {"batch": True}, "the rule returned True"),
        (ONE + "return 1.0 / len(response)", {"batch": True}, "the rule returned a float"),
        ("def score(prompt, response): return [1.0]", PLAIN, r"the rule returned \[1.0\]"),
    ],
)
def test_a_rule_that_can_never_give_a_reward_is_refused(tmp_path: Path, body: str, more: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        try_rule(tmp_path, body, **{"timeout_s": 0.2, **more} if "while" in body else more)
    assert "scoring: rule:rule.py:score fails on each of" in caught.value.found
    assert "None where it cannot say; nothing has been sampled" in caught.value.remedy
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (ONE + "return 0", PLAIN),
        (ONE + "return None", PLAIN),
        (ONE + "return float(response)", PLAIN),
        (ONE + "return json.loads(response)['answer']", PLAIN),
        (ONE + "return float(re.search(r'<answer>(.*?)</answer>', response).group(1))", PLAIN),
        (ONE + "return float(re.search(r'```python\\n(.*?)```', response, re.S).group(1).count('='))", PLAIN),
        (ONE + "return float(response.split('</think>')[1].count('7'))", PLAIN),
        (ONE + "return None if len(response) > 1 else 1.0", PLAIN),
        (ONE + "return float(re.fullmatch(r'It is (.)\\.', response).group(1))", PLAIN),
        ("def score(prompt, response, metadata): return float(metadata['answer'])", PLAIN),
        ("async def score(prompt, response): return 1.0", PLAIN),
        (BATCH + "return [1.0 / (len(r) - 1) for r in responses]", {"batch": True}),
        (ONE + "return 1.0", {"timeout_s": 5.0}),
    ],
)
def test_a_rule_that_can_give_one_is_not(tmp_path: Path, body: str, more: Any) -> None:
    """Also one that takes answers of one form alone, metadata that not all prompts have, or the target's form."""
    try_rule(tmp_path, body, **more)


@pytest.mark.parametrize(("result", "asked"), [("1.0", 1), ("None", 4), ("1.0 if prompt > 'How many? 0' else ''", 5)])
def test_a_rule_is_asked_until_it_gives_a_score(tmp_path: Path, result: str, asked: int) -> None:
    """One that abstains is asked about all answers to one prompt."""
    try_rule(tmp_path, ONE + f"open(FOLDER + '/asked', 'a').write(prompt + '\\n'); return {result}")
    lines = (tmp_path / "asked").read_text().splitlines()
    assert lines == [*["How many? 0"] * min(asked, len(CANNED)), *["How many? 1"] * (asked - len(CANNED))]


def test_a_rule_that_hangs_is_not_waited_for_on_every_answer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fails on each of 2 canned answers"):
        try_rule(tmp_path, ONE + "time.sleep(60)", timeout_s=0.2)


def test_rules_of_our_own_and_other_scorers_need_no_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("rayalign.scoring.trial.IsolatedRuleScorer", no_model)
    config = make_config(scoring=[{"type": "rule", "function": "demo"}, {"type": "answer"}])
    sources = read_sources(config.scoring, tmp_path, SourceReaders(no_model, demo_rule))
    try_rules(config.scorer_settings, sources, PROMPTS, 1.0)


class Told:
    """A backend that gives what it is told of each answer."""

    name, version = "unit_test:tests", "1"

    def __init__(self, give: Callable[[Prompt, str], Score]) -> None:
        self.give = give
        self.asked: list[tuple[str, str]] = []

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        self.asked += [(sample.prompt_id, sample.text) for sample in samples]
        return [self.give(prompt, sample.text) for prompt, sample in zip(prompts, samples, strict=True)]

    def close(self) -> None: ...


def test_the_next_prompt_is_tried_where_a_scorer_failed_on_all_answers_to_one() -> None:
    failed = Score("unit_test:tests", "1", "error", reason="tests must be a text or a list of texts")
    backend = Told(lambda prompt, text: failed if prompt.id != "p2" else Score("unit_test:tests", "1", "abstain"))
    section = UnitTestScoring(type="unit_test")
    try_backend(section, backend, PROMPTS, FEW)
    assert [name for name, _ in backend.asked] == ["p0"] * 2 + ["p1"] * 3 + ["p2"] * 2
    assert backend.asked[4] == ("p1", "It is 1."), "the target is an answer too"
    with pytest.raises(ConfigError, match="each of 5 canned answers") as caught:
        try_backend(section, backend, PROMPTS[:2], FEW)
    assert caught.value.why == failed.reason


def test_prompts_are_taken_evenly() -> None:
    prompts = [Prompt(str(i), [], []) for i in range(100)]
    assert [prompt.id for prompt in some_prompts(prompts)] == ["0", "25", "50", "75"]
    assert len(some_prompts(prompts[:3])) == 3 < MOST_PROMPTS and some_prompts([]) == []


def test_an_actor_tries_what_was_not_tried_on_the_driver(tmp_path: Path) -> None:
    """Tests that assert nothing are found in the actor; a rule there is not asked again."""
    (tmp_path / "rule.py").write_text("def score(prompt, response): raise AssertionError('asked twice')\n")
    scoring = [
        {"type": "rule", "function": f"{tmp_path}/rule.py:score"},
        {"type": "unit_test", "network": "host", "timeout_s": 120},
    ]
    config = make_config(scoring=scoring)
    sources = read_sources(config.scoring, tmp_path, SourceReaders(no_model, demo_rule))
    actor = ScorerActor("scorer-0", config, sources, [None] * len(sources), str(tmp_path / "no_such_folder"))
    try:
        for tests, why in ((["assert True"], None), (["f(1) == 2"], "test 1 compares without assert"), ([], None)):
            prompts = [Prompt("p", [{"role": "user", "content": "Write f."}], [1], metadata={"tests": tests})]
            if why is None:
                actor.try_out(prompts)
                continue
            with pytest.raises(ConfigError, match="scoring: unit_test:tests fails on each of 2") as caught:
                actor.try_out(prompts)
            assert caught.value.why == why
    finally:
        actor.close()
