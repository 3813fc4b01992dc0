"""Regular expressions from prompts' metadata, which nobody has read: pydantic's Rust engine, whose time is bounded by
the product of pattern and text, on bounded patterns and texts.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable

from pydantic_core import SchemaError, SchemaValidator, core_schema

LONGEST_PATTERN = 200
LONGEST_TEXT = 100_000
"""Characters; a longer text keeps no constraint on an expression."""
MOST_REPEATS = 100
"""Product of all numbers in braces of a pattern."""
_NUMBERS = re.compile(r"\{\s*(\d+)?\s*,?\s*(\d+)?\s*\}")


@functools.lru_cache(maxsize=1024)
def compiled(pattern: str) -> Callable[[str], bool]:
    """Whether a text has the pattern, as a function.

    Raises:
        ValueError: it is no expression of that engine, or repeats too much.
    """
    repeats = [max(int(number or 1) for number in found.groups()) for found in _NUMBERS.finditer(pattern)]
    if math.prod(repeats) > MOST_REPEATS:
        raise ValueError(f"its numbers in braces multiply to more than {MOST_REPEATS}: it could take very long")
    try:
        validator = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        problem = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "")
        raise ValueError(f"it is no regular expression: {problem.removeprefix('error: ')}") from None
    return lambda text: len(text) <= LONGEST_TEXT and validator.isinstance_python(text)
