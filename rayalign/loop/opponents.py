"""Benchmarks that compare a round's answers with those of other rounds: whose answers these are is known when it runs.

benchmark, rounds ─► rows of their results ─► benchmark with these baselines ─► AskedRunner
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from rayalign.config.benchmarks import PREVIOUS, baseline_name
from rayalign.evaluation.benchmarks.arena import Arena, past_games
from rayalign.evaluation.benchmarks.base import Result
from rayalign.evaluation.benchmarks.mt_bench import MTBench
from rayalign.evaluation.benchmarks.questions import Texts, given_answers
from rayalign.loop.benchmarks import AskedRunner
from rayalign.records import JsonObject, SavedAdapter
from rayalign.store.benchmark_dir import BenchmarkDir, Marks, benchmark_rows
from rayalign.store.run_dir import RunDir


@dataclass(frozen=True, slots=True)
class AgainstRounds:
    """`Runner` of a benchmark with baselines.

    Args:
        asked: has the baselines that are files already.
        rounds: of the run, by number, or `previous`; those that come later than the one that is measured, or have no
            answers, are left out.
    """

    asked: AskedRunner
    benchmark: Arena | MTBench
    rounds: Sequence[int | str]
    run_dir: RunDir

    @property
    def name(self) -> str:
        return self.asked.name

    @property
    def type(self) -> str:
        return self.asked.type

    @property
    def every(self) -> int:
        return self.asked.every

    def marks(self, round_index: int, served: SavedAdapter) -> Marks:
        """The model's answers do not hang on whom they are compared with."""
        bare = dataclasses.replace(self.asked, benchmark=dataclasses.replace(self.benchmark, baselines={}))
        whole = self._against(round_index).marks(round_index, served)
        return Marks(bare.marks(round_index, served).answers, whole.all)

    def run(self, place: BenchmarkDir, served: SavedAdapter) -> Result:
        index = place.round_dir.index
        if index > 0:
            for baseline in self.rounds:
                if self._found(baseline, index) is None:
                    what = f"{baseline_name(baseline)} has no answers to compare with those of round {index}"
                    self.asked.asker.reporter.say(f"{self.name}: {what}")
        return self._against(index).run(place, served)

    def _against(self, index: int) -> AskedRunner:
        """The runner with the answers of other rounds; of two names for one round the first counts."""
        found = {self._found(baseline, index): baseline_name(baseline) for baseline in reversed(self.rounds)}
        names = {name: i for i, name in found.items() if i is not None}
        own = {name: self._answers(i) for name, i in sorted(names.items())}
        changed = dataclasses.replace(self.benchmark, baselines={**self.benchmark.baselines, **own})
        if isinstance(changed, Arena):
            players = {name: baseline_name(i) for name, i in names.items()}
            past = [game for i in range(index) for game in past_games(self._rows(i) or [], baseline_name(i))]
            changed = dataclasses.replace(changed, players=players, past=past, player=baseline_name(index))
        return dataclasses.replace(self.asked, benchmark=changed)

    def _found(self, baseline: int | str, index: int) -> int | None:
        """The round before this one that a baseline is, if it has answers."""
        asked = list(reversed(range(index))) if baseline == PREVIOUS else [int(baseline)]
        return next((i for i in asked if i < index and self._rows(i) is not None), None)

    def _answers(self, index: int) -> dict[str, Texts]:
        return dict(given_answers(row, f"{self.name} of round {index}") for row in self._rows(index) or [])

    def _rows(self, index: int) -> list[JsonObject] | None:
        return benchmark_rows(self.run_dir, index, self.name)
