"""`rayalign export`: a round's adapter, or the model with it merged in, as a folder that others can load.

Everything is made in a folder beside the target, checked there, and then renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from rayalign.commands.chat_source import Spoken
from rayalign.commands.export_folder import beside, check_target, describe, nameless, target_folder
from rayalign.commands.model_card import CardFacts, render_card, serve_line, without_folders
from rayalign.errors import ModelError, RunFolderError
from rayalign.launch.models import MADE, base_of
from rayalign.records import ADAPTER_CONFIG, ADAPTER_WEIGHTS, FULL_WEIGHTS, SHARD_PROMPTS, Adapter, EvalReport
from rayalign.rendering.renderer import ChatRenderer
from rayalign.stopping import call
from rayalign.store.files import expanded
from rayalign.store.round_dir import RoundDir
from rayalign.store.saved_run import SavedRun

COMPARED = 8
"""Stored sequences of the round on which logits are compared."""


@dataclass(frozen=True, slots=True)
class Push:
    """Where on the hub an export goes."""

    hub_id: str
    update: bool = False
    """Add a commit to a repository that exists."""
    public: bool = False


def export(
    place: str,
    to: str | os.PathLike[str],
    *,
    round_index: int | Literal["best"] | None = None,
    merge: bool = False,
    base: str | None = None,
    push: Push | None = None,
    say: Callable[[str], object],
) -> Path:
    """Write a finished round's adapter, or the merged model, with its model card to the folder `to`.

    A round that trained all weights has no adapter: the model is written, with `merge` or without.

    Args:
        place: the run's folder or URI.
        round_index: None takes the last finished round, "best" the one of the best headline metric.
        merge: write base + adapter instead.
        base: folder or id of the base model, where it is not what the run's config says.
        push: also upload it.

    Raises:
        RunFolderError: no such run or round, or damaged files.
        ModelError: the base model is not there, is another one, or merging changes its logits.
        ExportError: `to` cannot be written or holds something else, or the hub does not take it.
    """
    run = SavedRun.at(place)
    chosen, why = run.chosen(round_index)
    if why is not None:
        say(why)
    round_dir, record, files = run.adapter(chosen.index)
    merge = merge or FULL_WEIGHTS in files
    target, identity = target_folder(to), _identity(run, record, merge)
    check_target(target, identity)
    called, place = base or str(run.config["model"]["base"]), push.hub_id if push else target.name
    folder, name = call(lambda: base_of(called, base, record.base_model_sha256))
    files, rank = _naming_base(files, name)
    known = replace(_facts(run, round_dir, record, called, merge, rank), place=place)
    with beside(target, identity) as half:
        facts = call(lambda: _fill(half, run, round_dir, files, folder, known))
        describe(half, {**identity, "base_model": name, "chat": asdict(Spoken.of_run(run))})
    for note in facts.notes:
        say(note)
    say(f"round {round_dir.index} of {run.name} -> {target}")
    say(f"serve it: {serve_line(replace(facts, base=name), str(target))}")
    if push is not None:
        message = f"{run.name}, round {round_dir.index}"
        say(f"pushed: {_push(target, push, message, base_on_hub=facts.base_on_hub)}")
    return target


def _identity(run: SavedRun, record: Adapter, merged: bool) -> dict[str, object]:
    """What an export is of: two of the same are equal in all of these."""
    return {
        "run": run.name,
        "round": record.version,
        "adapter_sha256": record.sha256,
        "base_model_sha256": record.base_model_sha256,
        "merged": merged,
    }


def _push(target: Path, push: Push, message: str, *, base_on_hub: bool) -> str:
    """Upload an export, without the base's folder on this machine; returns where it is then."""
    from rayalign.commands import hub

    with contextlib.nullcontext(target) if base_on_hub else nameless(target) as folder:
        return hub.push(target, push.hub_id, message, update=push.update, public=push.public, uploaded=folder)


def _naming_base(files: dict[str, bytes], base: str) -> tuple[dict[str, bytes], int]:
    """(an adapter's files with its base's name in the config, its rank); all weights have neither and stay."""
    if FULL_WEIGHTS in files:
        return files, 0
    config = {**json.loads(files[ADAPTER_CONFIG]), "base_model_name_or_path": base}
    return {**files, ADAPTER_CONFIG: json.dumps(config, indent=2, sort_keys=True).encode()}, int(config["r"])


def _fill(
    half: Path, run: SavedRun, round_dir: RoundDir, files: dict[str, bytes], base: Path, facts: CardFacts
) -> CardFacts:
    """Write weights, tokenizer and card; returns the facts with what is to be said of them."""
    notes = list(facts.notes)
    if facts.merged:
        notes += _merge(base, files, half, round_dir)
    else:
        _write(half, files)
    notes += _add_tokenizer(run, base, half, facts.merged)
    card = replace(facts, notes=[note.replace(str(base), facts.base) for note in notes])
    (half / "README.md").write_text(render_card(card), encoding="utf-8")
    return replace(facts, notes=notes)


