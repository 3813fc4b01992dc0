"""What a run refuses of its base by `config.json` alone, before weights or prompts are read: a plan refuses it too."""

from __future__ import annotations

from pathlib import Path

from rayalign.config.run import RunConfig
from rayalign.errors import ConfigError
from rayalign.store.model_checks import check_quantisation

KEY = "model.base"


def check_base(config: RunConfig, model: Path) -> None:
    """Refuse a base of another kind than a run trains, of a shorter context, or that its engines cannot share out.

    Raises:
        ModelError: it is no causal language model, changes its logits, or does not divide by `tensor_parallel`.
        ConfigError: the config's longest sequences are longer than its context.
    """
    from rayalign.learning.folder_checks import check_kind, check_split

    check_kind(model)
    _check_context(config, model)
    check_split(model, config.cluster.generators.tensor_parallel, KEY, "cluster.generators")


def check_unread(config: RunConfig, model: Path) -> None:
    """Refuse a base whose weights are not at hand by all that its config.json tells.

    Raises:
        ModelError: as `check_base`; or it is quantised, or its layers cannot be trained and served as the config says.
        ConfigError: as `check_base`.
    """
    from rayalign.learning.folder_checks import check_layers
    from rayalign.learning.targets import without_weights

    check_quantisation(model, KEY)
    check_base(config, model)
    gpu, remade = config.cluster.generators.gpus > 0, config.training.gradient_checkpointing
    check_layers(without_weights(model), model, merges=config.merges, gpu=gpu, remade=remade)


def _check_context(config: RunConfig, model: Path) -> None:
    from rayalign.learning.folders import context_length, has_rotary_positions

    length = config.model.context or context_length(model)
    if config.model.context is not None and not has_rotary_positions(model):
        raise ConfigError(
            f"model.context {config.model.context}",
            "the model learned a table of positions, which ends at its own context",
            "remove model.context",
        )
    for benchmark in config.evaluation.benchmarks:
        if length is not None and length < (asked := config.asked_tokens(benchmark) + 1):
            raise ConfigError(
                f"benchmark {benchmark.label}: prompt_tokens + max_tokens + 1 = {asked}",
                f"the model's context is {length} tokens",
                "lower one of the two (null takes prompts.max_tokens and sampling.max_tokens)",
            )
    longest = max(config.max_sequence_tokens, config.max_judged_tokens)
    answer = max(config.max_response_tokens, config.sampling.max_tokens)
    judged = config.max_judged_tokens > config.prompts.max_tokens + answer
    parts = "prompts.max_tokens + " + ("sampling" if answer == config.sampling.max_tokens else "samples")
    parts += ".max_tokens" + (" + judgment and its template" if judged else "")
    if length is not None and length < longest + 1:
        raise ConfigError(
            f"{parts} + 1 = {longest + 1}",
            f"the model's context is {length} tokens",
            "lower one of them" if judged else "lower one of the two",
        )
