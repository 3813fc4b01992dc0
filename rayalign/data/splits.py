"""Which files of a folder are one split of one dataset, in a folder as the Hugging Face hub has it. Pure.

README.md with `configs:`             main: train, test    socratic: train    the default config's, else the only one's
train-00000-of-00001.parquet          the split stands before the numbers, whatever its name
train.jsonl  my_test_1.jsonl  test/a.jsonl   the split is a word of the file's or a folder's name

Split `train` is read where none is named. What cannot be told is refused, and so are files of which some are missing.
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
_SHARD = re.compile(r"(?P<split>\w[\w.-]*)-\d{5}-of-\d{5}")
_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<of>[-_]of[-_](?P<total>\d+))(?![^./]*/)")
_MOST = 100_000
"""Numbered files that are looked for: a larger number in a name is not how many there are."""
_PART = re.compile(r"[-_.]?(?:part|shard|chunk)?[-_.]?\d+$")


def choose(names: Sequence[str], readme: str, config: str | None, split: str | None, source: str) -> list[str]:
    """Those of a folder's data files that are one split, in their order.

    Args:
        names: paths of the data files in the folder.
        readme: the text of its README.md; empty where there is none.
        config: the config that is named, if any.
        split: the split that is named, if any.

    Raises:
        DataError: there is no such config or split, or none is named and it cannot be told, or a file of the split is
            missing; `source` names the folder.
    """
    chosen = _chosen(names, readme, config, split, source)
    if missing := _missing(chosen):
        some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        why = "the numbers in the names of the others say that it belongs to them, as after a download that broke off"
        remedy = "download it again; to read what is there, give one file itself, or rename them without numbers"
        raise DataError(f"{source}: missing: {some}", why, remedy)
    return chosen


def _chosen(names: Sequence[str], readme: str, config: str | None, split: str | None, source: str) -> list[str]:
    if config is None and split is None and len(names) < 2:
        return list(names)
    if configs := configs_in(readme):
        named = _one_of(configs, config, split, source)
        splits = _of_patterns(names, configs[named])
        files = _split(splits, split, source) if any(splits.values()) else []
        if not files:
            found = f"{source}: no file in it is of split {split or 'train'} of config {named}"
            why = "data_files and data_dir of that config in its README.md match none of the files for it"
            raise DataError(found, why, "download what is missing, mend its README.md, or give a data file itself")
        return files
    splits = _of_names(names)
    numbered = any(_SHARD.search(name) for name in names)
    if split is None and not numbered and all(not name or _kind(name) == "train" for name in splits):
        return list(names)
    return _split(splits, split, source)


def _missing(names: Sequence[str]) -> list[str]:
    """The files that are not there of those that are numbered, as in train-00000-of-00003.parquet."""
    groups: dict[tuple[str, str], list[re.Match[str]]] = {}
    for name in names:
        if match := _NUMBERED.match(name):
            groups.setdefault((match["before"], match["of"]), []).append(match)
    missing: list[str] = []
    for (before, of), parts in groups.items():
        total, there = int(parts[0]["total"]), {int(part["number"]) for part in parts}
        first = int(0 not in there and total in there)
        end = PurePosixPath(parts[0].string).suffix
        width = len(parts[0]["number"])
        numbers = (n for n in range(first, first + min(total, _MOST)) if n not in there)
        missing += [f"{before}{number:0{width}d}{of}{end}" for number in numbers]
    return missing


def _one_of(configs: Mapping[str, Config], config: str | None, split: str | None, source: str) -> str:
    """The name of the config that is named, else of the default, else of the only one."""
    default = [name for name, one in configs.items() if name == "default" or one.get("default") is True]
    name = config or next(iter(default or configs))
    if name in configs and (config or default or len(configs) == 1):
        return name
    where = source.removesuffix(f":{split}").removesuffix(f"/{config}")
    found = f"no file or config {config}" if config else f"{len(configs)} configs, none of them the default"
    remedy = f"name one: {where}/{next(iter(configs))}"
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
    there = [name for name in named if named[name]]
    example = next((name for name in [*alike, *there] if name in there), "train")
    raise DataError(
        f"{source}: no split {split}" if split else f"{source}: the split to read cannot be told",
        f"its files are of the splits {', '.join(there) or 'none'}{', and some of none' if '' in splits else ''}",
        f"name one behind the folder, for example {where}:{example}, or give the file itself",
    )


def _kind(split: str) -> str:
    words = [word for word in re.split(r"[^a-z]+", split.lower()) if word]
    return next((_KINDS[word] for word in (words[:1] + words[-1:] + words) if word in _KINDS), split)


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
    stem = path.name.removesuffix(".gz").rpartition(".")[0]
    for part in (stem.split(".")[0], stem, *reversed(path.parts[:-1])):
        bare = _PART.sub("", part)
        if (kind := _kind(bare)) in _KINDS.values():
            return kind if bare.lower() in _KINDS else bare
    return ""


def configs_in(readme: str) -> dict[str, Config]:
    """The configs that the YAML at the head of a README.md has, by name.

    Raises:
        DataError: it has some, and cannot be read.
    """
    import yaml

    head = re.match(r"\s*---\s*\n(.*?)\n---", readme, re.DOTALL)
    try:
        card = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError as error:
        if head and re.search(r"^configs\s*:", head[1], re.MULTILINE):
            found = f"README.md beside the data: {' '.join(str(error).split())}"
            why = "its head says which files are which dataset, and is not YAML"
            raise DataError(found, why, "mend it, or remove it where all files are one dataset") from None
        return {}
    listed = card.get("configs") if isinstance(card, Mapping) else None
    items = listed if isinstance(listed, list) else []
    return {str(one.get("config_name", "default")): one for one in items if isinstance(one, Mapping)}


def _of_patterns(names: Sequence[str], config: Config) -> dict[str, list[str]]:
    """Split -> its files, as a config of README.md has them; none for a split whose patterns match no file."""
    inside = f"{str(config.get('data_dir') or '').strip('./')}/".lstrip("/")
    listed = config.get("data_files")
    if listed is None:
        return _of_names([name for name in names if name.startswith(inside)])
    pairs = listed.items() if isinstance(listed, Mapping) else [_pair(one) for one in _list(listed)]
    splits: dict[str, list[str]] = {}
    for split, patterns in pairs:
        matches = [name for name in names if any(_matches(name, inside + str(one)) for one in _list(patterns))]
        splits.setdefault(str(split), []).extend(matches)
    return splits


def _pair(one: object) -> tuple[object, object]:
    return (one.get("split", "train"), one.get("path")) if isinstance(one, Mapping) else ("train", one)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern of README.md is of a file: `*` stays in one folder, `**` is any, a folder all below it."""
    wanted = [part for part in pattern.split("/") if part not in ("", ".")]
    below = [] if any(mark in pattern for mark in "*?[") else ["**"]
    return _parts_match(name.split("/"), [*wanted, *below])


def _parts_match(parts: list[str], wanted: list[str]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_parts_match(parts[start:], wanted[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and _parts_match(parts[1:], wanted[1:])
