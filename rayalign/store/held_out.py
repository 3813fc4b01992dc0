"""The held-out prompts of a run, kept in its folder, so that their answers can be read beside them anywhere."""

from __future__ import annotations

from collections.abc import Iterable

from rayalign.errors import RunFolderError
from rayalign.records import Prompt
from rayalign.store.files import Place
from rayalign.store.folder import Folder
from rayalign.store.round_dir import PROMPTS_PER_ROW_GROUP
from rayalign.store.tables import read_parquet, write_table

HELD_OUT = "held_out.parquet"


def write_held_out(run_dir: Place, prompts: Iterable[Prompt]) -> None:
    """Write the prompts into the folder of a run, which holds the same ones as long as it lives.

    Raises:
        StoreError: the disk is full.
        RunFolderError: the store cannot be used.
    """
    if not (target := Folder(run_dir) / HELD_OUT).exists():
        write_table(target, (prompt.to_row() for prompt in prompts), Prompt.schema(), PROMPTS_PER_ROW_GROUP)


def read_held_out(run_dir: Place) -> list[Prompt]:
    """The held-out prompts, in their order; none where the folder is of a version that did not keep them.

    Raises:
        RunFolderError: the file is damaged.
    """
    from pyarrow import ArrowException

    place = Folder(run_dir) / HELD_OUT
    try:
        return [Prompt.from_row(row) for row in read_parquet(place)]
    except FileNotFoundError:
        return []
    except (ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, RunFolderError):
            raise
        raise RunFolderError(
            f"{place}: {' '.join(str(error).split())[:200]}",
            "it is not what a run writes",
            "restore the file, or remove it: held-out prompts are then shown by their ids",
        ) from error
