"""What stands where something else should: values, texts, bytes and files, all from a seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**200, -0.0, 0.5, 1e-320, 1e308, float("inf"), float("-inf"),
    float("nan"), "", " ", "0", "1e9", "true", "null", "auto", "demo", "../../etc/passwd", "/dev/null", "~nobody/x",
    "a" * 5000, "\x00", "\ud800", "ünïcode", "‮אבג", "<script>alert(1)</script>", "%s{}{0}${x}", "\n\n", "'\"", "-", ":",
    [], {}, [[]], [None], ["a", 1, None], {"a": {"b": {"c": []}}}, {"type": "x"}, [{}] * 3, {"": 1}, {"type": ["rule"]},
]  # fmt: skip


def value(rng: random.Random, depth: int = 0) -> Any:
    if depth < 3 and rng.random() < 0.2:
        if rng.random() < 0.5:
            return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
        return {text(rng): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return copy.deepcopy(rng.choice(VALUES))


def text(rng: random.Random) -> str:
    alphabet = "aZ09 _-.:#&*!|>'\"%@`{}[],\t\n\\é\x07"
    return "".join(rng.choice(alphabet) for _ in range(rng.randrange(12)))


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all that is in a tree of mappings and lists."""
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield (*path, key)
            yield from places(data[key], (*path, key))


def changed(rng: random.Random, data: Any) -> Any:
    """A copy of a tree with one to three places otherwise: another value, none, a new key, or one of elsewhere."""
    data = json.loads(json.dumps(data))
    for _ in range(rng.randint(1, 3)):
        all_places = list(places(data))
        if not all_places:
            return value(rng)
        *path, key = rng.choice(all_places)
        holder = data
        for step in path:
            holder = holder[step]
        what = rng.random()
        if what < 0.6:
            holder[key] = value(rng)
        elif what < 0.75:
            del holder[key]
        elif what < 0.9 and isinstance(holder, dict):
            holder[text(rng)] = value(rng)
        else:
            *from_path, from_key = rng.choice(all_places)
            try:
                source = data
                for step in [*from_path, from_key]:
                    source = source[step]
                holder[key] = json.loads(json.dumps(source))
            except (KeyError, IndexError, TypeError, ValueError):
                holder[key] = value(rng)
    return data


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Bytes of which some are missing, turned, doubled or others."""
    what, size = rng.randrange(7), len(content)
    start = rng.randrange(size + 1)
    end = min(size, start + rng.randrange(1, 65))
    if what == 0:
        return content[:start]
    if what == 1:
        return content[:start] + bytes(byte ^ (1 << rng.randrange(8)) for byte in content[start:end]) + content[end:]
    if what == 2:
        return content[:start] + content[end:]
    if what == 3:
        return content[:start] + content[start:end] * 3 + content[end:]
    if what == 4:
        return content[:start] + rng.randbytes(rng.randrange(1, 33)) + content[start:]
    if what == 5:
        return rng.choice([b"", b"\x00" * size, b"\xff\xfe", b"null", b"[]", b"{}", b"\xef\xbb\xbf" + content])
    return rng.randbytes(rng.randrange(1, 200))
