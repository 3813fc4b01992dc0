"""From a config section to a scorer that calls a service, and the check of all of them before a run samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rayalign.config import RunConfig
from rayalign.config_scoring import JudgeScoring, RemoteScoring, Scoring, judges_of
from rayalign.errors import ConfigError
from rayalign.scoring.cache import ScoreCache
from rayalign.scoring.calls import Caller
from rayalign.scoring.llm_judge import LLMJudge
from rayalign.scoring.openai_transport import OpenAITransport
from rayalign.scoring.remote import RemoteScorer
from rayalign.scoring.rubrics import rubric_text
from rayalign.scoring.services import Key, Transport
from rayalign.scoring.sources import ScorerSource
from rayalign.scoring.templates import make_template

DEADLINE_SHARE = 0.9
"""Of `limits.score_timeout_s`: a shard's scores are back before the pool gives the scorer up."""

Service = LLMJudge | RemoteScorer


def calls_a_service(section: Scoring) -> bool:
    return isinstance(section, RemoteScoring) or (isinstance(section, JudgeScoring) and section.transport == "openai")


def build_service(section: Scoring, source: ScorerSource, config: RunConfig) -> Service:
    """The scorer of a section for which `calls_a_service`, or of a judge in an actor, with this actor's share of its
    limits.

    Raises:
        ConfigError: its key's variable is not set, or its cache cannot be used.
    """
    services = sum(calls_a_service(other) for other in config.scoring) + len(judges_of(config.scoring))
    # An actor's services follow one another on a shard.
    deadline_s = DEADLINE_SHARE * config.limits.score_timeout_s / max(1, services)
    if isinstance(section, RemoteScoring):
        key, caller, cache = _parts(section, config)
        own = {"batch": section.batch, "cache": cache, "deadline_s": deadline_s}
        return RemoteScorer(section.name, section.url, section.version, key, caller, **own)
    if not isinstance(section, JudgeScoring):
        raise ConfigError(f"scoring: {section.name}", "it calls no service")
    key, caller, cache = _parts(section, config)
    settings: dict[str, Any] = {"temperature": section.temperature, "max_tokens": section.max_tokens}
    settings["structured"] = section.structured
    transport, model = _transport(section, source, key, settings)
    return LLMJudge(
        section.name,
        make_template(
            section.template,
            rubric_text(section, source.rubric),
            reasons=section.reasons,
            structured=section.structured,
        ),
        transport,
        caller,
        identity=json.dumps([*model, settings, section.opponents]),
        seed=config.run.seed,
        max_tokens=section.max_tokens,
        prices=section.prices,
        opponents=section.opponents,
        cache=cache,
        deadline_s=deadline_s,
    )


def _transport(
    section: JudgeScoring, source: ScorerSource, key: Key, settings: dict[str, Any]
) -> tuple[Transport, list[str | int | None]]:
    """How the judge is asked, and what names its model."""
    if section.transport == "openai" and section.base_url is not None and section.model is not None:
        own = OpenAITransport(section.base_url, section.model, key, **settings)
        return own, [section.base_url, section.model]
    if source.transport is None:
        raise ConfigError(f"scoring: {section.name}", "it calls no service, and no actor holds it")
    return source.transport, ["vllm", source.model_sha256, section.dtype, section.context]


def check_services(config: RunConfig, sources: Sequence[ScorerSource]) -> None:
    """Call every service of the config once.

    Raises:
        ConfigError: one of them cannot be used.
    """
    for section, source in zip(config.scoring, sources, strict=True):
        if calls_a_service(section):
            service = build_service(section, source, config)
            try:
                service.check()
            finally:
                service.close()


def _parts(section: JudgeScoring | RemoteScoring, config: RunConfig) -> tuple[Key, Caller, ScoreCache | None]:
    key = Key(section.api_key_env)
    caller = Caller(section.limits.share(config.cluster.scorers.min), config.run.seed)
    return key, caller, None if section.cache is None else ScoreCache(Path(section.cache))
