"""Run commands of `test_error_list` one after another in this process, and tell of each how it ended.

python -m tests.unit.error_list COMMANDS.json ENDED.json
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

from rayalign.cli import exit_code

SLOW = ("ray", "vllm", "deepspeed")


def ended(command: list[str]) -> dict[str, object]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = exit_code(command)
    return {"code": code, "said": said.getvalue(), "slow": [name for name in SLOW if name in sys.modules]}


if __name__ == "__main__":
    commands = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps([ended(command) for command in commands]))
