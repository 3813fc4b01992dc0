"""What a run's committed shards say of each prompt, added up once per shard and kept in memory by DuckDB.

rounds/*/{samples,scores}/*.parquet ─► answered  one row per purpose, round and prompt: rewards, length, disagreement
                                  └──► scored    its scores by scorer and status
prompts.parquet, held_out.parquet   ─► asked     one row per prompt: the beginning of its text
                                  └──► facts     its metadata

The columns are read by pyarrow, on an object store too, without the texts and log-probabilities, which are most of a
file. What cannot be read is named in `problems` and left out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rayalign.dashboard.answer_files import (
    KEYS,
    Damage,
    Shard,
    read_answers,
    read_each,
    read_prompts,
    read_shard,
    shards_of,
    without_pandas,
)
from rayalign.dashboard.answer_sql import (
    ADD_ANSWERED,
    ADD_ASKED,
    ADD_FACTS,
    ADD_SCORED,
    FORGET,
    MATCHES_ANSWERS,
    TABLES,
)
from rayalign.dashboard.readings import clean_text
from rayalign.records import JsonObject
from rayalign.store.saved_run import SavedRun

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MEMORY = "100MB"
THREADS = 2
EXCERPT = 160


def connect() -> duckdb.DuckDBPyConnection:
    """A database in memory that reads no file, loads no extension and reaches no network."""
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "threads": THREADS,
        "enable_external_access": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "temp_directory": "",
        "lock_configuration": True,
    }
    return duckdb.connect(":memory:", config=settings)


class AnswerIndex:
    """The tables of one run. Safe to use from several threads, one of which works at a time.

    Args:
        run: the run; only its files are read.
    """

    def __init__(self, run: SavedRun) -> None:
        self.run = run
        self.lock = threading.RLock()
        self._database = connect()
        self._damage: dict[str, str] = {}
        self._known: set[Shard] = set()
        """The shards that are in the tables."""
        self._prompts: dict[str, int] = {}
        for statement in TABLES:
            self._database.execute(statement)

    @property
    def problems(self) -> list[str]:
        """What of the run cannot be read, in words."""
        return [self._damage[place] for place in sorted(self._damage)]

    def rows(self, statement: str, parameters: JsonObject | None = None) -> list[JsonObject]:
        """The result of a statement of ours, as rows. Values of users come as parameters only."""
        with self.lock:
            found = self._database.execute(statement, parameters or {})
            names = [column[0] for column in found.description or []]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def rounds(self) -> dict[str, list[int]]:
        """The rounds that have committed answers, by purpose."""
        found: dict[str, list[int]] = {}
        for one in self.run.run_dir.begun_rounds():
            parts = (name.rpartition("-") for name in one.commits() or one.known_commits())
            kinds = {kind for kind, _, number in parts if number.isdecimal()}
            for purpose in kinds:
                found.setdefault(purpose, []).append(one.index)
        return found

    def ensure(self, purpose: str, round_index: int) -> None:
        """Have what is committed of a round's answers in the tables, the prompts too."""
        with self.lock:
            self._ensure_prompts("train" if purpose == "train" else "held out", round_index)
            there = shards_of(self.run.run_dir.round(round_index), purpose)
            known = {one for one in self._known if (one.purpose, one.round) == (purpose, round_index)}
            for shard in known - set(there):
                self._forget(shard)
            new = [one for one in there if one not in known]
            for table_shards in _together(new):
                self._add(table_shards)
            self._known |= set(new)

    def searched(self, purpose: str, round_index: int, text: str) -> set[str]:
        """The prompts of a round one of whose messages or answers holds the text, in any case."""
        found: set[str] = set()
        with self.lock:
            for shard in shards_of(self.run.run_dir.round(round_index), purpose):
                try:
                    table = read_shard(self.run.run_dir.round(round_index), shard, "samples", ["prompt_id", "text"])
                    found |= self._matches(table, text)
                except Damage as damage:
                    self._damage[str(shard)] = str(damage)
            for table in self._asked(purpose, round_index):
                found |= self._matches(table, text)
        return found

    def _matches(self, texts: pa.Table, text: str) -> set[str]:
        self._database.register("texts", texts)
        try:
            return {row["prompt_id"] for row in self.rows(MATCHES_ANSWERS, {"text": text})}
        finally:
            self._database.unregister("texts")

    def _asked(self, purpose: str, round_index: int) -> Iterator[pa.Table]:
        """Id and text of every message of a round's prompts."""
        import pyarrow as pa

        prompts = self._prompts_of("train" if purpose == "train" else "held out", round_index)
        pairs = [(one["id"], message["content"]) for one in prompts for message in one["messages"] or []]
        if pairs:
            yield pa.table({"prompt_id": [one for one, _ in pairs], "text": [text for _, text in pairs]})

    def _add(self, shards: Sequence[Shard]) -> None:
        """Add shards of one round up in one go; where that fails, one by one, so that only damaged ones are missing."""
        import duckdb
        import pyarrow as pa

        tables = [(shard, table) for shard, table in read_each(self._whole, shards) if table is not None]
        if not tables:
            return
        try:
            place = {"purpose": shards[0].purpose, "round": shards[0].round}
            self._insert(place, pa.concat_tables([table for _, table in tables]))
        except (duckdb.Error, pa.ArrowException) as error:
            if len(tables) > 1:
                for shard, _ in tables:
                    self._add([shard])
            else:
                self._damage[str(tables[0][0])] = f"{tables[0][0]}: {' '.join(str(error).split())[:200]}"

    def _whole(self, shard: Shard) -> pa.Table | None:
        """What is added up of a shard: answers with their scores; None where it is damaged."""
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = [*KEYS, "token_ids"], [*KEYS, "reward", "scores"]
        try:
            samples, scores = read_answers(self.run.run_dir.round(shard.round), shard, *columns)
        except Damage as damage:
            self._damage[str(shard)] = str(damage)
            return None
        self._damage.pop(str(shard), None)
        tokens = pc.call_function("list_value_length", [samples["token_ids"]])
        number = without_pandas(np.full(samples.num_rows, shard.number))
        return pa.Table.from_arrays(
            [number, samples["prompt_id"], samples["index"], tokens, scores["reward"], scores["scores"]],
            ["shard", "prompt_id", "number", "tokens", "reward", "scores"],
        )

    def _insert(self, place: JsonObject, answers: pa.Table) -> None:
        self._database.register("answers", answers)
        try:
            self._database.execute("BEGIN")
            self._database.execute(ADD_SCORED, place)
            self._database.execute(ADD_ANSWERED, place)
            self._database.execute("COMMIT")
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        finally:
            self._database.unregister("answers")

    def _forget(self, shard: Shard) -> None:
        for statement in FORGET:
            self._database.execute(statement, {"purpose": shard.purpose, "round": shard.round, "shard": shard.number})
        self._known.discard(shard)

    def _prompts_of(self, kind: str, round_index: int) -> list[JsonObject]:
        """Rows of the prompts that a round answers; none where they are not kept, or damaged, which is noted."""
        place = f"round {round_index}, prompts" if kind == "train" else "held-out prompts"
        try:
            found = read_prompts(self.run.run_dir, kind, round_index)
        except Damage as damage:
            self._damage[place] = str(damage)
            return []
        self._damage.pop(place, None)
        if found is None and kind != "train":
            self._damage[place] = "held-out prompts are not kept in this folder: they are shown by their ids"
        return found or []

    def _ensure_prompts(self, kind: str, round_index: int) -> None:
        place = f"{kind} {round_index}" if kind == "train" else kind
        if place in self._prompts:
            return
        rows = self._prompts_of(kind, round_index)
        self._prompts[place] = len(rows)
        self._insert_prompts(rows)

    def _insert_prompts(self, rows: Iterable[JsonObject]) -> None:
        asked = [(row["id"], _excerpt(row)) for row in rows]
        facts = [(row["id"], key, text) for row in rows for key, text in metadata_texts(row["metadata"])]
        for statement, new in ((ADD_ASKED, asked), (ADD_FACTS, facts)):
            if new:
                self._database.execute(statement, [list(column) for column in zip(*new, strict=True)])


def metadata_texts(metadata: object) -> Iterator[tuple[str, str]]:
    """The keys of a prompt's metadata with the text by which each value is filtered; lists and objects have none."""
    for key, value in metadata.items() if isinstance(metadata, dict) else ():
        if value is None or isinstance(value, bool):
            yield key, {None: "null", True: "true", False: "false"}[value]
        elif isinstance(value, float) and value.is_integer():
            yield key, str(int(value))
        elif isinstance(value, str | int | float):
            yield key, clean_text(str(value))


def _excerpt(row: JsonObject) -> str:
    """The beginning of a prompt's last message, on one line."""
    messages = row["messages"] or [{"content": ""}]
    line = " ".join(clean_text(messages[-1]["content"] or "").split())
    return line if len(line) <= EXCERPT else f"{line[: EXCERPT - 1]}…"


def _together(shards: Sequence[Shard], most: int = 32) -> Iterator[Sequence[Shard]]:
    """As many shards as are added up at once: enough to be quick, not so many that they need much memory."""
    for start in range(0, len(shards), most):
        yield shards[start : start + most]
