"""A run's answers for the sample browser: what there is, a page of prompts, one prompt over all rounds.

    facets() ─► what can be asked      list(Query) ─► a page of prompts      view(id) ─► all answers to one prompt

Works on running, crashed and damaged runs: it reads committed files only, and names in `problems` what it left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict, get_args

from rayalign.dashboard import answer_sql as sql
from rayalign.dashboard.answer_files import Shard, shards_of
from rayalign.dashboard.answer_index import AnswerIndex
from rayalign.dashboard.answer_query import Query, plain
from rayalign.dashboard.answer_view import PromptView
from rayalign.dashboard.readings import clean, section
from rayalign.records import JsonObject, ScoreStatus
from rayalign.store.damage import lost_rounds
from rayalign.store.saved_run import SavedRun

PURPOSES = ("evaluation", "greedy", "train")
"""In the order in which they are offered."""


Rows = list[JsonObject]


class Page(TypedDict):
    """Some of the prompts that a query lists."""

    total: int
    page: int
    size: int
    rows: Rows


class AnswerStore:
    """The answers of one run."""

    def __init__(self, run: SavedRun) -> None:
        self.run = run
        self._index = AnswerIndex(run)
        self._view = PromptView(self._index)

    @property
    def problems(self) -> list[str]:
        """What of the run is missing or damaged, in words."""
        lost = lost_rounds(self.run.run_dir)
        return [*(f"round {index} {why}" for index, why in lost.items()), *self._index.problems]

    def rounds(self) -> dict[str, list[int]]:
        """The rounds with answers, of every purpose that has any."""
        found = self._index.rounds()
        return {purpose: found[purpose] for purpose in PURPOSES if purpose in found}

    def facets(self) -> JsonObject:
        """What can be asked. `total` counts the prompts in the last round of each purpose."""
        rounds = self.rounds()
        total = {}
        for purpose, indices in rounds.items():
            self._index.ensure(purpose, indices[-1])
            found = self._index.rows(sql.PROMPTS_ANSWERED, {"purpose": purpose, "round": indices[-1]})
            total[purpose] = found[0]["n"]
        metadata: dict[str, list[str]] = {}
        for row in self._index.rows(sql.FACTS):
            metadata.setdefault(row["key"], []).append(row["text"])
        return {
            "run": self.run.name,
            "purposes": list(rounds),
            "rounds": rounds,
            "scorers": [row["scorer"] for row in self._index.rows(sql.SCORERS)],
            "statuses": list(get_args(ScoreStatus)),
            "metadata": metadata,
            "problems": self.problems,
            "note": None,
            "total": total,
        }

    def list(self, query: Query) -> Page:
        """The prompts that a query lists, one page of them."""
        empty: Page = {"total": 0, "page": query.page, "size": query.size, "rows": []}
        rounds = self.rounds()
        purpose = query.purpose or next(iter(rounds), None)
        there = rounds.get(purpose or "", [])
        index = there[-1] if query.round is None and there else query.round
        if purpose is None or index not in there:
            return empty
        baseline = there[0] if query.baseline is None else query.baseline
        for one in {index, baseline} & set(there):
            self._index.ensure(purpose, one)
        asked: JsonObject = {"purpose": purpose, "round": index, "baseline": baseline}
        with self._index.lock:
            total, rows = self._page(query, asked)
        return {**empty, "total": total, "rows": rows}

    def _page(self, query: Query, asked: JsonObject) -> tuple[int, Rows]:
        """How many prompts there are on all pages, and those of this one."""
        conditions, values = self._conditions(query, asked)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        counted = f"{sql.LISTED} SELECT count(*) AS n FROM listed{where}"
        chosen = (
            f"{sql.LISTED} SELECT * FROM listed{where} "
            f"ORDER BY {sql.ORDERS[query.sort]} NULLS LAST, id LIMIT $size OFFSET $skipped"
        )
        total = self._index.rows(counted, {**asked, **values})[0]["n"]
        skipped = query.page * query.size
        rows = self._index.rows(chosen, {**asked, **values, "size": query.size, "skipped": skipped})
        self._add_statuses(rows, asked)
        return total, rows

    def _conditions(self, query: Query, asked: JsonObject) -> tuple[list[str], JsonObject]:
        """What has to hold of a listed prompt, with the values that it names."""
        found: list[str] = []
        values: JsonObject = {}
        if query.min is not None or query.max is not None:
            found.append(sql.IN_RANGE if query.scorer is None else sql.SCORER_IN_RANGE)
            values["min"] = -math.inf if query.min is None else query.min
            values["max"] = math.inf if query.max is None else query.max
            values |= {} if query.scorer is None else {"scorer": query.scorer}
        if query.status is not None:
            found.append(sql.HAS_STATUS)
            values |= {"status": query.status, "scorer": query.scorer}
        for place, (key, text) in enumerate(query.meta):
            found.append(sql.has_fact(place))
            values |= {f"key{place}": key, f"text{place}": text}
        if query.q is not None:
            found.append(sql.HAS_TEXT)
            values["matching"] = sorted(self._index.searched(asked["purpose"], asked["round"], query.q))
        return found, values

    def _add_statuses(self, rows: Rows, asked: JsonObject) -> None:
        by_id: dict[str, dict[str, int]] = {row["id"]: {} for row in rows}
        values = {"purpose": asked["purpose"], "round": asked["round"], "ids": list(by_id)}
        for row in self._index.rows(sql.STATUSES, values):
            by_id[row["prompt_id"]][row["status"]] = row["n"]
        for row in rows:
            row["statuses"] = by_id[row["id"]]

    def ranked(self, purpose: str) -> list[str]:
        """The ids of the last round's prompts, best to worst; those without a reward first, which nobody has judged."""
        last = self.rounds()[purpose][-1]
        self._index.ensure(purpose, last)
        return [row["prompt_id"] for row in self._index.rows(sql.RANKED, {"purpose": purpose, "round": last})]

    def mean_rewards(self, purpose: str, round_index: int) -> dict[str, float]:
        """Of each prompt that a round answered, the mean reward, of those that have one."""
        self._index.ensure(purpose, round_index)
        rows = self._index.rows(sql.REWARDS, {"purpose": purpose, "round": round_index})
        return {row["prompt_id"]: row["reward"] for row in rows}

    def view(self, prompt_id: str, purpose: str = "evaluation") -> JsonObject | None:
        """All answers to one prompt over the rounds, each round's best first; None where there are none."""
        for index in self.rounds().get(purpose, []):
            self._index.ensure(purpose, index)
        values = {"purpose": purpose, "ids": [plain(prompt_id)]}
        places = self._index.rows(sql.SHARDS_OF_PROMPTS, values)
        shards = [Shard(purpose, row["round"], row["shard"]) for row in places]
        found = self._view.of([plain(prompt_id)], purpose, shards)
        return section(clean(found[0], None)) if found else None

    def views(self, prompt_ids: Sequence[str], purpose: str, rounds: Sequence[int]) -> list[JsonObject]:
        """`view` of many prompts over some rounds, with texts as they are: all files of these rounds are read."""
        shards = [shard for index in rounds for shard in shards_of(self.run.run_dir.round(index), purpose)]
        return self._view.of(prompt_ids, purpose, shards)
