"""A plan in lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from rayalign.planning.devices import Device
from rayalign.planning.memory import Memory
from rayalign.planning.plan import Plan
from rayalign.planning.times import BANDWIDTH_SHARE, CPU_LEARNER_SHARE, ENGINE_SHARE, LEARNER_SHARE

NAMES = {"adapter": "LoRA", "cache": "KV cache"}
"""Of the parts of memory; the others are called as their fields are."""


def describe(plan: Plan, *, assumed_lengths: bool) -> Iterator[str]:
    """All that a plan says.

    Args:
        assumed_lengths: whether the means are the config's limits, so that work and time are upper bounds.
    """
    yield from _model(plan)
    yield f"machines: {plan.machines.name}"
    yield ""
    yield from _memory(plan)
    yield ""
    yield from _work(plan, assumed_lengths)
    yield ""
    yield from _times(plan)
    yield ""
    if not plan.misfits:
        judges = len(plan.config.judges)
        yield "all of it fits" + (f"; judges were not counted: {judges} with a model of its own" if judges else "")
    for misfit in plan.misfits:
        yield f"does not fit: {misfit.found}"
        yield from (f"    remedy: {remedy}" for remedy in misfit.remedies)


def _model(plan: Plan) -> Iterator[str]:
    config, shape = plan.config, plan.shape
    what = f"{shape.architecture}, {number(shape.total)} parameters, {shape.layers} layers, {config.model.dtype}"
    trained = "all are trained" if config.model.full else f"LoRA r {shape.lora_rank}: {number(shape.lora)}"
    yield f"model: {config.model.base}: {what}; {trained}"


def _memory(plan: Plan) -> Iterator[str]:
    parts = [field.name for field in fields(Memory)]
    yield "memory of one process, GiB" + "".join(f"{NAMES.get(name, name):>12}" for name in parts) + f"{'sum':>8}"
    generator, learner = plan.devices
    pools, workers = plan.config.cluster, plan.config.training.workers
    rows = (
        (f"{pools.generators.max} x generator, {generator.name}", plan.engine.memory),
        (f"{workers} x learner, {learner.name}", plan.learner),
    )
    for name, memory in rows:
        cells = "".join(f"{getattr(memory, part) / 2**30:>12.2f}" for part in parts)
        yield f"  {name:<24}{cells}{memory.sum / 2**30:>8.2f}"
    if plan.measured is not None:
        generator, learner = (one.peak_bytes / 2**30 for one in plan.measured)
        yield f"  measured at the peak: generator {generator:.2f}, learner {learner:.2f}"
    engine = plan.engine
    asked = f": {engine.need.describe(engine.memory.cache)}" if engine.need is not None else ""
    yield f"  the cache of a generator holds {max(0.0, engine.cache_tokens):.0f} tokens{asked}"
    yield (
        f"  the learner's is that of the largest micro-batch: prompts of {plan.config.prompts.max_tokens} tokens with "
        f"{plan.config.sampling.responses} answers of {plan.config.max_response_tokens}"
    )


def _work(plan: Plan, assumed: bool) -> Iterator[str]:
    load, lengths = plan.load, plan.lengths
    bound = "at most, with all as long as the config allows: " if assumed else ""
    yield f"a round, {bound}prompts of {lengths.prompt:g} and answers of {lengths.answer:g} tokens"
    yield f"  sampled    {load.sampled} answers, {number(load.sampled_tokens)} tokens"
    yield (
        f"  update     {load.groups} groups, {number(load.trained_tokens)} tokens, {load.steps} steps, "
        f"{number(load.update_flops + load.reference_flops)} FLOP"
    )
    yield f"  evaluated  {load.evaluated} answers, {number(load.evaluated_tokens)} tokens"


def _times(plan: Plan) -> Iterator[str]:
    if plan.misfits:
        yield "  how long it takes follows from a plan that fits"
        return
    times = plan.times
    for field in fields(times):
        yield f"  {field.name.replace('_', ' '):<10} {duration(getattr(times, field.name))}"
    total, run = times.round, plan.run_seconds
    yield f"  a round    {duration(total)}{_usd(plan, total)}"
    yield f"  the run    {duration(run)}{_usd(plan, run)}, {plan.config.run.rounds} rounds"
    yield "  not counted: starting the actors, scoring by models and services, groups, sync, commits"
    if plan.measured is not None:
        yield "rates: measured on this machine with this model's sizes"
        return
    for device in dict.fromkeys(plan.devices):
        yield f"rates: {device.name}: {_rates(plan, device)}; {device.source}"
    learner = LEARNER_SHARE if plan.devices[1].gpu else CPU_LEARNER_SHARE
    yield (
        f"  of which the learner is taken to reach {learner:g}, an engine {ENGINE_SHARE:g} and {BANDWIDTH_SHARE:g} of "
        "the bandwidth: --calibrate measures"
    )


def _rates(plan: Plan, device: Device) -> str:
    dtype = plan.config.model.dtype
    return f"{device.flops(dtype) / 1e12:g} TFLOP/s in {dtype}, {device.bandwidth / 1e9:g} GB/s"


def _usd(plan: Plan, seconds: float) -> str:
    usd = plan.usd(seconds)
    if usd is None:
        return ""
    told = plan.machines.price_source
    source = f" ({told})" if told and seconds == plan.run_seconds else ""
    return f", {usd:.2f} US dollars{source}"


def number(count: float) -> str:
    """With three digits and the SI's prefix: 134.5 M is 135 M."""
    for size, prefix in (
        (1e24, "Y"),
        (1e21, "Z"),
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
    ):
        # What rounds up to the next prefix has that one.
        if float(f"{count:.3g}") >= size:
            return f"{count / size:.3g} {prefix}"
    return f"{count:g}"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.1f} min" if minutes < 100 else f"{hours:.1f} h"
