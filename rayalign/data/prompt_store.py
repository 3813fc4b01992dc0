"""A source's prompts, tokenised, on local disk: memory holds their ids alone, however many there are."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from rayalign.data.drawing import mark_of
from rayalign.data.scratch_db import ScratchDb
from rayalign.records import Prompt

AT_ONCE = 500
_TABLE = """CREATE TABLE prompts
    (position INTEGER PRIMARY KEY, id BLOB UNIQUE, mark INTEGER, messages TEXT, tokens BLOB, target TEXT,
    metadata TEXT)"""
_INSERT = "INSERT INTO prompts (id, mark, messages, tokens, target, metadata) VALUES (?, ?, ?, ?, ?, ?)"


class PromptStore:
    """Distinct prompts in the order they were added, read by id. Threads may share one."""

    def __init__(self) -> None:
        self._db = ScratchDb(_TABLE)
        self.duplicates = 0
        """Prompts that were there already; a target that the first one lacked was taken over."""

    def add(self, prompts: Iterable[Prompt]) -> None:
        source = iter(prompts)
        while some := list(islice(source, AT_ONCE)):
            with self._db.writing() as db:
                for prompt in some:
                    self._add(db, prompt)

    def _add(self, db: sqlite3.Connection, prompt: Prompt) -> None:
        key = prompt.id.encode()
        there = db.execute("SELECT target FROM prompts WHERE id = ?", (key,)).fetchone()
        if there is None:
            tokens = np.array(prompt.token_ids, dtype=np.int32).tobytes()
            texts = json.dumps(prompt.messages), tokens, prompt.target, json.dumps(prompt.metadata)
            db.execute(_INSERT, (key, mark_of(prompt.metadata.get("split")), *texts))
            return
        self.duplicates += 1
        if there[0] is None and prompt.target is not None:
            db.execute("UPDATE prompts SET target = ? WHERE id = ?", (prompt.target, key))

    def keep(self, ids_N: np.ndarray) -> None:
        """Forget all prompts but these."""
        mine_N, _ = self.ids()
        with self._db.writing() as db:
            gone = mine_N[~np.isin(mine_N, ids_N)]
            db.executemany("DELETE FROM prompts WHERE id = ?", ((bytes(key),) for key in gone))

    @property
    def has_targets(self) -> bool:
        return bool(self._db.all("SELECT 1 FROM prompts WHERE target IS NOT NULL LIMIT 1"))

    def __len__(self) -> int:
        return self._db.all("SELECT count(*) FROM prompts")[0][0]

    def ids(self) -> tuple[np.ndarray, np.ndarray]:
        """([N] ids as byte strings, [N] their marks (`drawing.mark_of`)), in the order they were added."""
        count = len(self)
        width = self._db.all("SELECT max(length(id)) FROM prompts")[0][0] or 1
        ids_N, marks_N = np.empty(count, dtype=f"S{width}"), np.empty(count, dtype=np.int8)
        for i, (key, mark) in enumerate(self._db.each("SELECT id, mark FROM prompts ORDER BY position")):
            ids_N[i], marks_N[i] = key, mark
        return ids_N, marks_N

    def take(self, ids: Sequence[bytes] | np.ndarray) -> list[Prompt]:
        """The prompts of these ids, in their order.

        Raises:
            KeyError: one is not here.
        """
        return list(self.stream(ids))

    def stream(self, ids: Sequence[bytes] | np.ndarray) -> Iterator[Prompt]:
        """`take`, a few at a time."""
        for start in range(0, len(ids), AT_ONCE):
            some = [bytes(key) for key in ids[start : start + AT_ONCE]]
            marks = ",".join("?" * len(some))
            query = f"SELECT id, messages, tokens, target, metadata FROM prompts WHERE id IN ({marks})"
            found = {key: rest for key, *rest in self._db.all(query, some)}
            for key in some:
                messages, tokens, target, metadata = found[key]
                token_ids = np.frombuffer(tokens, dtype=np.int32).tolist()
                yield Prompt(key.decode(), json.loads(messages), token_ids, target, json.loads(metadata))

    def digests(self, ids: np.ndarray) -> dict[str, str]:
        """Checksums of what these prompts hold beside their messages: `tokens`, `targets` and `metadata`.

        They depend on the prompts and on their order, and not on the order of an object's keys.
        """
        parts = {name: hashlib.sha256() for name in ("tokens", "targets", "metadata")}
        for prompt in self.stream(ids):
            for digest, part in zip(parts.values(), (prompt.token_ids, prompt.target, prompt.metadata), strict=True):
                digest.update(json.dumps([prompt.id, part], sort_keys=True).encode() + b"\n")
        return {name: digest.hexdigest() for name, digest in parts.items()}

    def __getitem__(self, identity: str) -> Prompt:
        return self.take([identity.encode()])[0]
