"""Config sections of judges and remote scorers, their rubrics, and the scorers made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rayalign.config.file import load_config, resolved_yaml
from rayalign.config.run import RunConfig
from rayalign.config.scoring import Scoring
from rayalign.config.services import JudgeScoring
from rayalign.demo.rules import demo_rule
from rayalign.errors import ConfigError, DataError, ModelError
from rayalign.rendering.template import UNDATED
from rayalign.scoring.judges.llm_judge import LLMJudge
from rayalign.scoring.service_scorers import build_service, calls_a_service, check_services
from rayalign.scoring.services.remote import RemoteScorer
from rayalign.scoring.sources import ScorerSource, SourceReaders, read_sources
from tests.http_server import Respond, Server, completion

RULE = {"type": "rule", "function": "demo"}
DEMO = {"type": "judge", "transport": "demo"}
JUDGE = {"type": "judge", "transport": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "org/judge-7b"}
HELD = {"type": "judge", "transport": "vllm", "model": "models/judge-7b/"}
RATING = {**JUDGE, "template": "rating"}
REMOTE = {"type": "remote", "url": "http://127.0.0.1:9/score"}


def write(tmp_path: Path, *scoring: dict[str, Any], **sections: Any) -> Path:
    path = tmp_path / "run.yaml"
    data = {"model": {"base": "demo"}, "prompts": {"source": "demo"}, "objective": {"type": "nca"}, **sections}
    path.write_text(yaml.safe_dump({**data, "scoring": list(scoring)}))
    return path


def sources_of(config: RunConfig, folder: Path) -> list[ScorerSource]:
    def no_model(section: Scoring) -> tuple[Path, str]:
        raise AssertionError(f"the model of {section.name} was asked for")

    return read_sources(config.scoring, folder, SourceReaders(no_model, demo_rule))


def load(tmp_path: Path, *scoring: dict[str, Any], **sections: Any) -> RunConfig:
    return load_config(write(tmp_path, *scoring, **sections))


@pytest.mark.parametrize(
    ("section", "name", "weight", "network"),
    [
        (DEMO, "judge:demo", 0, False),
        (JUDGE, "judge:cut:judge-7b", 0, True),
        (RATING, "judge:rating:judge-7b", 1, True),
        ({**JUDGE, "template": "pairwise", "weight": 0.5}, "judge:pairwise:judge-7b", 0.5, True),
        (HELD, "judge:cut:judge-7b", 0, False),
        ({**HELD, "template": "rating"}, "judge:rating:judge-7b", 1, False),
        (REMOTE, "remote:127.0.0.1:9/score", 1, True),
    ],
)
def test_names_and_weights(tmp_path: Path, section: dict[str, Any], name: str, weight: float, network: bool) -> None:
    config = load(tmp_path, RULE, section)
    made = config.scoring[1]
    assert (made.name, made.weight, calls_a_service(made)) == (name, weight, network)
    assert RunConfig.model_validate(yaml.safe_load(resolved_yaml(config))) == config


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({**DEMO, "model": "x"}, "transport: demo takes no model: remove it, or set transport: openai"),
        ({**DEMO, "weight": 1.0}, "transport: demo takes no weight"),
        ({**JUDGE, "transport": "vllm"}, "transport: vllm takes no base_url: remove it, or set transport: openai"),
        ({**HELD, "api_key_env": "KEY"}, "transport: vllm takes no api_key_env"),
        ({**HELD, "model": None}, "transport: vllm needs model"),
        ({**JUDGE, "context": 512}, "transport: openai takes no context: remove it, or set transport: vllm"),
        ({**HELD, "template": "cut", "weight": 1.0}, "template: cut gives judgments and no reward"),
        ({**JUDGE, "model": None}, "transport: openai needs model"),
        ({**JUDGE, "base_url": None}, "transport: openai needs base_url, for example http://127.0.0.1:8000/v1"),
        ({**JUDGE, "weight": 1.0}, "template: cut gives judgments and no reward: set weight: 0, or template: rating"),
        ({**DEMO, "calibration": "rank"}, "transport: demo takes no calibration"),
        ({**JUDGE, "calibration": "rank"}, "template: cut gives no reward to calibrate: remove calibration, or set"),
        ({**JUDGE, "base_url": "localhost:8000"}, "base_url is not an http or https URL"),
        ({**JUDGE, "base_url": "http://host/v1/chat/completions/"}, "which is added to it: leave it out"),
        ({**JUDGE, "base_url": "http://[::1"}, "base_url is not a URL"),
        ({**JUDGE, "base_url": "http://u:hunter2@host/v1"}, "base_url holds a user, a query or a fragment"),
        ({**REMOTE, "url": "http://host/score?key=hunter2"}, "url holds a user, a query or a fragment"),
        ({**JUDGE, "api_key_env": "sk-hunter2"}, "it must be the name of an environment variable"),
        ({**JUDGE, "limits": {"concurency": 3}}, "did you mean concurrency?"),
        ({**JUDGE, "rubric": {"file": ""}}, "scoring.1.rubric.file: found ''; it must not be empty"),
    ],
)
def test_what_does_not_fit_is_refused_without_showing_secrets(
    tmp_path: Path, section: dict[str, Any], line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, RULE, section)
    assert line in str(caught.value)
    assert "1 mistake" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_only_the_cut_template_writes_judgments(tmp_path: Path) -> None:
    load(tmp_path, JUDGE, objective={"type": "cut"})
    with pytest.raises(ConfigError, match="add one of type judge"):
        load(tmp_path, RATING, objective={"type": "cut"})


def test_the_name_of_the_keys_variable_stays_in_the_saved_config(tmp_path: Path) -> None:
    assert "api_key_env: JUDGE_KEY" in resolved_yaml(load(tmp_path, {**RATING, "api_key_env": "JUDGE_KEY"}))


def test_rubrics_are_read_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "rubric.md").write_text("Count the animals.")
    config = load(tmp_path, RULE, {**RATING, "rubric": {"file": "rubric.md"}}, {**JUDGE, "rubric": "Inline."})
    none, source, inline = sources_of(config, tmp_path)
    assert none.rubric is None and inline.rubric is None
    assert source.rubric is not None and source.rubric.text == "Count the animals."
    assert (none.version, source.version, inline.version) == ("demo", source.rubric.version, "demo")


@pytest.mark.parametrize(("content", "why"), [(None, "there is no such file"), (b" \n", "empty"), (b"\xff", "utf-8")])
def test_a_rubric_file_that_cannot_be_used(tmp_path: Path, content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / "rubric.md").write_bytes(content)
    with pytest.raises(DataError) as caught:
        sources_of(load(tmp_path, {**RATING, "rubric": {"file": "rubric.md"}}), tmp_path)
    assert "rubric.md" in caught.value.found and why in caught.value.why and caught.value.remedy


def version_of(config: RunConfig, folder: Path) -> str:
    [source] = sources_of(config, folder)
    service = build_service(config.scoring[0], source, config.scorer_settings)
    service.close()
    assert isinstance(service, LLMJudge if isinstance(config.scoring[0], JudgeScoring) else RemoteScorer)
    assert service.name == config.scoring[0].name
    return service.version


def test_a_scorers_version_hangs_on_what_decides_its_scores(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("A.")
    (tmp_path / "b.md").write_text("B.")
    changes: list[dict[str, Any]] = [
        {}, {"model": "other"}, {"base_url": "http://127.0.0.1:8/v1"}, {"temperature": 0.5}, {"max_tokens": 9},
        {"template": "pairwise"}, {"template": "pairwise", "opponents": 2}, {"reasons": False}, {"structured": False},
        {"rubric": "X."}, {"rubric": {"file": "a.md"}}, {"rubric": {"file": "b.md"}},
    ]  # fmt: skip
    versions = [version_of(load(tmp_path, {**RATING, **change}), tmp_path) for change in changes]
    assert len(set(versions)) == len(versions)
    same = [{"limits": {"concurrency": 1}}, {"prices": {"input": 1.0}}, {"weight": 0.5}]
    assert {version_of(load(tmp_path, {**RATING, **change}), tmp_path) for change in same} == {versions[0]}
    remote = [version_of(load(tmp_path, {**REMOTE, **change}), tmp_path) for change in ({}, {"version": "2"})]
    assert len({*remote, version_of(load(tmp_path, {**REMOTE, "batch": 3}), tmp_path)}) == 2


class Nobody:
    """A transport that is never asked."""

    async def complete(self, messages: Any, schema: Any, seed: int) -> Any:
        raise AssertionError

    async def check(self) -> None: ...

    async def close(self) -> None: ...


def test_a_held_judges_version_hangs_on_its_model(tmp_path: Path) -> None:
    def version(sha256: str, **changes: Any) -> str:
        config = load(tmp_path, RULE, {**HELD, **changes})
        source = ScorerSource(model=tmp_path, model_sha256=sha256, transport=Nobody())
        service = build_service(config.scoring[1], source, config.scorer_settings)
        service.close()
        return service.version

    versions = [version("a"), version("b"), version("a", dtype="bfloat16"), version("a", max_tokens=9)]
    assert len(set(versions)) == 4
    assert version("a", limits={"concurrency": 1}) == version("a", model="elsewhere/judge-7b") == versions[0]


def test_a_missing_key_and_a_dead_endpoint_are_said_at_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = [ScorerSource(), ScorerSource()]
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(ConfigError, match="api_key_env: JUDGE_KEY"):
        check_services(load(tmp_path, RULE, {**RATING, "api_key_env": "JUDGE_KEY"}).scorer_settings, nothing)
    for section in (RATING, REMOTE):
        with pytest.raises(ConfigError, match="nothing has been sampled"):
            check_services(load(tmp_path, RULE, section).scorer_settings, nothing)
    check_services(load(tmp_path, RULE, DEMO).scorer_settings, nothing)


def test_a_scorer_actor_builds_the_backend_of_each_section(tmp_path: Path) -> None:
    from rayalign.scoring.scorers import build_backend

    config = load(tmp_path, RULE, DEMO, {**RATING, "rubric": {"file": "rubric.md"}}, REMOTE)
    (tmp_path / "rubric.md").write_text("Count the animals.")
    sources = sources_of(config, tmp_path)
    backends = [
        build_backend(one, source, config.scorer_settings) for one, source in zip(config.scoring, sources, strict=True)
    ]
    assert [type(backend).__name__ for backend in backends] == [
        "RuleScorer",
        "FunctionJudge",
        "LLMJudge",
        "RemoteScorer",
    ]
    assert [backend.name for backend in backends] == [section.name for section in config.scoring]
    for backend in backends:
        backend.close()


def read(config: RunConfig, folder: Path, cache: Path | None = None) -> None:
    from rayalign.launch.inputs import read_inputs
    from rayalign.tracking.console import Console

    with (folder / "console").open("w") as out:
        read_inputs(config, folder, Console(out), folder, UNDATED, cache)


def test_inputs_are_refused_while_the_judge_is_away(tmp_path: Path) -> None:
    """Before the model is read and any actor starts."""
    config = load(tmp_path, RATING, model={"base": str(tmp_path / "no model")})
    with pytest.raises(ConfigError, match="judge's endpoint cannot be used"):
        read(config, tmp_path)


def test_the_check_of_a_judge_is_paid_for_once(tmp_path: Path) -> None:
    """The judge gives its verdict, and the inputs go on to the model, which is not there."""
    reply = completion('{"reasons": "So.", "rating": 9}')
    with Server(lambda request: reply, Respond({"data": [{"id": RATING["model"]}]})) as server:
        section = {**RATING, "base_url": f"{server.url}/v1"}
        config = load(tmp_path, section, model={"base": str(tmp_path / "no model")})
        for _ in range(2):
            with pytest.raises(ModelError, match="no model"):
                read(config, tmp_path, tmp_path / "cache")
        assert len(server.requests) == 1
