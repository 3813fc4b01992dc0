"""rayalign: align a language model by rounds on Ray. Importing it loads neither torch nor ray."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayalign.commands.frames import load_metrics, load_samples
    from rayalign.config.file import load_config
    from rayalign.launch.run import run

__version__ = "0.1.0"
__all__ = ["__version__", "load_config", "load_metrics", "load_samples", "run"]

_HOMES = {
    "load_config": "rayalign.config.file",
    "load_metrics": "rayalign.commands.frames",
    "load_samples": "rayalign.commands.frames",
    "run": "rayalign.launch.run",
}
"""Where each name lives; its module is imported when it is asked for."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rayalign' has no attribute {name!r}")
