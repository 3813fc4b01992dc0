"""`python -m rayalign` is `rayalign`."""

from __future__ import annotations

from rayalign.cli import main

if __name__ == "__main__":
    main()