def _facts(run: SavedRun, round_dir: RoundDir, record: Adapter, base: str, merge: bool, rank: int) -> CardFacts:
    """What the card says, but for what is known only later.

    Args:
        base: the base model as the user calls it.
    """
    report = round_dir.report()
    if report is None:
        raise RunFolderError(
            f"{round_dir.root} has no report.json", "the round's commit names one", "restore the folder from a copy"
        )
    round_dir.committed("report")
    hashes = {
        f"adapter ({ADAPTER_WEIGHTS if rank else FULL_WEIGHTS} of the run)": str(record.sha256),
        "base model (names and contents of its weights and config.json)": record.base_model_sha256,
        "the round's COMMIT.json": hashlib.sha256((round_dir.root / "COMMIT.json").read_bytes()).hexdigest(),
        "the run's config.yaml": hashlib.sha256((run.run_dir.root / "config.yaml").read_bytes()).hexdigest(),
    }
    notes = []
    quantised = run.config["model"].get("quantization", "none")
    if merge and quantised != "none":
        notes.append(f"the adapter was trained on the base in {quantised} and is merged into the base as it is stored")
    on_hub = base not in MADE and not expanded(base).exists()
    return CardFacts(
        run=run.name,
        round_index=round_dir.index,
        base=base if on_hub or base in MADE else Path(base).name,
        base_on_hub=on_hub,
        merged=merge,
        place="",
        rank=rank,
        config={name: without_folders(section) for name, section in run.config.items()},
        report=EvalReport.from_dict(report),
        hashes=hashes,
        notes=notes,
        held_out=run.held_out(round_dir),
    )


def _merge(base: Path, files: dict[str, bytes], half: Path, round_dir: RoundDir) -> list[str]:
    """Write the merged model; returns what is to be said of it."""
    from rayalign.learning.export import write_full, write_merged

    if FULL_WEIGHTS in files:
        proof = write_full(base, files, half, _sequences(round_dir))
        return [
            f"all weights were trained: logits of {proof.sequences} sequences of the run differ from those of the "
            f"run's weights by at most {proof.float32_gap:.1e}"
        ]
    adapter = half / ".adapter"
    adapter.mkdir()
    _write(adapter, files)
    proof = write_merged(base, files, adapter, half, _sequences(round_dir))
    shutil.rmtree(adapter)
    notes = [
        f"merged in float32: logits of {proof.sequences} sequences of the run differ from those of base and "
        f"adapter by at most {proof.float32_gap:.1e}"
    ]
    if proof.dtype != "float32":
        notes.append(f"saved in {proof.dtype}, the base's dtype: logits then differ by at most {proof.saved_gap:.1e}")
    return notes


def _add_tokenizer(run: SavedRun, base: Path, half: Path, merged: bool) -> list[str]:
    """Put the tokenizer with the chat template of the run into the export; returns what is to be said of it."""
    from rayalign.learning.export import copy_tokenizer, write_template
    from rayalign.learning.folders import load_tokenizer

    if not merged:
        copy_tokenizer(base, half)
    try:
        renderer = ChatRenderer(load_tokenizer(base), run.template, run.run_dir.date)
    except ModelError as error:
        return [f"the tokenizer is the base's as it is: {error.found}"]
    write_template(half, renderer)
    if renderer.template is None:
        return ["prompts.template was none: the model was trained on bare text, without a chat template"]
    notes = []
    if renderer.template.jinja is not None:
        notes.append(f"the tokenizer here has the chat template {run.template}, with which the model was trained")
    if renderer.stop_ids and not merged:
        end = renderer.tokenizer.convert_ids_to_tokens(renderer.end)
        notes.append(f"answers end with {end}: stop there where the base's generation config does not")
    return notes


def _sequences(round_dir: RoundDir) -> list[list[int]]:
    """Token ids of some prompts of the round with an answer each."""
    first = round_dir.read_prompts(0, SHARD_PROMPTS) if round_dir.committed("prompts") else []
    prompts = {prompt.id: prompt for prompt in first}
    found: dict[str, list[int]] = {}
    for row in round_dir.read_shard("train", 0) or []:
        sample = row.sample
        found.setdefault(sample.prompt_id, [*prompts[sample.prompt_id].token_ids, *sample.token_ids])
    if not found:
        raise RunFolderError(
            f"{round_dir.root} has no samples",
            "the merged model is checked on some of them",
            "export the adapter itself, without --merge",
        )
    return list(found.values())[:COMPARED]


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)
