"""Scoring a round's stored answers again with other scorers (`rayalign score`): nothing is sampled, nothing committed.

rounds/0003/{prompts, samples} ─► Scorers, shard by shard ─► rescored/NAME/round-0003/train/00000.parquet ...
rounds/0003/scores ──────────────── agreement ◄──────────┘─► rescored/NAME/round-0003/train.json
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rayalign.commands.held_out import config_of, held_out, nothing_there
from rayalign.commands.score_table import agreement_rows, scorer_rows, show_scores
from rayalign.config.file import redact
from rayalign.config.rewards import ModelScoring, SimilarityScoring
from rayalign.config.scoring import ScorerFile, ScorerSettings
from rayalign.data.prompt_store import PromptStore
from rayalign.errors import ConfigError, DataError
from rayalign.evaluation.alarms import alarms
from rayalign.evaluation.counts import ScoreCounter
from rayalign.launch.models import read_scorers
from rayalign.loop.guards import ScoreErrorGuard
from rayalign.records import SCHEMA_VERSION, Prompt, ScoredPurpose, ScoredSample
from rayalign.scoring.scorers import Scorers
from rayalign.scoring.service_scorers import check_services
from rayalign.scoring.sources import ScorerSource
from rayalign.stopping import call
from rayalign.store.files import Place, write_file, write_json
from rayalign.store.folder import Folder
from rayalign.store.round_dir import PROMPTS_PER_ROW_GROUP, RoundDir
from rayalign.store.run_dir import RunDir
from rayalign.store.saved_run import SavedRun
from rayalign.store.tables import parquet_bytes, read_parquet
from rayalign.store.writable import COPY, check_writable
from rayalign.tracking.console import Console

FAILED = ("error", "timeout")
PATIENCE_S = 7 * 24 * 3600.0
"""For a shard: nobody waits for it, and each request has a limit of its own."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A round's stored answers, in shards, with the scores that the run gave them."""

    prompts: PromptStore
    """At least those that were answered."""
    shards: dict[int, list[ScoredSample]]
    samples_sha256: dict[int, str]
    """The checksum of each shard's file of samples."""


def rescore(
    root: Place | str,
    round_index: int,
    scorers: ScorerFile,
    *,
    folder: Path,
    console: Console,
    purpose: ScoredPurpose = "train",
    name: str = "scorer",
) -> Folder:
    """Score all committed answers of a round, write the scores, and print how they agree with the stored ones.

    Shards that were scored before by the same scorers, without failures, are not scored again.

    Args:
        root: the run folder.
        folder: where scorers' files are looked up after the working directory.
        purpose: of the answers: training's, or the evaluation's.
        name: of the folder below `rescored/`.

    Returns:
        The folder of the round's scores.

    Raises:
        RayalignError: run, round or scorers cannot be used; a scorer failed more often than `limits.score_errors`
            allows.
    """
    saved = SavedRun.at(root)
    run_dir, config = saved.run_dir, config_of(saved)
    target = _target(run_dir, name, round_index, purpose)
    settings = _settings(scorers, config.run.seed)
    round_dir = run_dir.round(round_index)
    similar = any(isinstance(section, SimilarityScoring) for section in scorers.scoring)
    read = partial(held_out, config, folder, targets=config.reads_targets or similar)
    answers = _answers(run_dir, round_dir, purpose, read, config.prompts.source)
    sources = read_scorers(scorers.scoring, config, folder, run_dir.date)
    check_services(settings, sources, run_dir.cache)
    with contextlib.closing(Scorers(settings, sources, run_dir.cache)) as backends:
        rows = _score(answers, backends, _identity(settings, sources, backends), target, round_index, console)
    summary = scorer_rows(rows), agreement_rows(rows, [row for shard in answers.shards.values() for row in shard])
    found = _alarms(rows, scorers, config.run.seed)
    facts = {"answers": len(rows), "scorers": summary[0], "agreement": summary[1], "alarms": found}
    told = {"schema_version": SCHEMA_VERSION, "round": round_index, **facts, **redact(scorers.to_dict())}
    write_json(Folder(f"{target}.json"), told)
    show_scores(console, *summary)
    console.say("\n".join([*(f"ALARM: {alarm}" for alarm in found), f"scores: {target}"]))
    guard = ScoreErrorGuard(config.limits.score_errors, len(rows))
    guard.count(rows)
    guard.check("", "mend the scorer and run the same command again; what succeeded is kept")
    return target


def _alarms(rows: Sequence[ScoredSample], scorers: ScorerFile, seed: int) -> list[str]:
    """What of the scores a person must look at, as in a run."""
    counter = ScoreCounter([section.name for section in scorers.scoring])
    counter.add(rows)
    penalties = {section.name for section in scorers.scoring if section.weight < 0}
    return alarms({"scorers": counter.facts(seed=seed)}, penalties)


