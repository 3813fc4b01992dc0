"""A run as its folder tells it: what the commands that only read a run (`export`, `chat`, `show`) begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rayalign.display import display, format_value, headline_metric
from rayalign.errors import RunFolderError
from rayalign.records import Adapter, JsonObject, weights_file
from rayalign.store.files import Place
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A run folder, local or on an object store, that is there and that this version can read."""

    run_dir: RunDir
    config: JsonObject
    """`config.yaml`, secrets redacted; an older run's lacks the keys that came later."""

    @classmethod
    def at(cls, place: Place | str) -> SavedRun:
        """Open the run whose folder is `place`.

        Raises:
            RunFolderError: there is no run, or one of another schema version.
        """
        run_dir = RunDir(place)
        config = run_dir.saved_config()
        if config is None:
            missing = run_dir.root.is_local and not run_dir.root.local_path().exists()
            found = f"there is no folder {place}" if missing else f"{place} has no config.yaml"
            raise RunFolderError(found, "it is not a run folder", "give the folder that `rayalign run` printed")
        run_dir.check_schema()
        return cls(run_dir, config)

    @property
    def name(self) -> str:
        """Name of the run's folder, which may have been renamed since."""
        return self.run_dir.root.name or self.config["run"]["name"]

    @property
    def template(self) -> str:
        """The chat template of the run's prompts, by `prompts.template`."""
        return self.config["prompts"].get("template", "auto")

    def finished(self, index: int | None) -> RoundDir:
        """A finished round; None asks for the last one.

        Raises:
            RunFolderError: it does not exist or is not finished.
        """
        found = {one.index: one for one in self.run_dir.rounds()}
        if index is None and found:
            return found[max(found)]
        if index in found:
            return found[index]
        known = f"finished are {_ranges(sorted(found))}" if found else "none is finished yet"
        asked = "no round is finished" if index is None else f"round {index} is not there"
        begun = index is not None and bool(self.run_dir.round(index).commits())
        raise RunFolderError(
            f"{self.run_dir.root}: {f'round {index} is not finished' if begun else asked}",
            f"of this run's rounds {known}",
            "give one of these with --round" if found else "let the run go on: the same `rayalign run` resumes it",
        )

    def chosen(self, asked: int | Literal["best"] | None) -> tuple[RoundDir, str | None]:
        """A finished round, and where `best` was asked for why it is this one. Raises as `finished` and `best`."""
        return self.best() if asked == "best" else (self.finished(asked), None)

    def best(self) -> tuple[RoundDir, str]:
        """The trained round of the best headline metric on the held-out prompts, of equal ones the earlier, and why.

        Raises:
            RunFolderError: no round from 1 on was evaluated, or a report is damaged.
        """
        values = {one.index: _metrics(one) for one in self.run_dir.rounds()}
        trained = {index: metrics for index, metrics in values.items() if index > 0}
        name = headline_metric(list(trained.values()))
        measured = {index: metrics[name] for index, metrics in trained.items() if name is not None and name in metrics}
        if name is None or not measured:
            raise RunFolderError(
                f"{self.run_dir.root}: no trained round has a pass rate or a mean reward",
                f"the best is told by them, and of {len(trained)} finished rounds from 1 on none was evaluated so",
                "give a round by its number; evaluation.every says which rounds are evaluated",
            )
        index = min(measured, key=lambda one: (-measured[one], one))
        shown = display(name)
        said = [f"round {one}: {format_value(value, shown.style)}" for one, value in measured.items()]
        why = f"round {index} is best by {shown.label} on the held-out prompts ({', '.join(said)})"
        base = values.get(0, {}).get(name)
        if base is not None and base >= measured[index]:
            why += f"; the base model itself has {format_value(base, shown.style)}: no round is better"
        return self.run_dir.round(index), why

    def held_out(self, first: RoundDir) -> int | None:
        """How many prompts rounds were evaluated on; None where none was. `first` is the round that is looked at first.

        Raises:
            RunFolderError: damaged files.
        """
        for one in (first, *self.run_dir.rounds()):
            if shards := one.shards("evaluation"):
                return len(
                    {row.sample.prompt_id for shard in shards for row in one.read_shard("evaluation", shard) or []}
                )
        return None

    def adapter(self, index: int | None) -> tuple[RoundDir, Adapter, dict[str, bytes]]:
        """A finished round, its adapter and the adapter's files by name, every hash checked.

        Raises:
            RunFolderError: no such round, round 0 (which is the base), or damaged files.
        """
        round_dir = self.finished(index)
        found = round_dir.adapter()
        if found is None or found.files is None:
            raise RunFolderError(
                f"round {round_dir.index} is the base model",
                "it has no adapter: round 0 only measures where training starts",
                f"give a round from 1 on, or use the base model itself ({self.config['model']['base']})",
            )
        record, files = found.record, found.files.files
        committed = round_dir.committed("adapter") or {}
        weights = committed["files"].get(f"adapter/{weights_file(files)}", {}).get("sha256")
        if not record.sha256 == weights == (round_dir.commit_facts() or {}).get("adapter_sha256"):
            raise RunFolderError(
                f"{round_dir.root}: its commits name different adapters",
                "files of two runs were mixed",
                "restore the folder from a copy",
            )
        return round_dir, record, files


def _metrics(round_dir: RoundDir) -> dict[str, float]:
    """The values of a round's evaluation; none where it was not evaluated."""
    report = round_dir.report() if round_dir.committed("report") else None
    return {name: metric["value"] for name, metric in (report or {}).get("metrics", {}).items()}


def _ranges(numbers: list[int]) -> str:
    """Sorted numbers as ranges, in words: `0-3, 5`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
