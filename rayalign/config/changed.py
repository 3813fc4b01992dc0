"""A config's values by their dotted keys, and the config with others."""

from __future__ import annotations

from rayalign.config.run import RunConfig


def value_of(config: RunConfig, key: str) -> object:
    """The value of a key such as `model.dtype`."""
    found: object = config
    for name in key.split("."):
        found = getattr(found, name)
    return found


def with_values(config: RunConfig, values: dict[str, object]) -> RunConfig | None:
    """The config with some values changed; None where they do not go together with the others."""
    data = config.to_dict()
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        place = data
        for part in section.split("."):
            place = place[part]
        place[name] = value
    try:
        return RunConfig.model_validate(data)
    except ValueError:
        return None