def _target(run_dir: RunDir, name: str, round_index: int, purpose: ScoredPurpose) -> Folder:
    """The folder of the round's scores, which may be written to."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"--name {name!r}", "it names a folder", "use letters, digits, '.', '_' and '-' in --name")
    target = run_dir.root / "rescored" / name / f"round-{round_index:04d}" / purpose
    if target.is_local:
        check_writable(target.local_path(), "{}", COPY)
    return target


def _settings(scorers: ScorerFile, seed: int) -> ScorerSettings:
    """The scorers of a file, in this process alone."""
    device = "cuda" if any(isinstance(one, ModelScoring) for one in scorers.scoring) and _sees_gpu() else "cpu"
    return ScorerSettings(scorers.scoring, scorers.combine, seed, device)


def _sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _answers(
    run_dir: RunDir, round_dir: RoundDir, purpose: ScoredPurpose, read: Callable[[], Iterable[Prompt]], source: str
) -> Answers:
    """A round's stored answers.

    Args:
        read: reads the held-out prompts from `source`, the run's; called where these were answered.
    """
    numbers = round_dir.shards(purpose)
    if not numbers:
        raise nothing_there(run_dir, round_dir, purpose)
    shards = {number: round_dir.read_shard(purpose, number) or [] for number in numbers}
    digests = {number: round_dir.samples_sha256(purpose, number) for number in numbers}
    prompts = PromptStore()
    prompts.add(_drawn(round_dir) if purpose == "train" else read())
    wanted = {row.sample.prompt_id.encode() for rows in shards.values() for row in rows}
    if lost := [name.decode() for name in wanted - set(prompts.ids()[0].tolist())]:
        where = f"{round_dir.root}/prompts.parquet" if purpose == "train" else source
        raise DataError(
            f"{where} lacks {len(lost)} prompts of the answers, for example {min(lost)}",
            "scorers read the prompt too",
            "restore it as it was when the run began",
        )
    return Answers(prompts, shards, digests)


def _drawn(round_dir: RoundDir) -> Iterator[Prompt]:
    commit = round_dir.committed("prompts")
    for start in range(0, commit["files"]["prompts.parquet"]["rows"] if commit else 0, PROMPTS_PER_ROW_GROUP):
        yield from round_dir.read_prompts(start, PROMPTS_PER_ROW_GROUP)


def _identity(settings: ScorerSettings, sources: Sequence[ScorerSource], scorers: Scorers) -> str:
    """All that decides the scores of given answers."""
    sections = [section.model_dump(mode="json") for section in settings.scoring]
    versions = [*(source.version for source in sources), scorers.versions]
    return json.dumps([sections, settings.combine.model_dump(mode="json"), versions, settings.seed], sort_keys=True)


def _score(
    answers: Answers, scorers: Scorers, identity: str, target: Folder, round_index: int, console: Console
) -> list[ScoredSample]:
    """Every answer with its new scores; each shard's scores are in the folder as soon as they are there."""
    rows: list[ScoredSample] = []
    total = sum(map(len, answers.shards.values()))
    with console.stage("score", round_index, total) as stage:
        for number, stored in answers.shards.items():
            mark = hashlib.sha256(f"{identity}\n{answers.samples_sha256[number]}".encode()).hexdigest()
            path = target / f"{number:05d}.parquet"
            scored = _scored_before(path, mark, stored)
            if scored is None:
                asked = dict.fromkeys(row.sample.prompt_id for row in stored)
                prompts = answers.prompts.take([name.encode() for name in asked])
                samples = [row.sample for row in stored]
                scored = call(partial(scorers.score, prompts, samples, PATIENCE_S))
                schema = ScoredSample.schema().with_metadata({"scored_by": mark})
                write_file(path, parquet_bytes([row.to_row() for row in scored], schema))
            rows += scored
            stage.advance(len(scored))
    return rows


def _scored_before(path: Folder, mark: str, stored: Sequence[ScoredSample]) -> list[ScoredSample] | None:
    """The scores in a file of an earlier call, if all of them are what this call would give."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = path.find_bytes()
    if content is None:
        return None
    try:
        metadata = pq.read_schema(pa.BufferReader(content)).metadata or {}
    except pa.ArrowInvalid:
        return None
    if metadata.get(b"scored_by") != mark.encode():
        return None
    pairs = zip(read_parquet(path), stored, strict=True)
    rows = [ScoredSample.from_row(row, one.sample) for row, one in pairs]
    return None if _failures(rows) else rows


def _failures(rows: Sequence[ScoredSample]) -> list[str]:
    return [f"{score.scorer}: {score.reason}" for row in rows for score in row.scores if score.status in FAILED]
