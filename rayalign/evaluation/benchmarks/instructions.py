"""How well answers follow instructions that code can check, in the manner of IFEval (Zhou et al. 2023,
arXiv:2311.07911).

    prompts with constraints + answers ─► CheckedAnswer ─► accuracies, strict and loose, by prompt and by instruction

Intervals are clustered by prompt: its instructions, and several answers to it, are not independent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rayalign.constraints.base import Constraint
from rayalign.constraints.following import loose, strict
from rayalign.constraints.reading import FIELD, read_constraints
from rayalign.evaluation.statistics import clustered_mean
from rayalign.records import JsonObject, Metric, Prompt
from rayalign.rendering.thoughts import without_thoughts

LEVELS = ("strict", "loose")


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """One answer, and what of its prompt's constraints it keeps."""

    prompt_id: str
    index: int
    """Of the answer among those to its prompt."""
    kinds: tuple[str, ...]
    """Of the prompt's constraints, in their order."""
    strict: tuple[bool, ...]
    """Of each constraint, whether the answer as it is keeps it."""
    loose: tuple[bool, ...]
    """Of each, whether one of the answer's variants does (`following.loose_variants`)."""

    def to_row(self) -> JsonObject:
        rows = zip(self.kinds, self.strict, self.loose, strict=True)
        kept = [{"kind": kind, "strict": tight, "loose": wide} for kind, tight, wide in rows]
        return {"prompt_id": self.prompt_id, "index": self.index, "constraints": kept}


def check_answers(
    prompts: Iterable[Prompt], answers: Mapping[str, Sequence[str]], field: str = FIELD
) -> list[CheckedAnswer]:
    """Every answer to a prompt with constraints; thoughts before an answer are no part of it.

    Args:
        answers: by prompt id; a prompt may have none.
        field: of the prompts' metadata.

    Raises:
        DataError: a constraint is not understood.
    """
    found = []
    for prompt in prompts:
        if wanted := read_constraints(prompt.metadata, prompt.text, field):
            said = answers.get(prompt.id, ())
            found += [check_answer(wanted, prompt.id, index, text) for index, text in enumerate(said)]
    return found


def check_answer(wanted: Sequence[Constraint], prompt_id: str, index: int, answer: str) -> CheckedAnswer:
    text, kinds = without_thoughts(answer), tuple(one.kind for one in wanted)
    return CheckedAnswer(prompt_id, index, kinds, tuple(strict(wanted, text)), tuple(loose(wanted, text)))


def instruction_metrics(checked: Sequence[CheckedAnswer], *, seed: int) -> dict[str, Metric]:
    """`prompt_strict` and `prompt_loose`: the share of answers that keep all of their prompt's constraints;
    `instruction_strict` and `instruction_loose`: the share of all constraints that are kept, and behind a slash the
    same of each kind. Empty where nothing was checked.
    """
    measured: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for level in LEVELS:
        for answer in checked:
            kept = answer.strict if level == "strict" else answer.loose
            measured[f"prompt_{level}"].append((answer.prompt_id, float(all(kept))))
            for kind, ok in zip(answer.kinds, kept, strict=True):
                for name in (f"instruction_{level}", f"instruction_{level}/{kind}"):
                    measured[name].append((answer.prompt_id, float(ok)))
    return {
        name: clustered_mean([value for _, value in values], [prompt for prompt, _ in values], seed=seed)
        for name, values in sorted(measured.items(), key=lambda one: ("/" in one[0], one[0]))
    }
