"""What the page may run: its scripts, the policy that names them by hash, and data as JSON that no text can end."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence

from markupsafe import Markup

_ENDS = re.compile(r"</script|<!--", re.IGNORECASE)
_IN_JSON = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def script_text(source: str) -> Markup:
    """A script as it stands in the page.

    Raises:
        ValueError: it has `</script` or `<!--`, at which a browser would end or misread it.
    """
    if found := _ENDS.search(source):
        raise ValueError(f"a script of the page holds {found.group()!r}: write it in two parts")
    return Markup(source)


def policy(scripts: Sequence[str], *, connect: bool = False, forms: bool = False) -> str:
    """The page's content security policy: these scripts by hash, styles of the page itself, nothing from elsewhere.

    Args:
        connect: whether the page may ask the server that it comes from.
        forms: whether its forms may lead to that server.
    """
    hashes = " ".join(f"'sha256-{_sha256(text)}'" for text in scripts)
    parts = [
        "default-src 'none'",
        f"script-src {hashes or chr(39) + 'none' + chr(39)}",
        "style-src 'unsafe-inline'",
        "img-src data:",
        *(["connect-src 'self'"] if connect else []),
        "base-uri 'none'",
        f"form-action {chr(39)}{'self' if forms else 'none'}{chr(39)}",
    ]
    return "; ".join(parts)


def json_text(value: object) -> Markup:
    """A JSON value for a `<script type="application/json">`: nothing in it can end the element.

    >>> print(json_text({"a": "</script>"}))
    {"a":"\\u003c/script\\u003e"}
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_IN_JSON))


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
