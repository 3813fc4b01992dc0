"""The version of code that scores: a hash of what it defines, not of the files in which that stands today."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from pathlib import Path
from types import ModuleType


def definitions_digest(*sources: ModuleType | type | Path) -> str:
    """SHA-256 of the definitions of modules, classes or Python files.

    Imports, docstrings, comments, layout and the order of the definitions do not count, so that neither moving a
    definition within these sources nor describing it better asks a judge again for what it has answered. The same for
    every Python version.
    """
    trees = [ast.parse(_text(source)) for source in sources]
    statements = [json.dumps(_shape(node)) for tree in trees for node in tree.body if not _silent(node)]
    return hashlib.sha256("\n".join(sorted(statements)).encode()).hexdigest()


def _text(source: ModuleType | type | Path) -> str:
    return source.read_text(encoding="utf-8") if isinstance(source, Path) else inspect.getsource(source)


def _silent(node: ast.AST) -> bool:
    """Whether a statement computes nothing: an import, or a text that stands alone."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.Import | ast.ImportFrom)


def _shape(node: object) -> object:
    """A node as lists; fields without a value are left out, since newer versions of Python have more of them."""
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return [type(node).__name__, *([name, _shape(value)] for name, value in fields)]
    if isinstance(node, list):
        return [_shape(one) for one in node if not (isinstance(one, ast.AST) and _silent(one))]
    return node if isinstance(node, str | int) else [repr(node)]
