"""From a config section to a scorer that calls a service, and the check of all of them before a run samples."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayalign.config.scoring import ScorerSettings, Scoring
from rayalign.config.services import JudgeScoring, RemoteScoring
from rayalign.errors import ConfigError
from rayalign.records import JsonObject, JudgeTask, Message
from rayalign.scoring.judges.llm_judge import LLMJudge
from rayalign.scoring.judges.rubrics import rubric_text
from rayalign.scoring.judges.task_template import task_template
from rayalign.scoring.judges.templates import Template, make_template
from rayalign.scoring.services.cache import ScoreCache
from rayalign.scoring.services.calls import Caller, Failure
from rayalign.scoring.services.openai_transport import OpenAITransport
from rayalign.scoring.services.remote import RemoteScorer
from rayalign.scoring.services.transport import Key, Transport, judge_refusal
from rayalign.scoring.sources import ScorerSource

_log = logging.getLogger(__name__)
Service = LLMJudge | RemoteScorer
CHECK_PATIENCE_S = 600.0


def calls_a_service(section: Scoring) -> bool:
    return isinstance(section, RemoteScoring) or (isinstance(section, JudgeScoring) and section.transport == "openai")


def build_service(
    section: Scoring,
    source: ScorerSource,
    settings: ScorerSettings,
    run_cache: Path | None = None,
    task: JudgeTask | None = None,
) -> Service:
    """The scorer of a section for which `calls_a_service`, or of a judge in an actor, with this actor's share of its
    limits.

    Args:
        run_cache: folder for its results where the section names none; null for no cache.
        task: what a judge is asked in place of its template.

    Raises:
        ConfigError: its key's variable is not set, or the cache that it names cannot be used.
    """
    if isinstance(section, RemoteScoring):
        key, caller, cache = _parts(section, settings, run_cache)
        return RemoteScorer(section.name, section.url, section.version, key, caller, batch=section.batch, cache=cache)
    if not isinstance(section, JudgeScoring):
        raise ConfigError(f"scoring: {section.name}", "it calls no service")
    key, caller, cache = _parts(section, settings, run_cache)
    asking: dict[str, Any] = {"temperature": section.temperature, "max_tokens": section.max_tokens}
    asking["structured"] = section.structured
    transport, model = _transport(section, source, key, asking)
    return LLMJudge(
        section.name,
        _template(section, source) if task is None else task_template(task, structured=section.structured),
        transport,
        caller,
        identity=json.dumps([*model, asking, section.opponents, *_other_request(section)]),
        seed=settings.seed,
        max_tokens=section.reply_tokens,
        prices=section.prices,
        opponents=section.opponents,
        cache=cache,
    )


def _template(section: JudgeScoring, source: ScorerSource) -> Template:
    rubric = rubric_text(section, source.rubric)
    return make_template(section.template, rubric, reasons=section.reasons, structured=section.structured)


@dataclass(frozen=True, slots=True)
class JudgeLink:
    """How a judge is asked anything, within its limits."""

    transport: Transport
    caller: Caller
    identity: str
    """What decides its reply to a question: endpoint, model, sampling."""

    async def check(self, messages: Sequence[Message] | None, schema: JsonObject) -> None:
        """See that it is there, and replies to a question if one is given.

        Raises:
            ConfigError: it does not.
        """
        try:
            doubt = await self.transport.check()
            if messages is None:
                return
            await self._ask(messages, schema, doubt)
        finally:
            await self.transport.close()

    async def _ask(self, messages: Sequence[Message], schema: JsonObject, doubt: str | None) -> None:
        try:
            deadline = asyncio.get_running_loop().time() + CHECK_PATIENCE_S
            await self.caller.run(lambda: self.transport.complete(messages, schema, 0), deadline)
        except Failure as failure:
            raise judge_refusal(self.transport.name, failure.reason, failure, doubt) from None


def link_to_judge(section: JudgeScoring, source: ScorerSource, settings: ScorerSettings) -> JudgeLink:
    """A judge for who has templates and a cache of its own.

    Raises:
        ConfigError: its key's variable is not set, or no actor holds it here.
    """
    asking: dict[str, Any] = {"temperature": section.temperature, "max_tokens": section.max_tokens}
    asking["structured"] = section.structured
    transport, model = _transport(section, source, Key(section.api_key_env), asking)
    caller = Caller(section.limits.share(settings.sharers), settings.seed)
    return JudgeLink(transport, caller, json.dumps([*model, asking, *_other_request(section)]))


def _other_request(section: JudgeScoring) -> list[JsonObject]:
    """What a judge's identity says of `request`: nothing where it changes nothing, as before there was one."""
    other = section.other_request
    return [dict(sorted(other.items()))] if other else []


def _transport(
    section: JudgeScoring, source: ScorerSource, key: Key, asking: dict[str, Any]
) -> tuple[Transport, list[str | int | None]]:
    """How the judge is asked, and what names its model."""
    if section.transport == "openai" and section.base_url is not None and section.model is not None:
        own = OpenAITransport(section.base_url, section.model, key, **asking, request=section.request)
        return own, [section.base_url, section.model]
    if source.transport is None:
        raise ConfigError(
            f"scoring: {section.name}: transport {section.transport}",
            "no actor of a run holds it here",
            "serve its model and set transport: openai",
        )
    return source.transport, ["vllm", source.model_sha256, section.dtype, section.context]


def check_services(
    settings: ScorerSettings, sources: Sequence[ScorerSource], run_cache: Path | None = None, *, ask: bool = True
) -> None:
    """Have every service score a canned answer, before anything is sampled.

    Args:
        run_cache: as for `build_service`; a judge's verdict on the canned answer is kept there as any other.
        ask: whether they are asked, or only what is needed for it is looked at.

    Raises:
        ConfigError: one of them cannot be used.
    """
    for section, source in zip(settings.scoring, sources, strict=True):
        if calls_a_service(section):
            service = build_service(section, source, settings, run_cache)
            try:
                if ask:
                    service.check()
            finally:
                service.close()


def _parts(
    section: JudgeScoring | RemoteScoring, settings: ScorerSettings, run_cache: Path | None
) -> tuple[Key, Caller, ScoreCache | None]:
    key = Key(section.api_key_env)
    caller = Caller(section.limits.share(settings.sharers), settings.seed)
    if section.cache is not None:
        return key, caller, ScoreCache(Path(section.cache))
    return key, caller, None if run_cache is None else _run_cache(run_cache)


def _run_cache(folder: Path) -> ScoreCache | None:
    """Nobody asked for it, so that a file system that cannot hold it costs a warning and not the run."""
    try:
        return ScoreCache(folder)
    except ConfigError as error:
        _log.warning("no cache in the run folder: %s", error)
        return None
