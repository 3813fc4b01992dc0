"""Whether an answer keeps constraints, strictly and loosely, as IFEval counts (Zhou et al. 2023, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

from rayalign.constraints.base import Constraint


def strict(constraints: Sequence[Constraint], text: str) -> list[bool]:
    """Whether the text keeps each; a blank text keeps none."""
    return [bool(text.strip()) and constraint.keeps(text) for constraint in constraints]


def loose(constraints: Sequence[Constraint], text: str) -> list[bool]:
    """Whether each is kept by at least one of the text's variants."""
    variants = loose_variants(text)
    return [any(constraint.keeps(variant) for variant in variants) for constraint in constraints]


def loose_variants(text: str) -> list[str]:
    """Up to eight: the text as it is, without its first line, its last one, and both; and these without asterisks. A
    preamble, a closing remark and marks of Markdown are thus forgiven. Blank ones are left out.
    """
    lines = text.split("\n")
    cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return list(dict.fromkeys(variant for one in cut for variant in (one, one.replace("*", "")) if variant.strip()))
