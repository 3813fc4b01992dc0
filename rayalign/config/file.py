"""Reading a round config: YAML, `--set` overrides, and every mistake at once in plain words.

`load_config` raises nothing but `ConfigError`. `resolved_yaml` writes a config back with its secrets redacted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from rayalign.config.base import Section
from rayalign.config.benchmarks import BenchmarkConfig, BenchmarkFile
from rayalign.config.mistakes import SECRET, explain, is_secret, show
from rayalign.config.run import RunConfig
from rayalign.config.scoring import ScorerFile
from rayalign.errors import ConfigError
from rayalign.records import JsonObject

T = TypeVar("T", bound=Section)
START = "start from configs/quickstart.yaml"
# PyYAML leaks these from scalars such as `0x` or a number of 5000 digits, and from nesting without end.
_LEAKS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
_CREDENTIALS_IN_URL = re.compile(r"(://)[^/@\s]+@")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `1e-4` is a number and a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":float", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
            |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
            |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
            |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
        re.VERBOSE,
    ),
    list("-+0123456789."),
)


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """The round config in a YAML file; arguments and errors are those of `load_config_of`."""
    return load_config_of(RunConfig, path, overrides)


def load_config_of(kind: type[T], path: Path | str, overrides: Sequence[str] = (), *, start: str = START) -> T:
    """The config of a command in a YAML file, with `a.b=c` overrides applied.

    Args:
        start: what to do for a file that is right, for errors.

    Raises:
        ConfigError: the file, an override or a value cannot be used; all wrong values are named at once.
    """
    needed = [name for name, field in kind.model_fields.items() if field.is_required()]
    form = f"a config is a mapping of sections such as {', '.join(list(kind.model_fields)[:3])}"
    data = _mapping(path, overrides, f"it needs {' and '.join(needed)}", form, start)
    return _validated(kind, data, path, overrides)


def load_scorers(path: Path | str, overrides: Sequence[str] = ()) -> ScorerFile:
    """The scorers in a YAML file: a `scoring` list and perhaps `combine`, or one scorer's keys alone.

    Raises:
        ConfigError: as `load_config`.
    """
    start = "write it as in scoring: [{type: rule, function: demo}]"
    needs = "a scorer file is a mapping: scoring, a list, and perhaps combine; or the keys of one scorer"
    data = _mapping(path, overrides, needs, needs, start)
    if "type" in data:
        data = {"scoring": [data]}
    if unknown := [str(key) for key in data if key not in ScorerFile.model_fields]:
        raise ConfigError(f"{path}: the key {unknown[0]}", needs, f"remove it, or {start}")
    return _validated(ScorerFile, data, path, overrides)


def load_benchmark(path: Path | str, overrides: Sequence[str] = ()) -> BenchmarkConfig:
    """The benchmark in a YAML file, whose keys stand there as in an entry of `evaluation.benchmarks`.

    Raises:
        ConfigError: as `load_config`.
    """
    start = "write it as in type: rating"
    data = _mapping(path, overrides, "it needs type", "a benchmark file is a mapping with a type", start)
    return benchmark_from(data, path, overrides)


def benchmark_from(data: JsonObject, source: Path | str, overrides: Sequence[str] = ()) -> BenchmarkConfig:
    """A benchmark from its keys. Arguments and errors as of `load_benchmark`, where the keys may stand in no file."""
    return _validated(BenchmarkFile, {"benchmark": data}, source, overrides).benchmark


def overridden(data: JsonObject, overrides: Sequence[str]) -> JsonObject:
    """A copy of `data` with `a.b=c` overrides applied.

    Raises:
        ConfigError: an override cannot be.
    """
    for override in overrides:
        data = _apply(data, override)
    return data


def _mapping(path: Path | str, overrides: Sequence[str], needs: str, form: str, start: str) -> JsonObject:
    data = _parse(_read(path, start), str(path))
    if data is None:
        raise ConfigError(f"{path}: the file is empty", needs, start)
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: the top level is {show(data)}", form, start)
    return overridden(data, overrides)


def _validated(model: type[T], data: JsonObject, path: Path | str, overrides: Sequence[str]) -> T:
    try:
        return model.model_validate(data, strict=True)
    except ValidationError as error:
        lines = explain(error, data, model)
        counted = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        source = f"{path} with --set {' --set '.join(_hidden(o) for o in overrides)}" if overrides else str(path)
        raise ConfigError("\n".join([f"{source}: {counted}", *(f"  {line}" for line in lines)])) from None


def with_defaults(saved: JsonObject, kind: type[Section] = RunConfig) -> JsonObject:
    """A saved config with the defaults of all keys that it lacks; as it is where this version cannot read it."""
    try:
        return kind.model_validate(saved, strict=True).to_dict()
    except ValidationError:
        return saved


def resolved_yaml(config: Section) -> str:
    """The whole config, defaults included, as YAML without secrets."""
    return yaml.safe_dump(redact(config.to_dict()), sort_keys=False, allow_unicode=True, width=120)


def redact(data: JsonObject) -> JsonObject:
    """`data` with "***" in place of what stands under a key such as `api_key`, and of passwords in URLs."""
    return {name: _redacted(item, str(name)) for name, item in data.items()}


def _redacted(value: object, key: str = "") -> object:
    if isinstance(value, dict):
        return redact(value)
    # `api_key_env` names the variable that holds a key, and the config could not be used again without the name.
    if is_secret(key) and not key.endswith("_env") and value is not None:
        return SECRET
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return _CREDENTIALS_IN_URL.sub(rf"\1{SECRET}@", value) if isinstance(value, str) else value


def _hidden(override: str) -> str:
    key, equals, _ = override.partition("=")
    return f"{key}={SECRET}" if equals and is_secret(key.rpartition(".")[2]) else override


def _read(path: Path | str, start: str) -> str:
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read config {str(path)!r}: {reason}", remedy=f"check the path, or {start}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        why = "a config is UTF-8 text"
        raise ConfigError(f"{path}: line {line} is not UTF-8 text", why, "save the file as UTF-8") from None


def _parse(text: str, where: str) -> object:
    """The value of a YAML text.

    Raises:
        ConfigError: broken YAML or a duplicate key, with line and column.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        _refuse_duplicates(node, where)
        return None if node is None else loader.construct_document(node)
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        found = f"{where}:{place}: {problem}" if place else f"{where}: {problem}"
        raise ConfigError(found, "this is not valid YAML", "check indentation, quotes and brackets there") from None
    except (yaml.YAMLError, *_LEAKS) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{where}: {problem}", "this YAML cannot be read", START) from None


