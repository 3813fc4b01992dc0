"""The folders of the models that a run loads: the base, and those of its scorers."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from rayalign.config.rewards import RewardModelScoring, SimilarityScoring
from rayalign.config.run import RunConfig
from rayalign.config.scoring import Scoring, model_of
from rayalign.config.services import JudgeScoring
from rayalign.demo.rules import demo_rule
from rayalign.errors import ModelError
from rayalign.scoring.sources import ScorerSource, SourceReaders, read_sources
from rayalign.store.cache import is_made_here
from rayalign.store.files import expanded
from rayalign.store.model_checks import check_causal, check_files
from rayalign.store.model_files import CONFIG

MADE = ("demo", "smollm2")
"""Names of the project's own models."""
PATHS = ("/", "~", ".")
"""What begins so is a path, never a hub id."""


def find_base(name: str, key: str = "model.base") -> Path:
    """The folder of a model, by path, by hub id, or by the name of one that is made on this machine where it is not
    cached: `demo`, `smollm2`, a GGUF file.

    Args:
        key: what gave the name, for errors.

    Raises:
        ModelError: it cannot be found or made.
    """
    if name.startswith(PATHS) and ":" not in name and not expanded(name).exists():
        # Before transformers is imported, and without a hub being asked for what cannot be an id.
        raise ModelError(
            f"{key}: {name!r} cannot be loaded",
            "there is no such folder or file",
            "give an existing Hugging Face model folder, a GGUF file, a hub id that you may read, `demo` or `smollm2`",
        )
    from rayalign.learning.folders import be_quiet, resolve_model

    be_quiet()
    if name == "demo":
        from rayalign.demo.policy import demo_policy

        return demo_policy()
    if name == "smollm2":
        from rayalign.demo.smollm2 import smollm2

        return smollm2(key)
    return resolve_model(name, key)


def check_folder_named(name: str) -> None:
    """Refuse a base that is a folder with a model of another kind, before anything heavy is imported.

    Raises:
        ModelError: it is no causal language model.
    """
    from rayalign.learning.gguf import find_gguf

    folder = expanded(name)
    if (folder / CONFIG).is_file() and find_gguf(folder, "model.base") is None:
        check_causal(folder, "model.base")


def base_of(named: str, given: str | None, sha256: str) -> tuple[Path, str]:
    """The folder of the base that a run trained on, and its id or path as the user gave it (of one that was made on
    this machine: its folder).

    Args:
        named: what the run, or an export of it, calls it.
        given: where the model is now; None looks for what was named.
        sha256: of the base that the run trained on.

    Raises:
        ModelError: it is not there, or it is another model.
    """
    from rayalign.learning.folders import hash_model

    name = given or named
    folder = find_base(name, "--base" if given else "model.base")
    name = str(folder) if is_made_here(folder) else name
    if (found := hash_model(folder)) != sha256:
        raise ModelError(
            f"base model {name}: checksum {found[:16]}...",
            f"the run trained on a model of checksum {sha256[:16]}..., and its adapters fit no other",
            "give the model of the run with --base (of a hub id: a folder with the revision that was used then)",
        )
    return folder, name


def make_demo_models(config: RunConfig) -> None:
    """Make the models that the config names as the project's own and that are not in the cache."""
    if config.model.base in MADE:
        find_base(config.model.base)
    for section in config.scoring:
        if (name := model_of(section)) == "demo":
            _demo_model_of(section)
        elif name in MADE:
            find_base(name, "scoring.model")


def _demo_model_of(section: Scoring) -> Path:
    if isinstance(section, JudgeScoring):
        return find_base("demo")
    if isinstance(section, SimilarityScoring):
        from rayalign.demo.encoder import demo_encoder

        return demo_encoder()
    from rayalign.demo.reward_model import demo_reward_model

    return demo_reward_model()


def read_scorers(
    sections: Sequence[Scoring], config: RunConfig, folder: Path, date: datetime.date
) -> list[ScorerSource]:
    """What scorers read, one source per scorer, each checked.

    Args:
        config: of the run whose answers they score.
        folder: where relative paths are looked up after the working directory.
        date: of the run, for chat templates that ask for today's.

    Raises:
        RayalignError: a file or a model is missing or cannot be used.
    """
    readers = SourceReaders(lambda section: scorer_model(section, config), demo_rule)
    return read_sources(sections, folder, readers, date)


def scorer_model(section: Scoring, config: RunConfig) -> tuple[Path, str]:
    """Folder and checksum of the model that the run loads for a scorer, checked.

    Raises:
        ModelError: it cannot be found, or is of another kind.
        ConfigError: a judge's context is too short for what it is to read.
    """
    from rayalign.learning.folder_checks import check_split
    from rayalign.learning.folders import hash_folder
    from rayalign.scoring.judges.judge_model import check_judge_model
    from rayalign.scoring.models.encoder import check_encoder
    from rayalign.scoring.models.reward_model import check_reward_model

    name = model_of(section)
    assert name is not None
    folder = _demo_model_of(section) if name == "demo" else find_base(name, "scoring.model")
    if isinstance(section, JudgeScoring):
        # It is only asked: vLLM serves weights that were quantised.
        check_files(folder, "scoring.model", quantised=True)
        check_judge_model(folder, section, config)
        if section.transport == "vllm":
            check_split(folder, config.cluster.judges.tensor_parallel, "scoring.model", "cluster.judges")
    elif isinstance(section, SimilarityScoring):
        check_encoder(folder, section.pooling)
    else:
        assert isinstance(section, RewardModelScoring)
        check_reward_model(folder, section.template)
    return folder, hash_folder(folder)
