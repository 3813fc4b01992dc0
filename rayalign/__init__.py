"""rayalign: align a language model by rounds on Ray. Importing it loads neither torch nor ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayalign.config.file import load_config
    from rayalign.launch.run import run

__version__ = "0.1.0"
__all__ = ["__version__", "load_config", "run"]


def __getattr__(name: str) -> Any:
    if name == "load_config":
        from rayalign.config.file import load_config

        return load_config
    if name == "run":
        from rayalign.launch.run import run

        return run
    raise AttributeError(f"module 'rayalign' has no attribute {name!r}")
