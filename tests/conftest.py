"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# A loaded machine is slow, which is no failure.
settings.register_profile("rayalign", deadline=None)
settings.load_profile("rayalign")
