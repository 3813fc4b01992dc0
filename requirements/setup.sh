#!/usr/bin/env bash
# Makes .venv with everything pinned in cpu.lock and this project, editable. Run by `make setup`; safe to repeat.
#
# Order: torch first (its CPU build is not on the plain index), then the lock without dependency resolution (three
# packages that vLLM asks for are left out on purpose, see overrides.txt), then the project. The stamp is written
# last, so an interrupted set-up is taken up again. PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv
STAMP=$VENV/.rayalign-setup
LOG=$VENV/setup.log
LOCK=requirements/cpu.lock

fingerprint=$(cat "$LOCK" pyproject.toml requirements/setup.sh requirements/pip_settings.sh | sha256sum | cut -d' ' -f1)
fingerprint="$fingerprint $PWD"
if [ -x "$VENV/bin/rayalign" ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$fingerprint" ]; then
    exit 0
fi

# shellcheck source=requirements/pip_settings.sh
. requirements/pip_settings.sh

fail() {
    echo "error: $1" >&2
    shift
    printf '%s\n' "$@" | sed 's/^/  /' >&2
    exit 2
}

# Usage: step "what and why" command...; the output goes to the log, its tail is shown if the command fails.
step() {
    local what=$1 began=$SECONDS
    shift
    printf '%-68s' "$what"
    if ! "$@" >>"$LOG" 2>&1; then
        echo " failed after $((SECONDS - began)) s"
        echo "--- last lines of $LOG" >&2
        tail -n 25 "$LOG" >&2
        fail "set-up stopped at: $what" "remedy: fix what the lines above say and run it again; downloads are kept"
    fi
    echo " $((SECONDS - began)) s"
}

# Prints the first interpreter the lock can be installed on; a shim that does not run is passed over.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python python3.12}; do
        if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

found_pythons() {
    local candidate version
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
        version=$("$candidate" --version 2>/dev/null) || version="not there, or does not run"
        echo "found: $candidate is $version"
    done
}

# Without a stamp of this folder the environment is half made or was moved (its scripts hold the old path), and a
# half-installed package can look installed: it is made anew. The log goes on in the new folder.
make_venv() {
    if [ -z "$keep" ]; then "$python" -m venv "$VENV"; fi
    "$VENV/bin/python" -m pip --version
}

install_torch() {
    local pin
    pin=$(grep -oE '^torch==[^ ]+' "$LOCK")
    "$VENV/bin/python" -m pip install --no-deps --no-compile "$pin" ||
        "$VENV/bin/python" -m pip install --no-deps --no-compile --index-url "$PYTORCH_CPU_INDEX" "$pin"
}

install_uv() {
    "$VENV/bin/python" -m pip install --no-deps "$(grep -oE '^uv==[^ ]+' "$LOCK")"
}

install_lock() {
    pip_settings_for_uv "$VENV/bin/python"
    "$VENV/bin/uv" pip install --python "$VENV/bin/python" --no-deps --compile-bytecode -r "$LOCK" ||
        "$VENV/bin/python" -m pip install --no-deps -r "$LOCK"
}

install_project() {
    "$VENV/bin/python" -m pip install --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
}

check_torch() {
    "$VENV/bin/python" -c '
import torch
assert torch.version.cuda is None, f"torch {torch.__version__} is a CUDA build; the CPU profile needs the CPU build"'
}

python=$(find_python) || fail "no Python 3.11 or 3.12 with the venv module" "$(found_pythons)" \
    "why: the packages in $LOCK were pinned and tested on Python 3.11" \
    "remedy: install one (Debian: apt-get install python3.11-venv; anywhere: uv python install 3.11)," \
    "        then run PYTHON=/path/to/python3.11 make setup"

began=$SECONDS
echo "Setting up $VENV with $("$python" --version) ($(grep -c == "$LOCK") packages, about 3.5 GB); details in $LOG"
keep=$(grep -s " $PWD\$" "$STAMP" || true)
[ -n "$keep" ] || rm -rf "$VENV"
mkdir -p "$VENV"
rm -f "$STAMP"
: >"$LOG"
step "environment" make_venv
step "uv (installs the rest faster)" install_uv
step "torch (its CPU build)" install_torch
step "all pinned packages (Ray, vLLM, DeepSpeed, ...)" install_lock
step "rayalign itself, editable" install_project
step "check: torch imports and is the CPU build" check_torch
echo "$fingerprint" >"$STAMP"
echo "Ready in $((SECONDS - began)) s."
