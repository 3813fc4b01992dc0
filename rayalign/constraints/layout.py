"""Constraints on a text's form: lists, sections, marks of Markdown, JSON, what stands around it."""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal

from pydantic import StringConstraints

from rayalign.constraints.base import Constraint, Counted, Text, Texts
from rayalign.constraints.texts import bracketed, divided

_HIGHLIGHT = re.compile(r"\*[^\n*]*\*")
_STRONG = re.compile(r"\*\*[^\n*]*\*\*")
_NUMBERED = re.compile(r"[ \t]*(\d{1,9})[.)][ \t]+\S")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+\S")
_FENCES = ("```json", "```Json", "```JSON", "```")
RESPONSES = "******"


class Bullets(Counted):
    """Lines that begin with `-`, or with one `*` and something behind it."""

    kind: Literal["bullets"]

    def count(self, text: str) -> int:
        starts = (line.lstrip()[:2] for line in text.split("\n"))
        return sum(start[:1] == "-" or (start[:1] == "*" and start not in ("*", "**")) for start in starts)


class NumberedItems(Counted):
    """Lines `1. ...` or `1) ...`; where their numbers are not 1, 2, 3 and so on the constraint is broken."""

    kind: Literal["numbered_items"]

    def count(self, text: str) -> int:
        return len(self._numbers(text))

    def keeps(self, text: str) -> bool:
        found = self._numbers(text)
        return found == list(range(1, len(found) + 1)) and self.fits(len(found))

    def _numbers(self, text: str) -> list[int]:
        return [int(found.group(1)) for line in text.split("\n") if (found := _NUMBERED.match(line))]


class Highlights(Counted):
    """`*highlighted*` and `**highlighted**` parts, each within a line. As IFEval counts them."""

    kind: Literal["highlights"]

    def count(self, text: str) -> int:
        marked = sum(bool(part.strip("*").strip()) for part in _HIGHLIGHT.findall(text))
        return marked + sum(bool(part[2:-2].strip()) for part in _STRONG.findall(text))


class Placeholders(Counted):
    """`[address]`: what stands in square brackets, within a line."""

    kind: Literal["placeholders"]

    def count(self, text: str) -> int:
        return sum(1 for _ in bracketed(text, "[", "]"))


class Sections(Counted):
    """Places where a heading such as `Section 1` stands; case counts."""

    kind: Literal["sections"]
    heading: Text
    """The word before the number."""

    def count(self, text: str) -> int:
        return len(re.findall(rf"{re.escape(self.heading.strip())}\s?\d+", text))


class Headings(Counted):
    """Headings of Markdown: `# ...` to `###### ...`."""

    kind: Literal["headings"]

    def count(self, text: str) -> int:
        return sum(bool(_HEADING.match(line)) for line in text.split("\n"))


class CodeBlocks(Counted):
    """Blocks between lines that begin with three backticks; one that does not end is none."""

    kind: Literal["code_blocks"]
    language: Annotated[str, StringConstraints(pattern=r"^[\w+#.-]+$")] | None = None
    """What stands behind the backticks that open it, case aside; null for any."""

    def count(self, text: str) -> int:
        opened, found = None, 0
        for line in text.split("\n"):
            if not line.lstrip().startswith("```"):
                continue
            if opened is None:
                opened = line.strip().strip("`").strip().lower()
            else:
                found += self.language is None or opened == self.language.lower()
                opened = None
        return found


class Title(Constraint):
    """A title in double angular brackets: `<<poem of joy>>`."""

    kind: Literal["title"]

    def keeps(self, text: str) -> bool:
        return any(self._titled(line) for line in text.split("\n") if "<<" in line)

    @staticmethod
    def _titled(line: str) -> bool:
        start, end = line.find("<<"), line.rfind(">>")
        return end >= start + 3 and bool(line[start : end + 2].lstrip("<").rstrip(">").strip())


class Json(Constraint):
    """Nothing but JSON; it may stand between lines of three backticks."""

    kind: Literal["json"]
    keys: Texts | None = None
    """Keys that the object must have; null for any value of JSON."""

    def keeps(self, text: str) -> bool:
        text = text.strip()
        for fence in _FENCES:
            text = text.removeprefix(fence)
        try:
            # Of the numbers only the form counts: Python refuses to read one of many digits.
            found = json.loads(text.removesuffix("```").strip(), parse_int=len)
        except (ValueError, RecursionError):
            return False
        return self.keys is None or (isinstance(found, dict) and all(key in found for key in self.keys))


class Postscript(Constraint):
    """A postscript's mark occurs, case aside; `P.S.` and `P.P.S` also with spaces inside."""

    kind: Literal["postscript"]
    marker: Text = "P.S."

    def keeps(self, text: str) -> bool:
        text, marker = text.lower(), self.marker.strip()
        if marker == "P.P.S":
            return re.search(r"p\.\s?p\.\s?s", text) is not None
        if marker == "P.S.":
            return re.search(r"p\.\s?s\.", text) is not None
        return marker.lower() in text


class TwoResponses(Constraint):
    """Two different answers, with six asterisks between them."""

    kind: Literal["two_responses"]

    def keeps(self, text: str) -> bool:
        found = divided(text, RESPONSES)
        return found is not None and len(found) == 2 and found[0].strip() != found[1].strip()


class Quoted(Constraint):
    """The whole answer stands in double quotation marks."""

    kind: Literal["quoted"]

    def keeps(self, text: str) -> bool:
        text = text.strip()
        return len(text) > 1 and text[0] == text[-1] == '"'
