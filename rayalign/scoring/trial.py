"""Scorers tried before a run samples: each about canned answers to some of the run's own held-out prompts.

rules ────────────────────────────► on the driver, in a process of their own ─┐
reward models, encoders, sandboxes,                                           ├─► fails on all of them: ConfigError
judges that the run holds itself ─► in a scorer actor, once it stands ────────┘

Services are tried by `check_services`. A scorer that fails on some answers is left to `limits.score_errors`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rayalign.config.rewards import RuleScoring
from rayalign.config.scoring import ScorerSettings, Scoring
from rayalign.errors import ConfigError, DataError
from rayalign.records import FROM_DATASET, Prompt, Sample, Score
from rayalign.scoring.asking import ask_backend
from rayalign.scoring.backend import Backend
from rayalign.scoring.rules.calls import RETURNED
from rayalign.scoring.rules.scorer import IsolatedRuleScorer
from rayalign.scoring.service_scorers import Service
from rayalign.scoring.services.cache import bypassed
from rayalign.scoring.sources import ScorerSource

MOST_PROMPTS = 4
"""A prompt may lack what others have; the next one is tried only where a scorer failed on all answers to this one."""
CANNED = (
    "The answer is 7.",
    "<think>3 and 4 make 7.</think>\nThe answer is 7.\n<answer>7</answer>\n\n```python\nanswer = 7\n```\n\n"
    '```json\n{"answer": 7}\n```\n\n#### 7\n\n\\boxed{7}',
    '{"answer": 7}',
    "7",
)
"""Prose, all forms that are common in one, and two that are nothing but their form."""
MOST_TIMEOUTS = 2
"""A scorer that hangs is not waited for more often."""
FEW = 2
"""Of these for scorers that are slow to ask; a pairwise judge compares two."""
_REMEDIES = {
    "rule": "let the function return a finite number, float(...) of a bool, or None where it cannot say",
    "unit_test": "write the prompts' tests as Python snippets that assert something",
    "judge": "name a judge that keeps to the template, leave structured on, or raise its max_tokens",
}
_OTHER_REMEDY = "name another model, or mend its tokenizer and chat template"


def some_prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Prompts to try scorers on, evenly from all."""
    count = min(MOST_PROMPTS, len(prompts))
    return [prompts[place * len(prompts) // count] for place in range(count)]


def try_rules(
    settings: ScorerSettings, sources: Sequence[ScorerSource], prompts: Sequence[Prompt], within_s: float
) -> None:
    """Try the user's own functions, each in a child process, whose crash or endless loop harms nobody.

    Args:
        within_s: limit per answer of a rule that has none.

    Raises:
        ConfigError: one of them fails on every canned answer.
    """
    for section, source in zip(settings.scoring, sources, strict=True):
        if not isinstance(section, RuleScoring) or source.rule is None or source.rule.shipped:
            continue
        options = {"batch": section.batch, "concurrency": section.concurrency}
        try:
            rule = IsolatedRuleScorer(section.name, source.rule, timeout_s=section.timeout_s or within_s, **options)
        except DataError:
            if section.timeout_s is not None:
                raise
            # It need not run in a process of its own.
            continue
        try:
            try_backend(section, rule, prompts, together=section.batch)
        finally:
            rule.close()


def try_backend(
    section: Scoring,
    backend: Backend | Service,
    prompts: Sequence[Prompt],
    answers: int = len(CANNED),
    within_s: float | None = None,
    *,
    together: bool = True,
) -> None:
    """Have a scorer score canned answers the way it scores real ones, past every cache.

    Args:
        answers: how many to each prompt, beside the prompt's target.
        within_s: time that a service has for each prompt.
        together: whether all answers to a prompt are asked about at once, or one by one until one has a score.

    Raises:
        ConfigError: it gives nothing but failures.
    """
    tried: list[Score] = []
    for prompt in prompts:
        texts = [*CANNED[:answers], *([prompt.target] if prompt.target else [])]
        samples = [Sample(prompt.id, i, text, [], [], "stop", FROM_DATASET, 0) for i, text in enumerate(texts)]
        for some in [samples] if together else [[sample] for sample in samples]:
            with bypassed():
                tried += ask_backend(backend, [prompt] * len(some), some, within_s)
            if tried[-1].status == "ok" or _statuses(tried)["timeout"] >= MOST_TIMEOUTS:
                break
        if works(tried):
            return
        if _statuses(tried)["timeout"] >= MOST_TIMEOUTS:
            break
    if tried:
        reason = next(score.reason for score in tried if score.status in ("error", "timeout"))
        raise ConfigError(
            f"scoring: {section.name} fails on each of {len(tried)} canned answers, such as {CANNED[0]!r}",
            reason or "no reason given",
            f"{_REMEDIES.get(section.type, _OTHER_REMEDY)}; nothing has been sampled",
        )


def _statuses(scores: Sequence[Score]) -> Counter[str]:
    return Counter(score.status for score in scores)


def works(scores: Sequence[Score]) -> bool:
    """Whether a scorer can be used: it gave a score, or said that it cannot say and never broke the contract."""
    broken = any((score.reason or "").startswith(RETURNED) for score in scores if score.status == "error")
    return any(score.status == "ok" or (score.status == "abstain" and not broken) for score in scores)
