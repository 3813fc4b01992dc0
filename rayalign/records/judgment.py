"""What a written judgment means: is the response without fault, or is this what is wrong with it?"""

from __future__ import annotations

import math
import re

from rayalign.errors import DataError
from rayalign.records.rows import Verdict

GOOD_SCORE = 7.0
"""From this score on a judged response counts as without fault (the CUT release's rule)."""
_PERFECT = re.compile(r"\s*[\"'*]*perfect[\"'*]*\s*(?:[.!\n]|$)", re.IGNORECASE)


def verdict_of(judgment: str | None, score: float | None = None) -> Verdict:
    """`perfect` or `flawed`, from a judgment and the score that some sources give beside it.

    No judgment means without fault, and so does one that begins with "Perfect." and a score of 7 or more.

    Raises:
        DataError: a blank judgment; a score that is not a number; no judgment and a low score, which would train a
            bad response as a good one.

    >>> verdict_of("Perfect."), verdict_of("Perfectly wrong."), verdict_of("Too long.", 7.0)
    ('perfect', 'flawed', 'perfect')
    """
    if score is not None and not math.isfinite(score):
        raise DataError(f"score {score}", "it is not a number", "mend or remove that row")
    good = score is None or score >= GOOD_SCORE
    if judgment is None:
        if not good:
            why = "the response would be trained as one without fault"
            raise DataError(f"no judgment beside a score of {score:g}", why, "give the judgment, or remove that row")
        return "perfect"
    if not judgment.strip():
        raise DataError(
            "a blank judgment", "it neither praises nor criticises", "use null for none, or remove that row"
        )
    if _PERFECT.match(judgment) or (score is not None and good):
        return "perfect"
    return "flawed"
