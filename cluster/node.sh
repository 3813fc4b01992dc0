#!/usr/bin/env bash
# One node of a Ray cluster that lives as long as one run. Whatever starts a process on each machine calls it there:
#
#   cluster/node.sh RANK NODES HEAD CONFIG [--set A.B=C ...]
#
# Node 0 starts Ray's head at HEAD, its address for the others, waits for all NODES, does `rayalign run CONFIG ...`,
# and ends with its exit code. The others join, and end when the head has gone. SIGTERM on node 0 stops the run (exit
# code 3; the same command resumes it); on the others it changes nothing: the run needs them until it has stopped.
#
# RAY_AUTH_TOKEN has to be set, to the same secret on every node: Ray refuses who does not know it. Other settings:
#   RAYALIGN_BIN       folder of ray, rayalign and python, default .venv/bin of this project
#   RAYALIGN_PORT      of the head, default 6379
#   RAYALIGN_CPUS      logical CPUs of this node, default those that this process may use
#   RAYALIGN_GPUS      its GPUs, default those that Ray sees
#   RAYALIGN_START_S   how long nodes wait for each other, default 900
#   RAYALIGN_POLL_S    how often they look, default 1
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
    echo "error: $1" >&2
    shift
    printf '%s\n' "$@" | sed 's/^/  /' >&2
    exit 2
}

if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"
    exit 0
fi
[ $# -ge 4 ] || fail "node.sh got $# arguments" "why: it needs RANK NODES HEAD CONFIG" "remedy: $0 --help"
RANK=$1 NODES=$2 HEAD=$3
shift 3
[[ $RANK =~ ^[0-9]+$ && $NODES =~ ^[1-9][0-9]*$ && $RANK -lt $NODES ]] ||
    fail "node $RANK of $NODES" "why: nodes count from 0 to one less than their number" "remedy: $0 --help"
[ -n "${RAY_AUTH_TOKEN:-}" ] || fail "RAY_AUTH_TOKEN is not set" \
    "why: anyone who reaches the cluster could run code on it" \
    "remedy: export RAY_AUTH_TOKEN=\$(openssl rand -hex 32), once, for all nodes"
BIN=${RAYALIGN_BIN:-$ROOT/.venv/bin}
[ -x "$BIN/ray" ] || fail "there is no $BIN/ray" "why: every node runs it" \
    "remedy: make setup PROFILE=gpu there, or set RAYALIGN_BIN"
PORT=${RAYALIGN_PORT:-6379}
CPUS=${RAYALIGN_CPUS:-$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)}
START_S=${RAYALIGN_START_S:-900}
POLL_S=${RAYALIGN_POLL_S:-1}

export PATH="$BIN:$PATH" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
unset RAY_ADDRESS
# The head's name of Ray's folder is taken by all nodes, each on its own disk.
TEMP=/tmp/rayalign-node-$(printf %s "$RAY_AUTH_TOKEN" | sha256sum | head -c 8)
LOG=$TEMP/start-$RANK.log
(umask 077 && mkdir -p "$TEMP")
common=(--num-cpus="$CPUS" ${RAYALIGN_GPUS:+--num-gpus="$RAYALIGN_GPUS"} --disable-usage-stats --block)

# In sessions of their own: a signal for this process alone must not end what it is about to stop in order.
ray_pid='' run_pid=''
start_ray() {
    ulimit -n 65536 2>/dev/null || true
    setsid "$BIN/ray" start "$@" "${common[@]}" >"$LOG" 2>&1 </dev/null &
    ray_pid=$!
}

end_all() {
    local code=$? tries
    trap '' TERM INT
    [ -z "$run_pid" ] || kill -TERM "$run_pid" 2>/dev/null || true
    if [ -n "$ray_pid" ]; then
        kill -TERM "$ray_pid" 2>/dev/null || true
        for ((tries = 0; tries < 100; tries++)); do
            kill -0 "$ray_pid" 2>/dev/null || break
            sleep 0.1 || true
        done
        kill -KILL -- "-$ray_pid" 2>/dev/null || true
    fi
    rm -rf "$TEMP" 2>/dev/null || true
    exit "$code"
}
trap end_all EXIT

ray_runs() { kill -0 "$ray_pid" 2>/dev/null; }
ray_failed() {
    tail -n 25 "$LOG" >&2
    echo "error: ray start ended on node $RANK; the lines above are what it said" >&2
    exit 1
}
reaches_head() { timeout 5 bash -c "exec 3<>/dev/tcp/$HEAD/$PORT" 2>/dev/null; }

wait_for_head() {
    until reaches_head; do
        [ $SECONDS -lt "$START_S" ] || fail "node $RANK does not reach $HEAD:$PORT in $START_S s" \
            "why: node 0 did not start, or a firewall is in between" "remedy: look at node 0's output"
        sleep "$POLL_S" || true
    done
}

join() {
    # Not ignored, which Ray would inherit and not end by it.
    trap : TERM
    wait_for_head
    start_ray --address="$HEAD:$PORT"
    local misses=0
    while [ $misses -lt 3 ]; do
        sleep "$POLL_S" || true
        if reaches_head; then misses=0; else misses=$((misses + 1)); fi
        ray_runs || { reaches_head && ray_failed; break; }
    done
}

# Replaces the subshell that it runs in.
wait_for_nodes() {
    exec "$BIN/python" - "$NODES" "$START_S" <<'PYTHON'
import sys, time
import ray

wanted, limit_s = int(sys.argv[1]), int(sys.argv[2])
ray.init(log_to_driver=False, logging_level="WARNING")
deadline = time.monotonic() + limit_s
while (there := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"error: {there} of {wanted} nodes joined in {limit_s} s\n  why: a machine did not start, or does not "
                 "reach the head\n  remedy: look at the other nodes' output, and run the same command again")
    time.sleep(1)
print(f"{there} nodes: {ray.cluster_resources().get('CPU', 0):g} CPUs, {ray.cluster_resources().get('GPU', 0):g} GPUs")
PYTHON
}

# Waits for the process run_pid; its exit code in code. A trap ends a wait before what was waited for has ended.
code=0 told=''
finish() {
    local again=yes
    while [ -n "$again" ]; do
        told='' code=0
        wait "$run_pid" || code=$?
        again=$told
    done
    run_pid=''
}

lead() {
    trap 'exit 3' TERM
    start_ray --head --node-ip-address="$HEAD" --port="$PORT" --include-dashboard=false --temp-dir="$TEMP"
    until reaches_head; do
        ray_runs || ray_failed
        [ $SECONDS -lt "$START_S" ] || fail "Ray's head did not start in $START_S s" "why: this node is overloaded" \
            "remedy: run the same command again"
        sleep "$POLL_S" || true
    done
    export RAY_ADDRESS=$HEAD:$PORT
    trap 'told=yes; kill -TERM "$run_pid" 2>/dev/null || true' TERM
    wait_for_nodes &
    run_pid=$!
    finish
    [ "$code" = 0 ] || exit 3
    setsid "$BIN/rayalign" run "$@" &
    run_pid=$!
    finish
    exit "$code"
}

if [ "$RANK" = 0 ]; then lead "$@"; else join; fi
