"""The house stands: imports go down by the floors, files and functions stay short."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.unit.import_rules import check, module_name

ROOT = Path(__file__).parents[2] / "rayalign"
FILES = sorted(ROOT.rglob("*.py"))
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert check(module_name(path, ROOT), tree, path.name == "__init__.py") == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES
    functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    lengths = {function.name: (function.end_lineno or 0) - function.lineno + 1 for function in functions}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("loop.run", "import ray"),
        ("loop.run", "def f():\n    import torch.nn as nn"),
        ("loop.run", "from rayalign.actors.pool import Pool"),
        ("loop.run", "from rayalign import actors"),
        ("loop.run", "from ..actors import pool"),
        ("loop.run", "def f():\n    from rayalign.launch import run"),
        ("loop.run", "if TYPE_CHECKING:\n    from rayalign.actors import pool"),
        ("loop.run", "import importlib\nimportlib.import_module('vllm')"),
        ("losses.nca", "from rayalign.config import base"),
        ("losses.nca", "import transformers"),
        ("learning.step", "import deepspeed"),
        ("learning.step", "try:\n    import ray\nexcept ImportError:\n    pass"),
        ("actors.learner", "from rayalign.loop import run"),
        ("actors.learner", "from rayalign import launch"),
        ("scoring.scorers", "def f():\n    from rayalign.demo import world"),
        ("scoring.answer", "from rayalign.data.prompts import PromptRows"),
        ("scoring.answer", "import torch"),
        ("store.saved_run", "from rayalign.config.file import redact"),
        ("records.rows", "from rayalign.parts import Scorer"),
        ("errors", "from rayalign.records import Prompt"),
        ("commands.export", "import ray"),
        ("data.prompts", "import transformers"),
        ("evaluation.alpaca", "import alpaca_eval"),
        ("evaluation.alpaca", "def f():\n    import torch"),
        ("cli", "from rayalign.launch import run"),
        ("cli", "def f():\n    import ray"),
        ("__init__", "from rayalign.config.file import load_config"),
        ("newcomer", ""),
    ],
)
def test_the_checker_catches(module: str, source: str) -> None:
    assert len(check(module, ast.parse(source))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("loop.run", "from rayalign.loop.round import produce\nfrom . import guards\nfrom ..parts import Scorer"),
        ("loop.run", "if TYPE_CHECKING:\n    import torch"),
        ("losses.nca", "import torch\nfrom rayalign.errors import ConfigError"),
        ("evaluation.alpaca", "def f():\n    import alpaca_eval"),
        ("actors.learner", "import ray, deepspeed\nfrom rayalign.learning import step"),
        ("scoring.models.encoder", "import torch\nfrom rayalign.store.folder import Folder"),
        ("commands.submit", "from ray.job_submission import JobStatus"),
        ("commands.score", "def f():\n    import torch"),
        ("cli", "from rayalign import __version__\ndef f():\n    from rayalign.launch import run"),
        ("__init__", "if TYPE_CHECKING:\n    from rayalign.launch.run import run"),
        ("__main__", "from rayalign.cli import main"),
    ],
)
def test_the_checker_allows(module: str, source: str) -> None:
    assert check(module, ast.parse(source)) == []


def test_relative_imports_of_a_package_are_resolved() -> None:
    assert check("loop", ast.parse("from .run import x"), is_package=True) == []
    assert check("loop", ast.parse("from ..actors import x"), is_package=True) != []
