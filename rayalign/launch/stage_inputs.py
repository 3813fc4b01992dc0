"""What a training stage reads: its base model and its rows, tokenised, each checked before a worker starts."""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rayalign.config.stages import StageConfig, StageKind
from rayalign.data.beside import beside_note
from rayalign.data.dataset import DatasetRow
from rayalign.data.drawing import as_ids, mark_of, split_prompts
from rayalign.data.loading import load_dataset_rows
from rayalign.data.own_names import OwnNames
from rayalign.data.sources import locate
from rayalign.data.stage_rows import StageRows, answer_rows, pair_rows
from rayalign.errors import ConfigError, DataError
from rayalign.launch.models import find_base
from rayalign.records import JsonObject, prompt_id
from rayalign.rendering.renderer import ChatRenderer
from rayalign.store.stage_dir import StageDir

UNTRAINED = "demo_untrained"
HOLDOUT_SEED = 1_000_003
"""Added to the seed where the demo world makes the held-out answers."""


@dataclass(frozen=True, slots=True)
class StageInputs:
    base: Path
    model_sha256: str
    train: StageRows
    holdout: StageRows
    note: str = ""
    """What the user is told of the rows."""

    def digests(self) -> JsonObject:
        """What a resumed stage must read again."""
        return {
            "model_sha256": self.model_sha256,
            **{name: _digest(rows) for name, rows in (("train", self.train), ("holdout", self.holdout))},
        }


def read_stage_inputs(
    kind: StageKind, config: StageConfig, config_dir: Path, stage: StageDir, date: datetime.date
) -> StageInputs:
    """Base model and rows, each checked.

    Args:
        date: of the stage, for chat templates that ask for today's.

    Raises:
        RayalignError: one of them cannot be used.
    """
    from rayalign.learning.folder_checks import check_stage_base
    from rayalign.learning.folders import context_length, hash_model

    train, holdout, unread, note = _dataset(kind, config, config_dir)
    base = _base(kind, config, stage)
    lora = None if config.model.full else config.model.lora
    tokenizer = check_stage_base(base, lora, rewards=kind == "reward_model")
    data, length = config.data, context_length(base)
    renderer = ChatRenderer(tokenizer, data.template, date, given=True)
    if length is not None and length < data.max_tokens:
        raise ConfigError(f"data.max_tokens = {data.max_tokens}", f"the model's context is {length} tokens", "lower it")
    if kind == "reward_model" and tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
        raise DataError(f"the tokenizer of {base} has neither padding token nor EOS", "pairs are padded to one length")
    parts = [_tokenize(kind, config, rows, renderer) for rows in (train, holdout)]
    for reason, names in unread.items():
        parts[0].skipped[reason] += names
    if not all(part.rows for part in parts):
        why = "; ".join(f"{len(names)} {reason}" for part in parts for reason, names in part.skipped.items())
        found = f"{len(parts[0].rows)} rows to train on, {len(parts[1].rows)} held out"
        raise DataError(
            f"data.source {data.source}: {found}",
            why or "each part needs at least one",
            "look at those rows, or raise data.max_tokens",
        )
    return StageInputs(base, hash_model(base), *parts, note=note)


def _tokenize(kind: StageKind, config: StageConfig, rows: list[DatasetRow], renderer: ChatRenderer) -> StageRows:
    template, limit = config.data.template, config.data.max_tokens
    if kind == "sft":
        return answer_rows(rows, renderer, limit)
    if template not in ("auto", "none"):
        raise ConfigError(
            f"data.template: {template}",
            "reward models are asked with their own template, or with none",
            "set data.template to auto or none",
        )
    return pair_rows(rows, renderer, limit)


def _base(kind: StageKind, config: StageConfig, stage: StageDir) -> Path:
    if config.model.base != UNTRAINED:
        return find_base(config.model.base)
    from rayalign.demo.language import write_untrained

    write_untrained(stage.root / "base", config.run.seed, rewards=kind == "reward_model")
    return stage.root / "base"


def _dataset(
    kind: StageKind, config: StageConfig, config_dir: Path
) -> tuple[list[DatasetRow], list[DatasetRow], dict[str, list[str]], str]:
    """(rows to train on, held-out rows, what could not be read by reason, what the user is told of them)."""
    data, seed = config.data, config.run.seed
    if data.source == "demo":
        from rayalign.demo.training_rows import pair_dataset, sft_dataset

        if kind == "sft":
            return sft_dataset(seed, data.rows), sft_dataset(seed + HOLDOUT_SEED, data.holdout), {}, ""
        return pair_dataset(seed, data.rows), pair_dataset(seed, data.holdout, "holdout"), {}, ""
    own = OwnNames({**data.fields}, "data.fields")
    found = load_dataset_rows(locate(data.source, config_dir), data.format, own=own)
    ids = [prompt_id(row.messages) for row in found.rows]
    # A prompt may have several rows: all of them are held out, or none.
    marks = {identity: mark_of(row.metadata.get("split")) for identity, row in zip(ids, found.rows, strict=True)}
    split = split_prompts(as_ids(marks), np.array(list(marks.values())), data.holdout)
    held = {identity.decode() for identity in split.holdout_N.tolist()}
    train, holdout = [], []
    for identity, row in zip(ids, found.rows, strict=True):
        (holdout if identity in held else train).append(row)
    return train[: data.rows], holdout, found.skipped, beside_note(found.beside)


def _digest(rows: StageRows) -> str:
    digest = hashlib.sha256()
    for row in rows.rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()
