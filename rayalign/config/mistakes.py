"""Pydantic's complaints about a config in plain words: one line each with key, value, why, and what to do."""

from __future__ import annotations

import difflib
import reprlib
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rayalign.config.run import RunConfig

SECRET = "***"
_SECRET_WORDS = {"key", "keys", "apikey", "token", "secret", "secrets", "password", "passwords", "credentials"}
_NEEDS = {
    "model_type": "a section (keys and values)",
    "model_attributes_type": "a section (keys and values)",
    "dict_type": "a section (keys and values)",
    "list_type": "a list, as in [a, b]",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "recursion_loop": "a value that does not contain itself",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_REQUIRED: dict[tuple[str | int, ...], str] = {
    ("model",): "model: {base: demo}",
    ("model", "base"): "base: demo, smollm2, a local model folder, a GGUF file or a hub id",
    ("prompts",): "prompts: {source: demo}",
    ("prompts", "source"): "source: demo, or a JSON or JSONL file",
    ("scoring",): "scoring: [{type: rule, function: demo}]",
    ("objective",): "objective: {type: nca}",
    ("data",): "data: {source: demo}",
    ("data", "source"): "source: demo, or a dataset file",
    ("rounds",): "rounds: {model: {base: stage:sft}, ...}",
}

STAGES = (("sft",), ("reward_model",), ("rounds",))

Path = tuple[str | int, ...]


def is_secret(key: str) -> bool:
    """Whether a key's name says that its value must not be shown.

    >>> [is_secret(key) for key in ("api_key", "hubToken", "max_tokens", "tokens_per_micro_batch")]
    [True, True, False, False]
    """
    spaced = "".join(f"_{c}" if c.isupper() and i and key[i - 1].islower() else c for i, c in enumerate(key))
    return not _SECRET_WORDS.isdisjoint(spaced.lower().replace("-", "_").replace(".", "_").split("_"))


def show(value: object) -> str:
    """A value in a sentence: short, on one line."""
    if value is None:
        return "nothing (null)"
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    text = "true" if value is True else "false" if value is False else _printable(short, value)
    return f"a section with the keys {text}" if isinstance(value, dict) else text


def _printable(short: reprlib.Repr, value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(short.repr(key).strip("'") for key in list(value)[:6]) or "(none)"
    return " ".join(short.repr(value).split())


def explain(error: ValidationError, data: object, root: type[BaseModel] = RunConfig) -> list[str]:
    """One line per mistake, in the order of the config, which is a `root`."""
    kept: dict[Path, str] = {}
    other_arms: list[tuple[Path, str]] = []
    located = [(detail, *_locate(detail, data)) for detail in error.errors(include_url=False)]
    words = {path: _expected(detail) for detail, path, _ in located if detail["type"] == "literal_error"}
    lists = {path for detail, path, _ in located if detail["type"] == "list_type"}
    for detail, path, fits in located:
        line = _line(path, detail, data, root, words.get(path), may_be_list=path in lists)
        if fits:
            kept.setdefault(path, line)
        else:
            other_arms.append((path, line))
    for path, line in other_arms:
        if not any(known[: len(path)] == path for known in kept):
            kept[path] = line
    return list(kept.values())


def _locate(detail: ErrorDetails, data: object) -> tuple[Path, bool]:
    """Where in the config an error is, and whether it is of the union arm that the value was meant for.

    Pydantic's location has the names of union arms between the keys: they are not in the data.
    """
    path: list[str | int] = []
    fits, value, loc = True, data, detail["loc"]
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(value, dict) and (part in value or (last and detail["type"] == "missing")):
            path.append(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
        else:
            fits = fits and _arm_fits(str(part), value)
    return tuple(path), fits


def _arm_fits(arm: str, value: object) -> bool:
    if arm.startswith("list["):
        return isinstance(value, list)
    if arm.startswith("tagged-union") or arm[:1].isupper():
        return isinstance(value, dict)
    if arm.startswith(("constrained-", "literal", "float", "int", "str")):
        return not isinstance(value, list | dict)
    return True


def _line(
    path: Path, detail: ErrorDetails, data: object, root: type[BaseModel], word: str | None, *, may_be_list: bool
) -> str:
    """One mistake in a line.

    Args:
        word: what else may stand there, written out, where the same value was also no such word.
        may_be_list: whether a list may stand there as well.
    """
    kind, context, value = detail["type"], detail.get("ctx") or {}, detail["input"]
    key = ".".join(map(str, path)) or "config"
    if kind == "extra_forbidden":
        return f"{key}: unknown key (found {_shown(path, value)}); {_suggestion(path, data, root)}"
    if kind == "missing":
        return f"{key}: missing; add it{_sample(path)}"
    if kind == "invalid_key":
        return f"{key}: found the key {show(detail['loc'][-1])}; keys are text; put it in quotes or remove it"
    if kind == "union_tag_not_found":
        return f"{key}.type: missing; add one of {_tags(path, data, root)}"
    if kind == "union_tag_invalid":
        tag = context.get("tag")
        return f"{key}.type: found {show(tag)}; use one of {_tags(path, data, root)}{_close(tag, context)}"
    found = f"{key}: found {_shown(path, value)};"
    if kind == "value_error":
        return f"{key}: {context.get('error') or detail['msg']}"
    if kind == "literal_error":
        listed = f", or a list, as in [{value}]" if may_be_list and isinstance(value, str) else ""
        return f"{found} use {_expected(detail)}{listed}{_close(value, context)}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{found} it must be {words} {context[name]}; {_example(path, data, root)}"
    if kind == "string_pattern_mismatch":
        return f"{found} use letters, digits, '.', '_' and '-' only, a letter or digit first"
    if kind in ("string_too_short", "too_short"):
        return f"{found} it must not be empty; {_example(path, data, root)}"
    if kind in _NEEDS:
        remedy = (
            f"put it in quotes: '\"{value}\"'"
            if kind == "string_type" and isinstance(value, int | float)
            else _example(path, data, root)
        )
        return f"{found} it must be {_NEEDS[kind]}{f', or {word}' if word else ''}; {remedy}"
    return f"{found} {detail['msg'][:1].lower()}{detail['msg'][1:]}; {_example(path, data, root)}"


def _expected(detail: ErrorDetails) -> str:
    """The words that a literal may be."""
    return str((detail.get("ctx") or {}).get("expected", "")).replace("'", "")


def _shown(path: Path, value: object) -> str:
    return SECRET if any(is_secret(str(part)) for part in path) else show(value)


def _close(value: object, context: Mapping[str, object]) -> str:
    options = [o.strip(" '") for o in str(context.get("expected", context.get("expected_tags", ""))).split(",")]
    near = difflib.get_close_matches(str(value), options, 1) if len(options) > 1 else []
    return f"; did you mean {near[0]}?" if near else ""


def _sample(path: Path) -> str:
    required = _required(path)
    return f", for example {required}" if required else ""


def _required(path: Path) -> str | None:
    """What to write for a key without default; in `rayalign all` it stands in the section of its stage."""
    inside = path[1:] if path[:1] in STAGES else path
    return _REQUIRED.get(path) or _REQUIRED.get(inside)


def _example(path: Path, data: object, root: type[BaseModel]) -> str:
    """What to write there: the default, or an example for the keys that have none."""
    if required := _required(path):
        return f"for example {required}"
    model = model_at(path[:-1], data, root)
    field = model.model_fields.get(str(path[-1])) if model and path else None
    if field is not None and isinstance(field.default, BaseModel):
        return "write its keys under it, or leave it out to get the defaults"
    if field is None or field.is_required():
        return f"give {path[-1] if path else 'the file'} such a value"
    return f"the default is {show(field.default)}"


def _suggestion(path: Path, data: object, root: type[BaseModel]) -> str:
    name, model = str(path[-1]), model_at(path[:-1], data, root)
    siblings = list(model.model_fields) if model else []
    if types := [str(_tag(arm)) for arm in _arms(path[:-1], data, root) if _tag(arm) and name in arm.model_fields]:
        return f"it is a key of another type there: type {' or '.join(types)}"
    near = difflib.get_close_matches(name, siblings, 1)
    if near:
        return f"did you mean {near[0]}?"
    homes = dict.fromkeys(home for home in _homes(root, ()) if home.rpartition(".")[2] == name)
    if homes:
        return f"this key belongs in {' or '.join(homes)}"
    return f"the keys there are {', '.join(siblings)}" if siblings else "remove it"


def _homes(model: type[BaseModel], prefix: tuple[str, ...]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        dotted = (*prefix, name)
        yield ".".join(dotted)
        for inner in dict.fromkeys(_models(field.annotation)):
            yield from _homes(inner, dotted)


def _tags(path: Path, data: object, root: type[BaseModel]) -> str:
    return ", ".join(dict.fromkeys(str(_tag(arm)) for arm in _arms(path, data, root)))


def _arms(path: Path, data: object, root: type[BaseModel]) -> list[type[BaseModel]]:
    """The models of which one stands at `path`, by its type."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    model = model_at(path[:-1], data, root) if path else None
    field = model.model_fields.get(str(path[-1])) if model else None
    return _models(field.annotation) if field else []


def model_at(path: Path, data: object, root: type[BaseModel] = RunConfig) -> type[BaseModel] | None:
    """The config model whose keys may stand at `path`; a union's arm is chosen by the `type` in the data."""
    model: type[BaseModel] | None = root
    arms: list[type[BaseModel]] = []
    for part in path:
        data = _inside(data, part)
        if isinstance(part, str):
            field = model.model_fields.get(part) if model else None
            arms = _models(field.annotation) if field else []
        tag = data.get("type") if isinstance(data, dict) else None
        model = next((arm for arm in arms if _tag(arm) == tag and tag is not None), arms[0] if arms else None)
    return model


def _inside(data: object, part: str | int) -> object:
    if isinstance(data, list):
        return data[part] if isinstance(part, int) and part < len(data) else None
    return data.get(part) if isinstance(data, dict) else None


def _tag(model: type[BaseModel]) -> object:
    field = model.model_fields.get("type")
    values = get_args(field.annotation) if field else ()
    return values[0] if values else None


def _models(annotation: object) -> list[type[BaseModel]]:
    """The models inside an annotation such as `A | list[Annotated[B | C, ...]]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Literal:
        return []
    args = get_args(annotation)
    if get_origin(annotation) is Annotated:
        args = args[:1]
    elif get_origin(annotation) not in (Union, types.UnionType, list):
        return []
    return list(dict.fromkeys(model for arg in args for model in _models(arg)))
