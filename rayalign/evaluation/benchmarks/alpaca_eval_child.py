"""The alpaca-eval package in a process of its own: importing it resets the root logger, and it must see no secrets.

    python -m rayalign.evaluation.benchmarks.alpaca_eval_child JOB.json

JOB.json names the files of both outputs, the annotator's folder, and where the annotations go.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

MISSING = -1
"""What the package's cache has for an example whose reply said nothing."""
FRACTION = {"instruction": "(no example of any set)", "output_1": "", "output_2": "", "preference": 1.5}
"""Stands in the cache so that the package reads its preferences as fractions: of 1.0 and 2.0 alone pandas makes whole
numbers, into which the package then cannot write a tie."""


def main(job_file: str) -> None:
    from alpaca_eval import evaluate

    job = json.loads(Path(job_file).read_text())
    cache = Path(job["cache"])
    keep_given(cache)
    # As lists: reading a file the package takes texts that look like numbers or dates for such.
    evaluated = evaluate(
        model_outputs=json.loads(Path(job["outputs"]).read_text()),
        reference_outputs=json.loads(Path(job["references"]).read_text()),
        annotators_config=job["annotator"],
        name=job["name"],
        output_path=None,
        precomputed_leaderboard=None,
        fn_metric=winrate,
        sort_by="win_rate",
        is_return_instead_of_print=True,
        caching_path=str(cache),
    )
    assert evaluated is not None, "it was told to return and not to print"
    board, annotations = evaluated
    keep_given(cache)
    kept = ("instruction", "output_1", "output_2", "preference", "preference_raw_completion")
    rows = [{name: _json(row.get(name)) for name in kept} for row in annotations or []]
    told = {"board": {name: _json(value) for name, value in board.iloc[0].to_dict().items()}, "annotations": rows}
    Path(job["result"]).write_text(json.dumps(told))


def winrate(annotations: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """The package's `get_winrate` of what has a preference; it breaks where nothing has."""
    from alpaca_eval.metrics import get_winrate

    given = [row for row in annotations if _json(row.get("preference")) is not None]
    missing = float("nan")
    return get_winrate(given) if given else {"win_rate": missing, "standard_error": missing}


def keep_given(cache: Path) -> None:
    """Take out of the package's cache what it has no preference for, so that it is asked again."""
    if not cache.exists():
        return
    rows: list[Mapping[str, object]] = json.loads(cache.read_text())
    given = (row for row in rows if row.get("preference") not in (None, MISSING))
    kept = [row for row in given if row.get("instruction") != FRACTION["instruction"]]
    if kept:
        cache.write_text(json.dumps([*kept, FRACTION]))
    else:
        cache.unlink()


def _json(value: object) -> object:
    """A cell of a table as JSON; what is not a number is missing."""
    if value is None or isinstance(value, str | bool):
        return value
    number = float(str(value))
    return number if number == number else None


if __name__ == "__main__":
    main(sys.argv[1])
