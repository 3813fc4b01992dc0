"""Whether what works with reference answers has any, before a run starts."""

from __future__ import annotations

from collections.abc import Sequence

from rayalign.config.run import RunConfig
from rayalign.errors import ConfigError, DataError, ModelError
from rayalign.records import Prompt
from rayalign.rendering.renderer import ChatRenderer


def check_targets_follow(config: RunConfig, renderer: ChatRenderer) -> None:
    """Refuse objectives that put a reference answer where the template opens the model's thinking.

    Raises:
        ModelError: the template does, and one of the objectives learns reference answers.
    """
    if _learning(config) and renderer.form.opened:
        raise ModelError(
            f"the chat template opens {renderer.form.opened.strip()} where the model answers, and not before an answer "
            "that is given",
            "the objective learns reference answers, which would stand inside the thinking",
            "train on them offline (samples.source), set another objective.type, or name another prompts.template",
        )


def check_targets(config: RunConfig, holdout: Sequence[Prompt], *, known: bool) -> None:
    """Refuse what works with reference answers where no prompt has one.

    Args:
        holdout: the held-out prompts.
        known: whether any prompt that is trained on has one.

    Raises:
        ConfigError: held-out answers are to be compared with theirs.
        DataError: an objective learns from them, or a scorer compares with them.
    """
    held_out = any(prompt.target is not None for prompt in holdout)
    if "target" in config.evaluation.baselines and not held_out:
        raise ConfigError(
            "evaluation.baselines has target",
            "no held-out prompt has a reference answer",
            "give them in prompts.source, as target, output or a closing turn, or remove it",
        )
    # What an objective needs of a dataset of samples was looked for when that was read.
    asks = _learning(config) if config.samples is None else []
    asks += [f"the scorer {config.similarity_scorer}"] if config.similarity_scorer else []
    if asks and not held_out and not known:
        raise DataError(
            f"{asks[0]} works with reference answers, and no prompt has one",
            "every answer would be sampled, and then be without a score or a group",
            "give them in prompts.source, as target, output or a closing turn, or set another type",
        )


def _learning(config: RunConfig) -> list[str]:
    return [f"objective.type {one.type}" for one in config.objectives if "targets" in one.needs]
