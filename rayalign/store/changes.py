"""Which settings a run may be resumed with: all but those that something committed depends on.

    sampling.* ─► samples ─► (groups, made again where the objective changed) ─► adapters ◄─ training.*, objective

What is free to change at any time only says where work is done, how long it may take, or how it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from rayalign.records import JsonObject

PLACES = ("cluster.", "tracking.", "limits.", "run.dir", "run.name")
FREE = (*PLACES, "sync.tolerance", "evaluation.benchmarks", "loop.evaluate_beside")
"""Settings that nothing committed depends on (a folder may be moved; a benchmark's results say what they hang on);
`run.rounds` may also grow."""
DEPENDENTS = {
    "training.": {"adapter"},
    "objective": {"revision", "adapter"},
    "groups.": {"revision", "adapter"},
    "sampling.": {"train", "evaluation", "revision"},
}
"""Settings by how they begin, and the kinds of commits that depend on them; on all other settings every one does."""
AFTER_SAMPLES = (*FREE, "evaluation.", "groups.", "objective", "training.")
"""Settings that a round's committed samples and scores do not depend on."""
_KEY = re.compile(r"\b[a-z]+\.[a-z_]+\b")


def is_bound(key: str, committed: Collection[str]) -> bool:
    """Whether anything committed depends on a setting.

    Args:
        committed: the kinds of all commits of a run: prompts, train, groups, ...
    """
    if key.startswith(FREE):
        return False
    kinds = next((kinds for start, kinds in DEPENDENTS.items() if key.startswith(start)), set(committed))
    return not kinds.isdisjoint(committed)


def bound_keys(text: str, config: Mapping[str, object], committed: Collection[str]) -> list[str]:
    """The settings of a config that a text names, as far as anything committed depends on them."""
    named = set(_KEY.findall(text)) & flatten(config).keys()
    return sorted(key for key in named if is_bound(key, committed))


def differences(saved: Mapping[str, object], config: Mapping[str, object]) -> dict[str, str]:
    """Settings that differ between a run's config and another one, each with both values in words."""
    old, new = flatten(saved), flatten(config)
    return {
        key: f"{old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not (key == "run.rounds" and new[key] > old[key])
    }


def flatten(data: Mapping[str, object], prefix: str = "") -> JsonObject:
    """The values of a nested dict by their dotted keys."""
    flat: JsonObject = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
