"""What `rayalign score` prints: each scorer's summary, and how it agrees with the stored scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rayalign.display import MISSING, format_value
from rayalign.evaluation.agreement import Rewards, pair_agreement, pearson, spearman
from rayalign.records import JsonObject, ScoredSample
from rayalign.tracking.console import Console

COMBINED = "combined reward"


def _columns(rows: Sequence[ScoredSample]) -> dict[str, list[float | None]]:
    """Rewards by scorer, and the combined ones where they are not those of the only scorer."""
    columns = {score.scorer: [row.scores[place].reward for row in rows] for place, score in enumerate(rows[0].scores)}
    combined = [row.reward for row in rows]
    return columns if combined in columns.values() else {**columns, COMBINED: combined}


def scorer_rows(rows: Sequence[ScoredSample]) -> list[JsonObject]:
    found = []
    for place, (name, rewards) in enumerate(_columns(rows).items()):
        known = [reward for reward in rewards if reward is not None]
        scores = [] if name == COMBINED else [row.scores[place] for row in rows]
        found.append(
            {
                "scorer": name,
                "n": len(known),
                "mean": sum(known) / len(known) if known else None,
                "statuses": dict(sorted(Counter(score.status for score in scores).items())),
                "cost": sum(score.cost for score in scores),
            }
        )
    return found


def agreement_rows(rows: Sequence[ScoredSample], stored: Sequence[ScoredSample]) -> list[JsonObject]:
    """Every new column of rewards against every stored one, where both have some."""
    ids = [row.sample.prompt_id for row in rows]
    found = []
    for name, new in _columns(rows).items():
        for other, old in _columns(stored).items():
            if n := _both(new, old):
                pairs = pair_agreement(ids, new, old)
                found.append(
                    {
                        "scorer": name,
                        "stored": other,
                        "n": n,
                        "spearman": spearman(new, old),
                        "pearson": pearson(new, old),
                        "pairs": pairs.pairs,
                        "pairs_alike": pairs.share,
                    }
                )
    return found


def _both(a: Rewards, b: Rewards) -> int:
    return sum(x is not None and y is not None for x, y in zip(a, b, strict=True))


def show_scores(console: Console, summary: Sequence[JsonObject], agreement: Sequence[JsonObject]) -> None:
    statuses = [" ".join(f"{name} {count}" for name, count in one["statuses"].items()) or MISSING for one in summary]
    console.grid(
        [
            ["scorer", *(one["scorer"] for one in summary)],
            ["n", *(str(one["n"]) for one in summary)],
            ["mean", *(format_value(one["mean"]) for one in summary)],
            ["statuses", *statuses],
            ["US$", *(format_value(one["cost"]) for one in summary)],
        ]
    )
    if not agreement:
        console.say("no answer has a reward of both the new scorers and the stored ones: nothing to compare")
        return
    numbers = {"Spearman": "spearman", "Pearson": "pearson"}
    console.grid(
        [
            ["scorer", *(one["scorer"] for one in agreement)],
            ["stored", *(one["stored"] for one in agreement)],
            ["n", *(str(one["n"]) for one in agreement)],
            *([heading, *(format_value(one[key]) for one in agreement)] for heading, key in numbers.items()),
            ["pairs", *(str(one["pairs"]) for one in agreement)],
            ["ordered alike", *(format_value(one["pairs_alike"], "percent") for one in agreement)],
        ]
    )
