"""Who may import whom (DESIGN section 5), as a table and a checker over the AST.

`check(module, tree)` gives one line per violation. Imports of rayalign count wherever they stand; heavy
libraries do not count under `if TYPE_CHECKING`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEAVY = {"torch", "ray", "vllm", "deepspeed", "transformers", "peft", "trl", "bitsandbytes", "alpaca_eval", "lm_eval"}
MODELS = {"torch", "transformers"}
TRAINING = MODELS | {"peft", "bitsandbytes", "trl"}
BASE = {"errors", "records"}
SECTIONS = {"config_base", "config_model", "config_objective", "config_samples", "config_scoring", "config_stages"}
CONFIG = SECTIONS | {"config"}
EVERYTHING_BUT_LOOP = BASE | {
    *(*CONFIG, "metrics", "run_dir", "storage", "stages", "data", "scoring"),
    *("losses", "learning", "demo", "evaluation", "dashboard", "actors", "backends", "group_parts"),
    "stage_dir",
}
ALL = EVERYTHING_BUT_LOOP | {
    *("loop", "launch", "wiring", "submit"),
    *("config_file", "console", "doctor", "sampling", "inputs", "offline", "rescore"),
    *("saved_run", "show", "chat", "export", "export_card", "hub"),
    *("session", "stage_inputs", "stage_run", "run_all"),
}


@dataclass(frozen=True)
class Rule:
    internal: set[str]
    heavy: set[str]
    internal_in_functions: set[str] | None = None
    """What functions may import besides; null means nothing more."""
    heavy_only_in_functions: bool = False


RULES = {
    "": Rule(set(), set(), {"config_file", "launch"}),
    "__main__": Rule({"cli"}, set()),
    "errors": Rule(set(), set()),
    "records": Rule({"errors"}, set()),
    "config_base": Rule(BASE, set()),
    "config_model": Rule(BASE | {"config_base"}, set()),
    "config_objective": Rule(BASE | {"config_base"}, set()),
    "config_samples": Rule(BASE | {"config_base"}, set()),
    "config_scoring": Rule(BASE | {"config_base"}, set()),
    "config": Rule(BASE | CONFIG - {"config", "config_stages"}, set()),
    "config_stages": Rule(BASE | {*CONFIG}, set()),
    "config_errors": Rule(BASE | {*CONFIG}, set()),
    "config_file": Rule(BASE | {*CONFIG, "config_errors"}, set()),
    "storage": Rule({"errors"}, set()),
    "lease": Rule({"errors", "storage"}, set()),
    "tables": Rule({"errors", "storage"}, set()),
    "metrics": Rule(BASE | {"storage"}, set()),
    "run_dir": Rule(BASE | {"storage", "lease", "tables"}, set()),
    "stages": Rule(BASE, set()),
    "stage_dir": Rule(BASE | {"run_dir", "storage"}, set()),
    "session": Rule(BASE | {"console", "storage"}, set()),
    "stage_inputs": Rule(BASE | {*CONFIG, "stage_dir", "data", "learning", "demo"}, set()),
    "stage_run": Rule(ALL - {"launch", "submit", "run_all"}, set()),
    "run_all": Rule(ALL - {"submit"}, set()),
    "doctor": Rule({"errors", *CONFIG}, set()),
    "console": Rule(BASE | {"metrics", "stages"}, set()),
    "losses": Rule({"errors"}, {"torch"}),
    "data": Rule(BASE | {*CONFIG, "storage"}, MODELS),
    "scoring": Rule(BASE | {*CONFIG, "data"}, MODELS),
    "learning": Rule(BASE | {*CONFIG, "data", "losses"}, TRAINING),
    "demo": Rule(BASE | {*CONFIG, "data", "scoring", "learning"}, TRAINING),
    "evaluation": Rule(
        BASE | {*CONFIG, "metrics", "run_dir", "storage", "stages", "sampling", "data", "scoring"},
        {"alpaca_eval", "lm_eval"},
        heavy_only_in_functions=True,
    ),
    "dashboard": Rule(BASE | {*CONFIG, "metrics", "run_dir", "storage", "stages", "data", "scoring"}, set()),
    "sampling": Rule(BASE | {"run_dir", "storage", "stages"}, set()),
    "group_parts": Rule(BASE | {"run_dir", "stages"}, set()),
    "loop": Rule(BASE | {*CONFIG, "metrics", "run_dir", "storage", "stages", "sampling", "data"}, set()),
    "backends": Rule(BASE | {*CONFIG, "scoring", "demo"}, set()),
    "actors": Rule(EVERYTHING_BUT_LOOP, HEAVY),
    "offline": Rule(BASE | {*CONFIG, "data", "demo"}, set()),
    "inputs": Rule(
        BASE | {*CONFIG, "console", "run_dir", "storage", "data", "scoring", "learning", "demo", "offline"}, set()
    ),
    "saved_run": Rule(BASE | {"run_dir", "storage"}, set(), {"learning", "demo"}),
    "show": Rule(BASE | {"run_dir", "saved_run", "group_parts", "stages", "metrics", "console"}, set()),
    "chat": Rule(BASE | {"saved_run", "console", "data"}, set(), {"learning"}),
    "export_card": Rule(BASE | {"metrics"}, set()),
    "hub": Rule({"errors"}, set()),
    "export": Rule(BASE | {"run_dir", "saved_run", "export_card", "stages"}, set(), {"learning", "hub"}),
    "rescore": Rule(
        BASE
        | {*CONFIG, "config_file", "console", "metrics", "run_dir", "storage", "scoring", "evaluation"}
        | {"backends", "inputs", "saved_run", "data", "loop"},
        {"torch"},
        heavy_only_in_functions=True,
    ),
    "wiring": Rule(ALL - {"launch", "submit"}, set()),
    "launch": Rule(ALL, set()),
    "submit": Rule(BASE | {*CONFIG, "config_file"}, {"ray"}),
    "cli": Rule({*CONFIG, "errors", ""}, set(), ALL),
}
"""First part of a module's name below rayalign -> what it may import; a package may always import itself."""

