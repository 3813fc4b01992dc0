"""Run folders of which any file is damaged, gone or something else: named, and read as far as that can be."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from rayalign import cli
from rayalign.loop.run import run_rounds
from tests.fakes import make_config, make_run
from tests.fuzz.junk import damaged

pytestmark = pytest.mark.slow

FOLDERS = 500
COMMANDS = [
    ["verify"], ["verify", "--json"], ["verify", "--repair"], ["status"], ["status", "--json"], ["show"], ["report"],
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "fake"
    run_rounds(make_run(root, make_config(run={"name": "fake", "rounds": 2})))
    assert cli.exit_code(["report", str(root)]) == 0
    return root


def damage(rng: random.Random, root: Path) -> str:
    file = rng.choice(sorted(path for path in root.rglob("*") if path.is_file()))
    what = rng.choice(["bytes", "bytes", "bytes", "gone", "folder", "another's", "link"])
    if what == "bytes":
        file.write_bytes(damaged(rng, file.read_bytes()))
    elif what == "another's":
        other = rng.choice(sorted(path for path in root.rglob(f"*{file.suffix}") if path.is_file()))
        file.write_bytes(other.read_bytes())
    else:
        file.unlink()
        if what == "folder":
            file.mkdir()
        elif what == "link":
            file.symlink_to(rng.choice(["/dev/null", "/nowhere/at/all", str(file.parent)]))
    return f"{file.relative_to(root)} {what}"


def test_damaged_run_folders(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes: Counter[tuple[str, int]] = Counter()
    for seed in range(FOLDERS):
        rng = random.Random(f"folder {seed}")
        root = tmp_path / str(seed)
        shutil.copytree(whole, root)
        done = [damage(rng, root) for _ in range(rng.randint(1, 3))]
        for command, *options in rng.sample(COMMANDS, 3):
            capsys.readouterr()
            code = cli.exit_code([command, str(root), *options])
            said = capsys.readouterr()
            told = f"seed {seed}, {command} {options}, {done}: {said.err[-1500:]}"
            assert "Traceback" not in said.out + said.err, told
            assert code in (0, 1 if command == "verify" else 0, 2), told
            codes[command, code] += 1
        shutil.rmtree(root)
    assert codes["verify", 1] > FOLDERS / 4, codes
