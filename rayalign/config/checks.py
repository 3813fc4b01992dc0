"""What the sections of a run's config must be to each other: one function per rule, each with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rayalign.config.benchmarks import held_judges
from rayalign.config.data import SamplingSection
from rayalign.config.objective import (
    SelfContrastObjective,
    check_together,
)
from rayalign.config.overlap import evaluation_can_be_beside, rounds_can_overlap
from rayalign.config.scoring import check_scorers, may_differ, verifiers_of
from rayalign.config.services import JudgeScoring

if TYPE_CHECKING:
    from rayalign.config.run import RunConfig


def scorers_fit(config: RunConfig) -> None:
    check_scorers(config.scoring)


def gold_is_a_scorer(config: RunConfig) -> None:
    names = [scoring.name for scoring in config.scoring]
    if config.evaluation.gold is not None and config.evaluation.gold not in names:
        raise ValueError(
            f"evaluation.gold {config.evaluation.gold} is no scorer of this run: name one of {', '.join(names)}, or "
            "add it to scoring with weight: 0"
        )


def benchmarks_have_judges(config: RunConfig) -> None:
    held_judges(config.evaluation.benchmarks, config.scoring)


def repeats_can_differ(config: RunConfig) -> None:
    repeats = config.evaluation.judge_repeats
    if repeats > 1 and not any(map(may_differ, config.scoring)):
        raise ValueError(
            f"evaluation.judge_repeats {repeats}: no scorer of this run is a judge or a service, and the others say "
            "the same every time; set it to 1"
        )


def gate_has_its_metric(config: RunConfig) -> None:
    if config.evaluation.gate is None:
        return
    metric, known = config.evaluation.gate.metric, [*_gate_metrics(config)]
    penalties = {f"mean_reward/{section.name}" for section in config.scoring if section.weight < 0}
    if metric in penalties:
        raise ValueError(
            f"evaluation.gate.metric {metric}: a scorer of negative weight is a penalty, of which less is "
            f"better; use {_one_of(known)}"
        )
    if metric not in known:
        raise ValueError(
            f"evaluation.gate.metric {metric}: this run's rounds have no such value per answer; use {_one_of(known)}"
        )


def _gate_metrics(config: RunConfig) -> Iterator[str]:
    if any(section.weight for section in config.scoring):
        yield "mean_reward"
    if verifiers_of(config.scoring):
        yield "pass_rate"
    for section in config.scoring:
        judgments = isinstance(section, JudgeScoring) and section.template == "cut"
        if section.weight >= 0 and not judgments:
            yield f"mean_reward/{section.name}"


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}" if names else "a scorer that gives rewards, or gate: null"


def objectives_fit(config: RunConfig) -> None:
    check_together(config.objectives)
    if config.samples is not None:
        return  # a dataset's content is known when it is read
    needs = {need for objective in config.objectives for need in objective.needs}
    if not config.scoring:
        raise ValueError("scoring is empty and nothing else scores the responses: add {type: rule, function: demo}")
    if "judgments" in needs and not any(
        isinstance(section, JudgeScoring) and section.template == "cut" for section in config.scoring
    ):
        raise ValueError(
            "an objective learns from judgments and no scorer writes any: add one of type judge (template: cut)"
        )
    if "rewards" in needs and not any(section.weight for section in config.scoring):
        raise ValueError("an objective learns from rewards and no scorer with a weight gives any: add a rule")
    if "rewards" in needs and config.sampling.responses < 2:
        raise ValueError("an objective compares responses by reward: set sampling.responses to 2 or more")


def negatives_can_be_found(config: RunConfig) -> None:
    contrast = next((o for o in config.objectives if isinstance(o, SelfContrastObjective)), None)
    if contrast is None:
        return
    names = [section.name for section in config.scoring]
    if contrast.ranks and config.samples is not None:
        raise ValueError(
            f"pool {contrast.pool} needs similarities, and a dataset's responses are not scored: set pool: alldedup"
        )
    if contrast.ranks and config.similarity_scorer not in names:
        raise ValueError(
            f"pool {contrast.pool} ranks responses by similarity and no scorer gives one: add one of "
            f"type similarity, or name one of {', '.join(names)} in objective.similarity"
        )
    if config.samples is None and contrast.negatives != "all" and contrast.negatives > config.sampling.responses:
        raise ValueError(
            f"objective.negatives {contrast.negatives} of sampling.responses {config.sampling.responses}: sample more"
        )


def sampled_or_read(config: RunConfig) -> None:
    if config.samples is None:
        return
    plain = SamplingSection()
    changed = [
        name for name in ("responses", "temperature", "top_p") if getattr(config.sampling, name) != getattr(plain, name)
    ]
    if changed:
        raise ValueError(
            f"samples.source gives the training responses and sampling.{changed[0]} would sample them: remove one"
        )
    if config.training.reference_logps == "generator":
        raise ValueError(
            "training.reference_logps generator: the generator did not sample a dataset's responses and does not "
            "know their log-probabilities; set it to auto or learner"
        )


def generator_can_be_reference(config: RunConfig) -> None:
    if config.training.reference_logps == "generator" and not config.generator_may_be_reference:
        raise ValueError(
            "training.reference_logps generator: the generator knows the log-probabilities of what it sampled, "
            "under the round's start; use objectives that compare just these with reference round_start, "
            "or set it to auto or learner"
        )


def guards_fit(config: RunConfig) -> None:
    kinds = [guard.type for guard in config.guards]
    if twins := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise ValueError(f"guards: two of them are on {twins[0]}; keep one")
    if "hacking" in kinds and (config.gold is None or len(config.scoring) < 2):
        raise ValueError(
            "guards: hacking compares the other scorers with the gold one, and this run has none; name it in "
            "evaluation.gold, with weight: 0 where it is only to be watched"
        )
    back = [guard.type for guard in config.guards if guard.action == "rollback"]
    if back and config.loop.max_staleness:
        raise ValueError(
            f"guards: {back[0]} with action rollback and loop.max_staleness 1: a round is sampled before the one "
            "before it is judged; set the action to warn or stop, or max_staleness to 0"
        )


def quantised_weights_stay_whole(config: RunConfig) -> None:
    if config.model.quantization != "none" and config.training.zero_stage == 3:
        raise ValueError(
            f"model.quantization {config.model.quantization} with training.zero_stage 3 trains wrongly and says "
            "nothing (stage 3 cuts the packed weights up): set training.zero_stage to 1 or 2"
        )


def split_engines_take_adapters(config: RunConfig) -> None:
    processes = config.cluster.generators.tensor_parallel
    if processes == 1:
        return
    if config.model.full:
        raise ValueError(
            f"model.full with cluster.generators.tensor_parallel {processes}: new weights cannot be handed to an "
            "engine's processes, only adapters; set tensor_parallel to 1, or model.full: false"
        )
    if config.sync.mode == "merged":
        raise ValueError(
            f"sync.mode merged with cluster.generators.tensor_parallel {processes}: merged weights cannot be handed "
            "to an engine's processes, only adapters; set sync.mode to auto or adapter, or tensor_parallel to 1"
        )


def workers_do_not_share_a_gpu(config: RunConfig) -> None:
    gpus, workers = config.cluster.learner.gpus, config.training.workers
    if 0 < gpus < 1 < workers:
        raise ValueError(
            f"cluster.learner.gpus {gpus:g} with training.workers {workers}: two workers cannot meet on one GPU "
            "(NCCL refuses it); set gpus to 1, or workers to 1"
        )


def turns_can_be_taken(config: RunConfig) -> None:
    cluster = config.cluster
    if not cluster.takes_turns:
        return
    if config.model.quantization != "none":
        raise ValueError(
            f"model.quantization {config.model.quantization} where generators and learner take turns: quantised "
            "weights cannot leave their device in this version; set it to none, or cluster.placement: disaggregated"
        )
    if config.training.zero_stage == 3:
        raise ValueError(
            "training.zero_stage 3 where generators and learner take turns: its engine keeps the parameters on their "
            "devices; set it to 1 or 2, or cluster.placement: disaggregated"
        )
    if not cluster.shares_gpus:
        return
    engines, split, workers = cluster.generators.max, cluster.generators.tensor_parallel, config.training.workers
    if engines * split != workers:
        raise ValueError(
            f"cluster.placement colocated: {engines} generators of {split} GPUs each and training.workers {workers} "
            f"are not on the same GPUs; set training.workers to {engines * split}"
            + (f", or cluster.generators.min and max to {workers // split}" if workers % split == 0 else "")
        )


def what_is_offloaded_can_leave(config: RunConfig) -> None:
    training = config.training
    if "parameters" in training.offload and training.zero_stage < 3:
        raise ValueError(
            f"training.offload parameters with training.zero_stage {training.zero_stage}: there every worker computes "
            "with whole parameters of its own; set training.zero_stage to 3, or take parameters out of training.offload"
        )
    if "optimizer" in training.offload and training.optimizer == "paged_adamw":
        raise ValueError(
            "training.offload optimizer with training.optimizer paged_adamw: its state leaves the GPU by itself, page "
            "by page; set training.optimizer to adamw, or take optimizer out of training.offload"
        )


def all_weights_can_be_served(config: RunConfig) -> None:
    if not config.model.full:
        return
    if config.sync.mode == "adapter":
        raise ValueError(
            "model.full with sync.mode adapter: all weights change, and there is no adapter to serve "
            "beside the base; set sync.mode to auto or merged"
        )
    if config.training.zero_stage == 3:
        raise ValueError(
            "model.full with training.zero_stage 3: the base's weights, which are compared with, are "
            "kept whole on every worker; set training.zero_stage to 1 or 2"
        )
    if config.cluster.generators.gpus or config.cluster.learner.gpus:
        raise ValueError(
            "model.full with GPUs: all weights are trained and reloaded into generators on CPU only "
            "in this version; set cluster.generators.gpus and cluster.learner.gpus to 0, or "
            "model.full: false"
        )


CHECKS: tuple[Callable[[RunConfig], None], ...] = (
    scorers_fit,
    gold_is_a_scorer,
    benchmarks_have_judges,
    repeats_can_differ,
    gate_has_its_metric,
    objectives_fit,
    negatives_can_be_found,
    sampled_or_read,
    generator_can_be_reference,
    rounds_can_overlap,
    evaluation_can_be_beside,
    guards_fit,
    quantised_weights_stay_whole,
    split_engines_take_adapters,
    workers_do_not_share_a_gpu,
    turns_can_be_taken,
    what_is_offloaded_can_leave,
    all_weights_can_be_served,
)
"""In the order in which a config meets them; each raises ValueError with what is wrong and what to do."""
