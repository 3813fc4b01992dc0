"""What JSON holds, for values of which nothing more is known."""

from __future__ import annotations

from typing import Any, TypeAlias

JsonObject = dict[str, Any]
"""An object of JSON (or YAML) values: a config, a report, what a commit says, a stored row, a prompt's metadata.

What reads such an object without trust takes `Mapping[str, object]` instead and looks at every value's type.
"""
JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
"""Any value of plain JSON types."""
