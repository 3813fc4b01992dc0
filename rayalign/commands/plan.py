"""`rayalign plan`: what a run takes, before there is a machine for it: memory, work, time, cost; what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rayalign.config.changed import with_values
from rayalign.config.file import load_config_of
from rayalign.config.nodes import NodesConfig
from rayalign.config.run import RunConfig
from rayalign.errors import EXIT_BAD_INPUT, EXIT_OK, ConfigError, PlacementError
from rayalign.launch.base_checks import check_unread
from rayalign.launch.models import MADE, find_base
from rayalign.launch.settled import settle
from rayalign.learning.folders import be_quiet, resolve_config
from rayalign.learning.shape import ModelShape
from rayalign.planning.cluster import Machines, machines_of, machines_with, this_machine
from rayalign.planning.devices import Device, gpu_named, gpu_of_driver
from rayalign.planning.load import Lengths, forward_flops, training_flops
from rayalign.planning.memory import micro_batch_tokens
from rayalign.planning.plan import Misfit, Plan, make_plan
from rayalign.planning.text import describe
from rayalign.planning.times import Measured

NODES_START = "write it as in nodes: [{count: 1, gpu: H100-80GB, gpus: 8, cpus: 96, memory_gib: 1024}]"


def plan(
    config: RunConfig,
    say: Callable[[str], object],
    *,
    nodes: str | None = None,
    gpu: str | None = None,
    tokens: tuple[float, float] | None = None,
    calibrate: bool = False,
) -> int:
    """Print the plan of a config's run; returns the exit code: 0 where all fits, else 2.

    Args:
        nodes: a nodes file; without it and without `gpu` the plan is for this machine.
        gpu: name of a GPU of which there are as many as the config asks for.
        tokens: of a mean prompt and of a mean answer; the config's limits by default.
        calibrate: measure rates on this machine, with random weights of the model's sizes.

    Raises:
        ConfigError: the nodes file, the GPU's name, GPUs that are asked for and not known, or lengths beyond the
            config's.
        ModelError: there is no config.json of such a model, or it tells that a run would refuse the model.
    """
    config, chosen = settle(config)
    for line in chosen:
        say(line)
    machines, lengths = _machines(config, nodes, gpu), _lengths(config, tokens)
    config, machines, misplaced = _placed(config, machines, shared=nodes is not None)
    be_quiet()
    name = config.model.base
    folder = find_base(name) if name in MADE else resolve_config(name)
    check_unread(config, folder)
    made = make_plan(config, ModelShape.of(folder, config.model), machines, lengths)
    if calibrate:
        made = make_plan(config, made.shape, machines, lengths, _measured(made, folder))
    made = replace(made, misfits=(*misplaced, *made.misfits))
    for line in describe(made, assumed_lengths=tokens is None):
        say(line)
    return EXIT_BAD_INPUT if made.misfits else EXIT_OK


def _lengths(config: RunConfig, tokens: tuple[float, float] | None) -> Lengths:
    """The means, which are no longer than the longest."""
    longest = Lengths.longest(config)
    if tokens is None:
        return longest
    prompt, answer = tokens
    # Not a number is in no range.
    if not (1 <= prompt <= longest.prompt and 1 <= answer <= longest.answer):
        raise ConfigError(
            f"--tokens {prompt:g} {answer:g}",
            f"they are means, and the config allows prompts of 1 to {longest.prompt:g} tokens, and answers of 1 to "
            f"{longest.answer:g}",
            "give the means of your texts, or raise prompts.max_tokens and sampling.max_tokens",
        )
    return Lengths(prompt, answer)


def _placed(config: RunConfig, machines: Machines, *, shared: bool) -> tuple[RunConfig, Machines, list[Misfit]]:
    """(the config with its placement settled, the machines with the nodes of its generators, why the actors have no
    places), as the run itself would find, here with all replicas that may join."""
    from rayalign.actors.cluster import Cluster, Node
    from rayalign.actors.placement import place, settled

    kinds = enumerate(machines.kinds)
    nodes = [Node(f"{k}-{i}", "", kind.cpus, kind.gpus) for k, kind in kinds for i in range(kind.count)]
    cluster = Cluster(tuple(nodes), shared, grows=machines.grows)
    config = settled(config, cluster)
    sizes = {name: getattr(config.cluster, name).max for name in ("generators", "scorers", "judges")}
    whole = with_values(config, {f"cluster.{name}.min": size for name, size in sizes.items()})
    assert whole is not None
    try:
        placed = place(whole, cluster)
    except PlacementError as error:
        return config, machines, [Misfit(error.found, (error.remedy,))]
    return config, replace(machines, generator_nodes=placed.generator_nodes), []


def _machines(config: RunConfig, nodes: str | None, gpu: str | None) -> Machines:
    if nodes is not None and gpu is not None:
        raise ConfigError(f"--nodes {nodes} and --gpu {gpu}", "each says what there is", "leave one of them out")
    if nodes is not None:
        machines = machines_of(load_config_of(NodesConfig, nodes, start=NODES_START))
        if machines.gpu is None and config.wanted_gpus():
            raise ConfigError(
                f"the config asks for {config.wanted_gpus():g} GPUs, and no node of {nodes} has one",
                "memory and time follow from what kind they are",
                "add nodes with gpu and gpus to the file, or set cluster.*.gpus to 0",
            )
        return machines
    if gpu is not None:
        return machines_with(gpu_named(gpu, "--gpu"), config)
    return this_machine(config, _gpus_here())


def _gpus_here() -> tuple[Device, int] | None:
    """This machine's GPUs, the first one's figures with the memory that its driver tells."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    known = gpu_of_driver(properties.name)
    return known and (replace(known, memory=properties.total_memory), torch.cuda.device_count())


def _measured(plan: Plan, folder: Path) -> Measured:
    """This machine's rates with the model of a plan."""
    from rayalign.actors.calibration import Task, check, measure

    config, shape, longest = plan.config, plan.shape, Lengths.longest(plan.config)
    check(config)
    # What is measured has whole tokens.
    lengths = Lengths(round(plan.lengths.prompt), round(plan.lengths.answer))
    group = replace(plan.load.group, lengths=lengths)
    trained = training_flops(shape, group, full=False, remade=config.training.remade(shape.layers))
    largest = micro_batch_tokens(config, longest) / replace(group, lengths=longest).tokens
    task = Task(
        what="engine",
        config=config.to_dict(),
        folder=str(folder),
        prompt=round(lengths.prompt),
        answer=round(lengths.answer),
        groups=round(micro_batch_tokens(config, lengths) / group.tokens),
        largest=(round(longest.prompt), round(longest.answer), round(largest)),
        flops=(trained, forward_flops(shape, group)),
    )
    return measure(task, replace(task, what="learner"))
