"""What a config leaves to the run: settings that are `auto`, and that what the run makes depends on."""

from __future__ import annotations

from rayalign.config.changed import value_of, with_values
from rayalign.config.file import with_defaults
from rayalign.config.run import RunConfig
from rayalign.records import JsonObject
from rayalign.store.changes import flatten

LEFT = ("model.dtype", "training.reference_logps")
"""Settings that a resumed run keeps as they were where they are `auto` now."""
FASTER = 1.5
"""So many times float32's rate must this processor multiply bfloat16 for it to be worth its rounding."""


def settle(config: RunConfig, saved: JsonObject | None = None) -> tuple[RunConfig, list[str]]:
    """The config with `model.dtype` settled, and what was chosen and why, in lines.

    Args:
        saved: the config of the run that is to go on, whose choice holds.
    """
    known = flatten(with_defaults(saved)) if saved else {}
    kept = {key: known[key] for key in LEFT if value_of(config, key) == "auto" and known.get(key, "auto") != "auto"}
    config = _with(config, kept)
    lines = [f"{key} auto: {value}, as when the run began" for key, value in kept.items() if key == "model.dtype"]
    if config.model.dtype != "auto":
        return config, lines
    dtype, why = choose_dtype(config)
    return _with(config, {"model.dtype": dtype}), [f"model.dtype auto: {dtype} ({why})"]


def choose_dtype(config: RunConfig) -> tuple[str, str]:
    """The numbers that this run's devices compute with fastest, and why; those of CPUs are taken to be as this one."""
    if config.model.full:
        return "float32", "all weights are trained, and bfloat16 loses small steps"
    pools = config.cluster
    sides = pools.generators.gpus, pools.learner.gpus
    from rayalign.actors.device_probe import bfloat16_gain, lacks_bfloat16

    if any(sides) and (name := lacks_bfloat16()):
        return "float32", f"{name} has no bfloat16"
    if all(sides):
        return "bfloat16", "generators and learner are on GPUs"
    gain = bfloat16_gain()
    return "bfloat16" if gain >= FASTER else "float32", f"this processor multiplies bfloat16 {gain:.1f} times as fast"


def _with(config: RunConfig, values: dict[str, object]) -> RunConfig:
    found = with_values(config, values) if values else config
    assert found is not None  # Each is a value that the other settings allow.
    return found
