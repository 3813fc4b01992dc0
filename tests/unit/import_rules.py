"""The house (docs/architecture.md): a room imports only from floors below its own, and heavy libraries where they live.

`check(module, tree)` gives one line per violation. Imports of rayalign count wherever they stand; heavy libraries do
not count under `if TYPE_CHECKING`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FLOORS = (
    ("cli", "__init__", "__main__"),
    ("cli_view", "cli_results"),
    ("cli_options",),
    ("commands",),
    ("launch",),
    ("loop", "actors", "demo", "planning"),
    ("data", "scoring", "learning", "evaluation", "tracking", "dashboard"),
    ("config", "store", "losses", "rendering", "constraints"),
    ("parts",),
    ("records", "display", "stopping"),
    ("errors",),
)
"""From the roof down. A room imports from lower lines only: never from its own, never from above."""

MODELS = {"torch", "transformers"}
TRAINING = MODELS | {"peft", "bitsandbytes", "trl"}
ACTORS = TRAINING | {"ray", "vllm", "deepspeed"}
PACKAGES = {"alpaca_eval", "lm_eval"}
HEAVY = ACTORS | PACKAGES
LIBRARIES = {
    "losses": {"torch"},
    "learning": TRAINING,
    "demo": TRAINING,
    "actors": HEAVY,
    "scoring.models": MODELS,
    "scoring.judges.judge_model": MODELS,
    "commands.submit": {"ray"},
    "commands.job_server": {"ray"},
}
"""Room, package or file -> the heavy libraries that it may import; what is not named here imports none."""
IN_FUNCTIONS = {"evaluation": PACKAGES, "commands": {"torch"}}
"""The same, for imports inside functions."""
LIGHT = ("cli", "cli_view", "cli_results", "cli_options", "__init__")
"""Their imports from above the foundation stand in functions, so that `--help` and `import rayalign` are quick."""


@dataclass(frozen=True)
class Import:
    name: str
    """Dotted name, absolute."""
    line: int
    in_function: bool
    for_types: bool


def module_name(path: Path, root: Path) -> str:
    """`rayalign/loop/run.py` -> "loop.run"; the package itself is "__init__"."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def check(module: str, tree: ast.AST, is_package: bool = False) -> list[str]:
    """One line per import that the floors do not allow."""
    if _floor(module.split(".")[0]) is None:
        return [f"{module}: on no floor of tests/unit/import_rules.py"]
    found = []
    for one in imports(tree, module, is_package):
        problem = _problem(one, module)
        if problem:
            found.append(f"rayalign.{module}, line {one.line}: {problem}")
    return found


def _floor(room: str) -> int | None:
    """Counted from the ground."""
    return next((height for height, rooms in enumerate(reversed(FLOORS)) if room in rooms), None)


def _problem(one: Import, module: str) -> str | None:
    library, *rest = one.name.split(".")
    room = module.split(".")[0]
    if library == "rayalign":
        return _wrong_way(rest[0] if rest else "", room, one)
    if library not in HEAVY or one.for_types or library in _allowed(LIBRARIES, module):
        return None
    if library in _allowed(IN_FUNCTIONS, module):
        return None if one.in_function else f"imports {library} outside a function"
    return f"imports {library}"


def _wrong_way(target: str, room: str, one: Import) -> str | None:
    """What is wrong with an import of a room, or of a name of the package itself (such as its version)."""
    mine, theirs = _floor(room), _floor(target)
    if target == room or theirs is None or mine is None:
        return None
    if room == "__main__":
        return None
    if theirs >= mine:
        return f"imports rayalign.{target}"
    late = one.in_function or one.for_types
    if room in LIGHT and not late and target not in (*LIGHT, "errors", "records", "parts", "display", "stopping"):
        return f"imports rayalign.{target} outside a function"
    return None


def _allowed(table: dict[str, set[str]], module: str) -> set[str]:
    return {library for place, some in table.items() if f"{module}.".startswith(f"{place}.") for library in some}


def imports(tree: ast.AST, module: str, is_package: bool = False) -> Iterator[Import]:
    yield from _walk(tree, module, is_package, False, False)


def _walk(node: ast.AST, module: str, is_package: bool, in_function: bool, for_types: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, node.lineno, in_function, for_types)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node, module, is_package)
        for alias in node.names:
            name = f"{base}.{alias.name}" if base == "rayalign" else base
            yield Import(name, node.lineno, in_function, for_types)
    elif isinstance(node, ast.Call) and (name := _named_by_call(node)):
        yield Import(name, node.lineno, in_function, for_types)
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for child in node.body:
            yield from _walk(child, module, is_package, in_function, True)
        for child in node.orelse:
            yield from _walk(child, module, is_package, in_function, for_types)
        return
    inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, module, is_package, inside, for_types)


def _named_by_call(call: ast.Call) -> str | None:
    """The module that `importlib.import_module("...")` or `__import__("...")` names."""
    if ast.unparse(call.func).rpartition(".")[2] not in ("import_module", "__import__"):
        return None
    return str(call.args[0].value) if call.args and isinstance(call.args[0], ast.Constant) else None


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = ["rayalign", *(module.split(".") if module != "__init__" else [])]
    parents = parts[: len(parts) - node.level + is_package]
    return ".".join([*parents, *([node.module] if node.module else [])])
