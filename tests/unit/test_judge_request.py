"""`request` of a judge: what is sent then, what is refused, and which cached replies still count."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayalign.config.file import resolved_yaml, with_defaults
from rayalign.config.run import RunConfig
from rayalign.config.services import JudgeScoring
from rayalign.errors import ConfigError
from rayalign.scoring.judges.template_version import template_version
from rayalign.scoring.judges.templates import make_template
from rayalign.scoring.scorers import Scorers
from rayalign.scoring.sources import ScorerSource
from rayalign.store.changes import differences
from tests.http_server import Server, completion
from tests.unit.judge_cases import prompt, samples
from tests.unit.test_config_judges import HELD, RATING, load, version_of

OWN = ["max_tokens", "messages", "model", "response_format", "temperature"]


def sent(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """The body of the request about one answer."""
    with Server(lambda request: completion('{"reasons": "", "rating": 5}')) as server:
        config = load(tmp_path, {**RATING, "base_url": f"{server.url}/v1", **changes})
        scorers = Scorers(config.scorer_settings, [ScorerSource()])
        [row] = scorers.score([prompt()], samples(prompt(), "cat"))
        scorers.close()
    assert row.reward == 5.0
    [request] = server.requests
    return request.body


@pytest.mark.parametrize(
    ("changes", "keys", "values"),
    [
        ({}, OWN, {"max_tokens": 512, "temperature": 0.0}),
        ({"request": {}}, OWN, {"max_tokens": 512}),
        (
            {"request": {"max_tokens": None, "max_completion_tokens": 300, "temperature": None}},
            ["max_completion_tokens", "messages", "model", "response_format"],
            {"max_completion_tokens": 300},
        ),
        ({"request": {"reasoning_effort": "low"}}, [*OWN, "reasoning_effort"], {"reasoning_effort": "low"}),
        ({"request": {"response_format": {"type": "json_object"}}}, OWN, {"response_format": {"type": "json_object"}}),
        ({"request": {"response_format": None}}, sorted({*OWN} - {"response_format"}), {}),
        (
            {"request": {"chat_template_kwargs": {"enable_thinking": False, "deep": [{"x": None}]}}},
            [*OWN, "chat_template_kwargs"],
            {"chat_template_kwargs": {"enable_thinking": False, "deep": [{"x": None}]}},
        ),
        ({"request": {"logit_bias": {50256: -100}}}, [*OWN, "logit_bias"], {"logit_bias": {"50256": -100}}),
        ({"request": {"seed": 7, "n": 1}}, [*OWN, "seed", "n"], {"seed": 7, "n": 1}),
        ({"temperature": 0.5}, [*OWN, "seed"], {"temperature": 0.5}),
        ({"request": {"temperature": 1}}, [*OWN, "seed"], {"temperature": 1}),
        ({"temperature": 0.5, "request": {"temperature": 0}}, OWN, {"temperature": 0}),
        ({"temperature": 0.5, "request": {"temperature": None}}, sorted({*OWN} - {"temperature"}), {}),
        ({"temperature": 0.5, "request": {"seed": None}}, OWN, {"temperature": 0.5}),
        ({"request": {"stream": True}}, [*OWN, "stream"], {"stream": True}),
    ],
)
def test_what_is_sent(tmp_path: Path, changes: dict[str, Any], keys: list[str], values: dict[str, Any]) -> None:
    body = sent(tmp_path, **changes)
    assert sorted(body) == sorted(keys)
    assert {name: body[name] for name in values} == values


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"messages": []}, "scoring.0.request: messages cannot be set in request: the judge's template writes them"),
        ({"model": "x"}, "model cannot be set in request: set the judge's model"),
        ({"n": 4}, "n cannot be set in request: one reply counts"),
        ({"api_key": "hunter2"}, "name the environment variable that holds it in api_key_env"),
        ({"extra_body": {"top_k": 1}}, "extra_body cannot be set in request: write its keys into request itself"),
        ({"max_tokens": 0}, "max_tokens must be a whole number from 1 on, or null, which leaves it out"),
        ({"max_completion_tokens": "512"}, "max_completion_tokens must be a whole number from 1 on"),
        ({"temperature": "hot"}, "temperature must be a number from 0 on, or null"),
        ({"top_p": float("nan")}, "a request holds what JSON and UTF-8 can hold"),
        ({"stop": ["\ud800"]}, "a request holds what JSON and UTF-8 can hold"),
        (["max_tokens"], "it must be a section (keys and values)"),
        ({1: 2}, "it must be text"),
    ],
)
def test_what_cannot_be_sent_is_refused(tmp_path: Path, request_: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {**RATING, "request": request_})
    assert words in str(caught.value) and "1 mistake" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_judge_in_the_run_takes_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="transport: vllm takes no request"):
        load(tmp_path, {**HELD, "template": "rating", "request": {"top_k": 1}})


def test_without_request_the_version_is_what_it_was(tmp_path: Path) -> None:
    """The identity that versions had before there was `request`; what is cached under it counts."""
    identity = (
        '["http://127.0.0.1:9/v1", "org/judge-7b", {"temperature": 0.0, "max_tokens": 512, "structured": true}, 0]'
    )
    template = template_version(make_template("rating", None, reasons=True, structured=True))
    version = hashlib.sha256(f"{template}\n{identity}".encode()).hexdigest()[:16]
    same: list[dict[str, Any]] = [
        {},
        {"request": {}},
        {"request": {"max_tokens": 512, "temperature": 0, "seed": None, "stop": None}},
        {"request": {"user": "me", "stream": True, "stream_options": {"include_usage": True}, "logprobs": True}},
    ]
    assert {version_of(load(tmp_path, {**RATING, **change}), tmp_path) for change in same} == {version}


def test_what_can_change_a_reply_changes_the_version(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"max_tokens": None}, {"max_tokens": 9}, {"max_tokens": None, "max_completion_tokens": 512},
        {"temperature": None}, {"temperature": 1}, {"reasoning_effort": "low"}, {"response_format": None},
        {"response_format": {"type": "json_object"}}, {"seed": 1}, {"stop": ["\n"]},
    ]  # fmt: skip
    versions = [version_of(load(tmp_path, {**RATING, "request": change}), tmp_path) for change in changes]
    assert len(set(versions)) == len(versions)
    one, other = ({"request": {"stop": ["\n"], "seed": 1}}, {"request": {"seed": 1, "stop": ["\n"]}})
    assert version_of(load(tmp_path, RATING | one), tmp_path) == version_of(load(tmp_path, RATING | other), tmp_path)
    seeds = [{"temperature": 0.5}, {"temperature": 0.5, "request": {"seed": None}}]
    assert len({version_of(load(tmp_path, RATING | change), tmp_path) for change in seeds}) == 2


def test_a_saved_config_keeps_it_and_an_older_one_resumes(tmp_path: Path) -> None:
    request = {"max_tokens": None, "max_completion_tokens": 64, "logit_bias": {5: -1.5}}
    config = load(tmp_path, {**RATING, "request": request})
    assert RunConfig.model_validate(yaml.safe_load(resolved_yaml(config)), strict=True) == config
    older = load(tmp_path, RATING).to_dict()
    del older["scoring"][0]["request"]
    assert differences(with_defaults(older), load(tmp_path, RATING).to_dict()) == {}


@pytest.mark.parametrize(
    ("request_", "tokens"),
    [({}, 512), ({"max_completion_tokens": 64}, 64), ({"max_tokens": 9}, 9), ({"max_tokens": None}, 512)],
)
def test_the_longest_reply(tmp_path: Path, request_: dict[str, Any], tokens: int) -> None:
    [section] = load(tmp_path, {**RATING, "request": request_}).scoring
    assert isinstance(section, JudgeScoring) and section.reply_tokens == tokens
