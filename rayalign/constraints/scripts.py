"""Scripts: which letters of a text are whose."""

from __future__ import annotations

import re

_BLOCKS = {
    "latin": r"A-Za-z\u00aa\u00ba\u00c0-\u02af\u1e00-\u1eff",
    "greek": r"\u0370-\u03ff\u1f00-\u1fff",
    "cyrillic": r"\u0400-\u052f",
    "hebrew": r"\u0590-\u05ff",
    "arabic": r"\u0600-\u06ff\u0750-\u077f",
    "devanagari": r"\u0900-\u097f",
    "bengali": r"\u0980-\u09ff",
    "gurmukhi": r"\u0a00-\u0a7f",
    "gujarati": r"\u0a80-\u0aff",
    "tamil": r"\u0b80-\u0bff",
    "telugu": r"\u0c00-\u0c7f",
    "kannada": r"\u0c80-\u0cff",
    "malayalam": r"\u0d00-\u0d7f",
    "thai": r"\u0e00-\u0e7f",
    "hangul": r"\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3",
    "kana": r"\u3040-\u30ff",
    "han": r"\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff",
}
"""Unicode's blocks of each; of these its letters count."""
SCRIPTS = tuple(_BLOCKS)
_LETTER = re.compile(r"[^\W\d_]")
_OF_SCRIPT = {name: re.compile(rf"(?![\W\d_])[{block}]") for name, block in _BLOCKS.items()}


def share(text: str, scripts: tuple[str, ...]) -> float | None:
    """Of all letters the share of those of these scripts; None for a text without letters."""
    total = len(_LETTER.findall(text))
    return sum(len(_OF_SCRIPT[script].findall(text)) for script in scripts) / total if total else None