def _refuse_duplicates(root: yaml.Node | None, where: str) -> None:
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            waiting.extend(part for pair in node.value for part in pair)
            _refuse_duplicate_keys(node, where)


def _refuse_duplicate_keys(node: yaml.MappingNode, where: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        line = key.start_mark.line + 1
        if key.value in lines:
            found = f"{where}: line {line}: the key {key.value!r} stands there again (first on line {lines[key.value]})"
            raise ConfigError(found, "one of the two values would be lost", "remove one of them")
        lines[key.value] = line


def _apply(data: JsonObject, override: str) -> JsonObject:
    """A copy of `data` with one `a.b=c` set; containers off the path are shared, so YAML aliases stay apart."""
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override!r}", "it must read key=value", "for example --set run.rounds=3")
    changed = _with(data, keys, _parse(text, f"--set {_hidden(override)}"), override, 0)
    assert isinstance(changed, dict)
    return changed


def _with(container: object, keys: list[str], value: object, override: str, depth: int) -> object:
    if depth == len(keys):
        return value
    key, at = keys[depth], ".".join(keys[:depth])
    if isinstance(container, list):
        index = int(key) if key.isascii() and key.isdigit() and len(key) < 10 else -1
        if not 0 <= index < len(container):
            why = f"{at} is a list of {len(container)}, so an item is named by a number from 0"
            remedy = f"for example {at}.{max(0, len(container) - 1)}, or give the whole list: --set '{at}=[...]'"
            raise ConfigError(f"--set {_hidden(override)}: no item {key!r} in {at}", why, remedy)
        changed = list(container)
        changed[index] = _with(container[index], keys, value, override, depth + 1)
        return changed
    if container is None:
        container = {}
    if not isinstance(container, dict):
        why = f"{at} is {show(container)}, which has no keys inside"
        remedy = f"set {at} itself: --set '{at}=...'"
        raise ConfigError(f"--set {_hidden(override)}: cannot set {key!r} in {at}", why, remedy)
    if container.get(key) is None and depth + 1 < len(keys) and keys[depth + 1].isdigit():
        here = ".".join(keys[: depth + 1])
        remedy = f"give the whole list: --set '{here}=[...]'"
        raise ConfigError(f"--set {_hidden(override)}: {here} has no items", "the file gives no such list", remedy)
    return {**container, key: _with(container.get(key), keys, value, override, depth + 1)}