PURE = {
    "data.prompts",
    *(f"data.{name}" for name in ("dataset", "fields", "readers", "formats", "loading")),
    *(f"data.{name}" for name in ("sources", "json_rows", "table_rows", "templates", "writers", "convert")),
    "data.selection",
    "data.judgments",
    "data.pools",
    "scoring.answer",
    "scoring.calibration",
    "scoring.isolation",
    "scoring.rule",
    "scoring.rule_calls",
    "scoring.rule_file",
    "scoring.rule_worker",
    "scoring.sources",
    "scoring.combine",
    *(f"scoring.{name}" for name in ("quoting", "verdicts", "templates", "pairs", "calls", "cache", "services")),
    *(f"scoring.{name}" for name in ("openai_transport", "llm_judge", "remote", "rubrics", "network", "canaries")),
}
"""Files of `data/` and `scoring/` that use no model and no tokenizer."""


@dataclass(frozen=True)
class Import:
    name: str
    """Dotted name, absolute."""
    line: int
    in_function: bool
    for_types: bool


def module_name(path: Path, root: Path) -> str:
    """`rayalign/loop/run.py` -> "loop.run"; the package itself is ""."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def check(module: str, tree: ast.AST, is_package: bool = False) -> list[str]:
    """One line per import that the table does not allow."""
    part = module.split(".")[0]
    if part not in RULES:
        return [f"{module}: not in the table of tests/unit/import_rules.py"]
    found = []
    for one in imports(tree, module, is_package):
        problem = _problem(one, part, module)
        if problem:
            found.append(f"rayalign.{module}, line {one.line}: {problem}")
    return found


def _problem(one: Import, part: str, module: str) -> str | None:
    rule = RULES[part]
    library, *rest = one.name.split(".")
    if library == "rayalign":
        target = rest[0] if rest else ""
        allowed = rule.internal | {part}
        if one.in_function or one.for_types:
            allowed |= rule.internal_in_functions or set()
        return None if target in allowed or target not in RULES else f"imports rayalign.{target}"
    if library not in HEAVY or one.for_types:
        return None
    if library not in rule.heavy or module in PURE:
        return f"imports {library}"
    return f"imports {library} outside a function" if rule.heavy_only_in_functions and not one.in_function else None


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
    parts = ["rayalign", *module.split(".")] if module else ["rayalign"]
    parents = parts[: len(parts) - node.level + is_package]
    return ".".join([*parents, *([node.module] if node.module else [])])
