#!/usr/bin/env bash
# Rewrites requirements/cpu.lock from pyproject.toml, cpu.in and overrides.txt, and smollm2.lock from smollm2.in; pins
# that still fit are kept.
# Arguments go to uv, for example: requirements/lock.sh --upgrade-package ray
set -euo pipefail
cd "$(dirname "$0")/.."

uv=.venv/bin/uv
[ -x "$uv" ] || uv=$(command -v uv) || { echo "error: uv is missing; run make setup first" >&2; exit 2; }

# shellcheck source=requirements/pip_settings.sh
. requirements/pip_settings.sh
pip_settings_for_uv .venv/bin/python

# The PyTorch index is asked for torch only if no wheel of the CPU build is found elsewhere.
compile() {
    "$uv" pip compile pyproject.toml requirements/cpu.in --extra cpu --extra dev \
        --overrides requirements/overrides.txt --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --custom-compile-command requirements/lock.sh --no-emit-index-url --annotation-style line --output-file requirements/cpu.lock --quiet "$@"
}
compile "$@" || compile "$@" --index "$PYTORCH_CPU_INDEX" --index-strategy unsafe-best-match
"$uv" pip compile requirements/smollm2.in --constraint requirements/cpu.lock --no-deps --python-version 3.11 \
    --custom-compile-command requirements/lock.sh --no-emit-index-url --annotation-style line \
    --output-file requirements/smollm2.lock --quiet
echo "requirements/cpu.lock: $(grep -c == requirements/cpu.lock) packages"
