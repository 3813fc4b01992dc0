"""Which files of a folder are one split of one dataset, in a folder as the Hugging Face hub has it. Pure.

README.md with `configs:`             main: train, test    socratic: train    the default config's, else the only one's
train-00000-of-00001.parquet          the split stands before the numbers, whatever its name
train.jsonl  test/a.jsonl             the split is the first or last word of the file's or a folder's name

Split `train` is read where none is named. What cannot be told is refused.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from rayalign.errors import DataError

Config = Mapping[str, object]
"""What a README.md says of one config: `data_files`, `data_dir`, `default`."""
_KINDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("validation", "valid", "dev", "val"), "validation"),
}
_SHARD = re.compile(r"(?P<split>\w[\w.]*)-\d{5}-of-\d{5}")
_PART = re.compile(r"[-_.]?(?:part|shard|chunk)?[-_.]?\d+$")


def choose(names: Sequence[str], readme: str, config: str | None, split: str | None, source: str) -> list[str]:
    """Those of a folder's data files that are one split, in their order.

    Args:
        names: paths of the data files in the folder.
        readme: the text of its README.md; empty where there is none.
        config: the config that is named, if any.
        split: the split that is named, if any.

    Raises:
        DataError: there is no such config or split, or none is named and it cannot be told; `source` names the folder.
    """
    if config is None and split is None and len(names) < 2:
        return list(names)
    configs = configs_in(readme)
    splits = _of_patterns(names, _one_of(configs, config, source)) if configs else _of_names(names)
    numbered = any(_SHARD.search(name) for name in names)
    if split is None and not configs and not numbered and all(not name or _kind(name) == "train" for name in splits):
        return list(names)
    return _split(splits, split, source)


def _one_of(configs: Mapping[str, Config], config: str | None, source: str) -> Config:
    default = [name for name, one in configs.items() if name == "default" or one.get("default") is True]
    name = config or next(iter(default or configs))
    if name in configs and (config or default or len(configs) == 1):
        return configs[name]
    found = f"no config {config}" if config else f"{len(configs)} configs, none of them the default"
    remedy = f"name one: {source.partition(':')[0]}/{next(iter(configs))}"
    raise DataError(f"{source}: {found}", f"the configs of its README.md are {', '.join(configs)}", remedy)


def _split(splits: Mapping[str, list[str]], split: str | None, source: str) -> list[str]:
    """The files of the named split, else of the one that is for training."""
    named = {name: files for name, files in splits.items() if name}
    alike = [name for name in named if _kind(name) == _KINDS.get(split or "train", split)]
    if split in named:
        return named[split]
    if split is None and len(splits) == 1:
        return next(iter(splits.values()))
    if split is None and "" in splits and not alike:
        return splits[""]
    if split is not None or "" not in splits:
        if "train" in named and split is None:
            return named["train"]
        if len(alike) == 1:
            return named[alike[0]]
    where = source.removesuffix(f":{split}")
    example = next(iter([*alike, *named]), "train")
    raise DataError(
        f"{source}: no split {split}" if split else f"{source}: the split to read cannot be told",
        f"its files are of the splits {', '.join(named) or 'none'}{', and some of none' if '' in splits else ''}",
        f"name one behind the folder, for example {where}:{example}, or give the file itself",
    )


def _kind(split: str) -> str:
    words = [word for word in re.split(r"[^a-z0-9]+", split.lower()) if word]
    return next((_KINDS[word] for word in (words[:1] + words[-1:]) if word in _KINDS), split)


def _of_names(names: Sequence[str]) -> dict[str, list[str]]:
    """Split -> its files, by their names; "" for those whose name tells none."""
    splits: dict[str, list[str]] = {}
    for name in names:
        splits.setdefault(_split_in(name), []).append(name)
    return splits


def _split_in(name: str) -> str:
    path = PurePosixPath(name)
    if shard := _SHARD.match(path.name):
        return shard["split"]
    for part in (path.name.split(".")[0], *reversed(path.parts[:-1])):
        bare = _PART.sub("", part)
        if (kind := _kind(bare)) in _KINDS.values():
            return kind if bare.lower() in _KINDS else bare
    return ""


def configs_in(readme: str) -> dict[str, Config]:
    """The configs that the YAML at the head of a README.md has, by name."""
    import yaml

    head = re.match(r"\s*---\s*\n(.*?)\n---", readme, re.DOTALL)
    try:
        card = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return {}
    listed = card.get("configs") if isinstance(card, Mapping) else None
    items = listed if isinstance(listed, list) else []
    return {str(one["config_name"]): one for one in items if isinstance(one, Mapping) and "config_name" in one}


def _of_patterns(names: Sequence[str], config: Config) -> dict[str, list[str]]:
    """Split -> its files, as a config of README.md has them."""
    inside = f"{str(config.get('data_dir', '')).strip('./')}/".lstrip("/")
    listed = config.get("data_files")
    if listed is None:
        return _of_names([name for name in names if name.startswith(inside)])
    pairs = listed.items() if isinstance(listed, Mapping) else [_pair(one) for one in _list(listed)]
    splits: dict[str, list[str]] = {}
    for split, patterns in pairs:
        matches = [name for name in names if any(_matches(name, inside + str(one)) for one in _list(patterns))]
        splits.setdefault(str(split), []).extend(matches)
    return {split: files for split, files in splits.items() if files}


def _pair(one: object) -> tuple[object, object]:
    return (one.get("split", "train"), one.get("path")) if isinstance(one, Mapping) else ("train", one)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _matches(name: str, pattern: str) -> bool:
    pattern = pattern.removeprefix("./")
    plain = pattern.replace("**/", "")
    return any(fnmatch.fnmatchcase(name, one) for one in (pattern, plain, f"{pattern.rstrip('/')}/*"))
