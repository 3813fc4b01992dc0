"""lm-evaluation-harness on a base model with an adapter, as a process of its own: it loads a model and talks a lot.

    python -m rayalign.evaluation.benchmarks.lm_eval_child SETTINGS.json REPLY.json

The reply holds `results`, or `error`: its kind (`hub`, `tasks`, `model`) and what was said. Without a base the tasks
are only loaded, and the reply is their `version`: so a name that is wrong, or a hub that is not there, shows early.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast
from urllib.parse import urlsplit

HUB = "https://huggingface.co"
CONNECT_S = 5.0
OFFLINE = "HF_HUB_OFFLINE"


class Settings(TypedDict):
    """What the process is told, as JSON."""

    base: str | None
    """Folder of the base model; null only loads the tasks."""
    adapter: str | None
    """Folder of a PEFT adapter; null is the base itself."""
    tasks: list[str]
    folder: str | None
    """Folder of task files of the user's own."""
    limit: int | None
    shots: int | None
    batch_size: int
    device: str
    """`cpu` or `cuda`; what is neither is a GPU where there is one."""
    dtype: str
    chat_template: bool
    seed: int


def main(arguments: Sequence[str]) -> None:
    """Read the settings, evaluate, write the reply."""
    settings, reply = Path(arguments[0]), Path(arguments[1])
    found = evaluate(json.loads(settings.read_text(encoding="utf-8")))
    reply.write_text(json.dumps(found, default=str), encoding="utf-8")


def evaluate(settings: Settings) -> dict[str, Any]:
    """The reply to some settings."""
    if not hub_answers():
        # What the cache holds still works, and what is missing fails at once instead of after many attempts.
        os.environ |= {OFFLINE: "1", "HF_DATASETS_OFFLINE": "1"}
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=settings["folder"])
    if unknown := [name for name in settings["tasks"] if name not in manager.all_tasks]:
        return _error("tasks", f"no task is called {', '.join(unknown)}")
    try:
        loaded = manager.load(settings["tasks"])["tasks"]
    except Exception as error:
        # A task file is a program of somebody else's: it can raise anything.
        return _error("hub" if os.environ.get(OFFLINE) and _asks_hub(error) else "tasks", _said(error))
    return {"version": _version(loaded)} if settings["base"] is None else _run(settings, manager)


def _version(tasks: dict[str, Any]) -> str:
    """Hash of what tasks ask and of their data."""
    told = []
    for name, task in sorted(tasks.items()):
        parts = getattr(task, "dataset", None) or {}
        data = sorted((split, getattr(part, "_fingerprint", "")) for split, part in parts.items())
        told.append([name, task.dump_config(), data])
    # A function is told by where it lies, which says nothing.
    text = re.sub(r" at 0x[0-9a-f]+", "", json.dumps(told, default=str, sort_keys=True))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _run(settings: Settings, manager: Any) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    # Its decorator tells type checkers nothing of its parameters.
    run = cast("Callable[..., dict[str, Any]]", simple_evaluate)
    try:
        found = run(
            model="hf",
            model_args=_model_arguments(settings),
            tasks=list(settings["tasks"]),
            num_fewshot=settings["shots"],
            batch_size=settings["batch_size"],
            device=settings["device"],
            limit=settings["limit"],
            log_samples=False,
            apply_chat_template=settings["chat_template"],
            task_manager=manager,
            random_seed=settings["seed"],
            numpy_random_seed=settings["seed"],
            torch_random_seed=settings["seed"],
            fewshot_random_seed=settings["seed"],
        )
    except Exception as error:
        return _error("model", _said(error))
    kept = ("results", "n-samples", "versions", "n-shot", "higher_is_better")
    return {name: found[name] for name in kept if name in found}


def _model_arguments(settings: Settings) -> dict[str, Any]:
    arguments = {"pretrained": settings["base"], "dtype": settings["dtype"]}
    return arguments if settings["adapter"] is None else {**arguments, "peft": settings["adapter"]}


def hub_answers() -> bool:
    """Whether the hub, or what `HF_ENDPOINT` names in its place, can be connected to."""
    if os.environ.get(OFFLINE, "0").lower() not in ("", "0", "false", "no"):
        return False
    parts = urlsplit(os.environ.get("HF_ENDPOINT") or HUB)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=CONNECT_S):
            return True
    except OSError:
        return False


def _asks_hub(error: BaseException) -> bool:
    """Whether an error, or one that it comes from, is about the hub."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, OSError) or "offline" in str(cause).lower() or "Hub" in str(cause):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def _error(kind: str, said: str) -> dict[str, Any]:
    return {"error": {"kind": kind, "said": said}}


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


if __name__ == "__main__":
    main(sys.argv[1:])
