#!/usr/bin/env bash
# Makes .venv with everything pinned in a lock and this project, editable. Run by `make setup`; safe to repeat.
#
# PROFILE, cpu or gpu, names the lock; by default that of the environment that is there, else cpu. An environment
# keeps its profile: the two builds of torch and vLLM overwrite each other's files.
# Order: torch first (its CPU build is not on the plain index), then the lock without dependency resolution (in the CPU
# profile packages that vLLM asks for are left out on purpose, see cpu_overrides.txt), then the project. The stamp is
# written last, so an interrupted set-up is taken up again. PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv
STAMP=$VENV/.rayalign-setup
HELD=$VENV/.rayalign-profile
LOG=$VENV/setup.log

fail() {
    echo "error: $1" >&2
    shift
    printf '%s\n' "$@" | sed 's/^/  /' >&2
    exit 2
}

# The profile of the environment that is there, also of a half-made one; before there were two it was not noted.
held=$(cat "$HELD" 2>/dev/null || { [ ! -f "$STAMP" ] || echo cpu; })
PROFILE=${PROFILE:-${held:-cpu}}
case $PROFILE in
cpu) BUILD="CPU build" SIZE="3.5 GB" ;;
gpu) BUILD="CUDA build" SIZE="4.4 GB to download" ;;
*) fail "PROFILE is '$PROFILE'" "why: there are two, cpu and gpu" "remedy: make setup PROFILE=gpu" ;;
esac
[ "${held:-$PROFILE}" = "$PROFILE" ] || fail "$VENV holds the $held profile, and PROFILE is $PROFILE" \
    "why: both put their builds of torch and vLLM into the same folders" \
    "remedy: make clean setup PROFILE=$PROFILE (it removes $VENV; runs/ stays), or leave PROFILE away"
LOCK=requirements/$PROFILE.lock

fingerprint=$(cat "$LOCK" pyproject.toml requirements/setup.sh requirements/pip_settings.sh | sha256sum | cut -d' ' -f1)
fingerprint="$fingerprint $PWD"
if [ -x "$VENV/bin/rayalign" ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$fingerprint" ]; then
    exit 0
fi

# shellcheck source=requirements/pip_settings.sh
. requirements/pip_settings.sh

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

# In the GPU profile torch comes with the rest: its CUDA build is what the plain index has.
install_torch() {
    local pin
    [ "$PROFILE" = cpu ] || return 0
    pin=$(grep -oE '^torch==[^ ]+' "$LOCK")
    "$VENV/bin/python" -m pip install --no-deps --no-compile "$pin" ||
        "$VENV/bin/python" -m pip install --no-deps --no-compile --index-url "$PYTORCH_CPU_INDEX" "$pin"
}

install_uv() {
    "$VENV/bin/python" -m pip install --no-deps "$(grep -oE '^uv==[^ ]+' "$LOCK")"
}

# Without pip's folders of wheels in the GPU profile: a CPU build of torch there would be taken for the newer one.
install_lock() {
    pip_settings_for_uv "$VENV/bin/python"
    [ "$PROFILE" = cpu ] || export UV_FIND_LINKS='' PIP_FIND_LINKS=''
    "$VENV/bin/uv" pip install --python "$VENV/bin/python" --no-deps --compile-bytecode -r "$LOCK" ||
        "$VENV/bin/python" -m pip install --no-deps -r "$LOCK"
}

install_project() {
    "$VENV/bin/python" -m pip install --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
}

check_torch() {
    "$VENV/bin/python" - "$PROFILE" <<'PYTHON'
import sys, torch
found = "cpu" if torch.version.cuda is None else "gpu"
assert found == sys.argv[1], f"torch {torch.__version__} is the build of the {found} profile, not of {sys.argv[1]}"
PYTHON
}

python=$(find_python) || fail "no Python 3.11 or 3.12 with the venv module" "$(found_pythons)" \
    "why: the packages in $LOCK were pinned and tested on Python 3.11" \
    "remedy: install one (Debian: apt-get install python3.11-venv; anywhere: uv python install 3.11)," \
    "        then run PYTHON=/path/to/python3.11 make setup"

began=$SECONDS
echo "Setting up $VENV with $("$python" --version) ($(grep -c == "$LOCK") packages, about $SIZE); details in $LOG"
keep=$(grep -s " $PWD\$" "$STAMP" || true)
[ -n "$keep" ] || rm -rf "$VENV"
mkdir -p "$VENV"
rm -f "$STAMP"
echo "$PROFILE" >"$HELD"
: >"$LOG"
step "environment" make_venv
step "uv (installs the rest faster)" install_uv
step "torch (its $BUILD)" install_torch
step "all pinned packages (Ray, vLLM, DeepSpeed, ...)" install_lock
step "rayalign itself, editable" install_project
step "check: torch imports and is the $BUILD" check_torch
echo "$fingerprint" >"$STAMP"
echo "Ready in $((SECONDS - began)) s."
