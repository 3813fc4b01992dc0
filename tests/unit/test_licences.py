"""What is installed beside rayalign may be used with it: no licence that asks to open what is built on it."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distributions

# LGPL does not, nor does a GPL with an exception for what is linked.
REFUSED = re.compile(r"(?<!L)(?<!Lesser )(AGPL|Affero|GPL|General Public License)|SSPL|Server Side Public|"
                     r"non-?commercial|CC-BY-NC|Business Source|Commons Clause", re.IGNORECASE)  # fmt: skip
ALLOWED = re.compile(r"LGPL|Lesser General Public|Library General Public|with .*exception", re.IGNORECASE)
UNTOLD = {"axe-playwright-python", "oss-harmony", "setuptools"}
"""Whose metadata name no licence; their files do: MIT, Apache-2.0, MIT."""


def licence_of(one: Distribution) -> str:
    meta = one.metadata
    told = meta.get("License-Expression") or "; ".join(
        line.rpartition("::")[2].strip() for line in meta.get_all("Classifier") or [] if line.startswith("License ::")
    )
    return told or (meta.get("License") or "").strip().partition("\n")[0]


def test_every_installed_package_may_be_used() -> None:
    found = {one.metadata["Name"]: licence_of(one) for one in distributions() if one.metadata["Name"]}
    assert len(found) > 100
    refused = {name: told for name, told in found.items() if REFUSED.search(told) and not ALLOWED.search(told)}
    assert not refused
    assert {name for name, told in found.items() if not told} <= UNTOLD


def test_what_would_be_refused() -> None:
    for told in ("GPL-3.0-only", "GNU Affero General Public License v3", "AGPL-3.0", "SSPL-1.0", "CC-BY-NC-4.0"):
        assert REFUSED.search(told) and not ALLOWED.search(told), told
    for told in ("LGPL-2.1-only", "GNU Lesser General Public License v2 or later (LGPLv2+)", "MIT", "MPL-2.0"):
        assert not REFUSED.search(told) or ALLOWED.search(told), told
