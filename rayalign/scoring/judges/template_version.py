"""What a judge's version says of its template: all that decides what is asked and how the reply is read."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from rayalign.scoring.definitions import definitions_digest
from rayalign.scoring.judges import quoting, templates, verdicts
from rayalign.scoring.judges.templates import Template

_EARLIER = Path(__file__).with_name("code_until_2026_11.txt")
"""The text of the three modules when versions still hashed whole files."""
_EARLIER_DIGEST = "2c2319b333807f4702da3b6817c3e52787a55190661ccff8482828d724770402"
"""Digest of the definitions that this text holds."""


def template_version(template: Template) -> str:
    """Hash of the template's settings and of the code around it."""
    return _hash(template, _digest())


def earlier_version(template: Template) -> str | None:
    """The version that the same template had while whole files were hashed, under which replies may be cached.

    Returns:
        None where the definitions have changed since: replies from before then no longer count.
    """
    same = _digest() == _EARLIER_DIGEST
    return _hash(template, _EARLIER.read_text(encoding="utf-8")) if same else None


@functools.cache
def _digest() -> str:
    return definitions_digest(templates, quoting, verdicts)


def _hash(template: Template, code: str) -> str:
    return hashlib.sha256(f"{template!r}\n{code}".encode()).hexdigest()[:16]
