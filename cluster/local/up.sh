#!/usr/bin/env bash
# Makes a Ray cluster of several nodes on this one machine, for trying out what only happens on a cluster.
#
#   sudo cluster/local/up.sh           a head and a worker, each with its own address, processes and Ray folder
#   sudo cluster/local/up.sh --node    one more worker
#   sudo cluster/local/down.sh         ends and removes everything again
#
# Settings, from the environment (with sudo: sudo NAME=value cluster/local/up.sh):
#   RAY                           the ray command, default .venv/bin/ray
#   RAYALIGN_CLUSTER              begins the names of all that is made, default rayalign
#   RAYALIGN_CLUSTER_SUBNET       default 10.231.77.0/24; must be a private /24 that is not in use
#   RAYALIGN_CLUSTER_NODES        nodes to begin with, head included, default 2
#   RAYALIGN_CLUSTER_CPUS         logical CPUs of each node, default 2
#   RAYALIGN_CLUSTER_OBJECT_MB    object store of each node in MB, default 300
#   RAYALIGN_CLUSTER_STATE        token, logs and bookkeeping, default ~/.local/state/rayalign-cluster/<cluster>
#
# The nodes see this machine and each other, not the internet. Exit codes: 0 up, 2 already up or not possible.
set -euo pipefail
umask 077
# shellcheck source=cluster/local/lib.sh
. "$(dirname "$0")/lib.sh"

SUBNET=${RAYALIGN_CLUSTER_SUBNET:-10.231.77.0/24}
NODES=${RAYALIGN_CLUSTER_NODES:-2}
CPUS=${RAYALIGN_CLUSTER_CPUS:-2}
OBJECT_MB=${RAYALIGN_CLUSTER_OBJECT_MB:-300}
START_LIMIT_S=180

address() { echo "${SUBNET%.*}.$((10 + $1))"; }

number_in() {
    if ! [[ $2 =~ ^[1-9][0-9]{0,5}$ ]] || [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then
        fail "$1 is '$2'" "why: it must be a whole number from $3 to $4" "remedy: leave it away for the default"
    fi
}

check_settings() {
    local octet='(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])'
    [[ $SUBNET =~ ^(10\.$octet|172\.(1[6-9]|2[0-9]|3[01])|192\.168)\.$octet\.0/24$ ]] ||
        fail "RAYALIGN_CLUSTER_SUBNET is '$SUBNET'" "why: it must be a private network of 256 addresses" \
            "remedy: for example 10.231.78.0/24"
    number_in RAYALIGN_CLUSTER_NODES "$NODES" 1 100
    number_in RAYALIGN_CLUSTER_CPUS "$CPUS" 1 1024
    number_in RAYALIGN_CLUSTER_OBJECT_MB "$OBJECT_MB" 80 100000
}

find_ray() {
    RAY=${RAY:-$ROOT/.venv/bin/ray}
    local found
    found=$(cd "$ROOT" && command -v "$RAY") || fail "there is no $RAY" "why: the nodes run it" \
        "remedy: make setup, or RAY=/path/to/ray $0"
    RAY=$(cd "$ROOT" && realpath -s "$found")
    BIN=$(dirname "$RAY")
}

# The state folder marks the cluster: who makes it owns the names.
make_state() {
    (as_caller mkdir -p "$(dirname "$STATE")") || fail "cannot make $(dirname "$STATE")" \
        "why: token and logs are kept there" "remedy: set RAYALIGN_CLUSTER_STATE to a folder that can be made"
    (as_caller mkdir "$STATE") || fail "$STATE is there already" \
        "why: it belongs to another cluster, or to an up.sh that runs now" "remedy: cluster/local/down.sh, then again"
    echo "SUBNET=$SUBNET" >"$STATE/settings"
    mkdir "$STATE/nodes"
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$STATE/auth_token"
    chown -R "$RUN_AS_UID:$RUN_AS_GID" "$STATE"
}

make_bridge() {
    local route
    route=$(ip -4 route show root "$SUBNET")
    [ -z "$route" ] || fail "the network $SUBNET is in use: $route" "why: two networks cannot share addresses" \
        "remedy: RAYALIGN_CLUSTER_SUBNET=10.231.78.0/24 $0"
    ip link add "$BRIDGE" type bridge
    ip addr add "${SUBNET%.*}.1/24" dev "$BRIDGE"
    ip link set "$BRIDGE" up
    # shellcheck disable=SC2046
    if bridge_is_filtered; then iptables -w -I $(firewall_rule); fi
}

make_network() {
    local n=$1 ns
    ns=$(namespace "$n")
    ip netns add "$ns"
    ip link add "$(veth "$n")" type veth peer name eth0 netns "$ns"
    ip link set "$(veth "$n")" master "$BRIDGE" up
    ip -n "$ns" addr add "$(address "$n")/24" dev eth0
    ip -n "$ns" link set lo up
    ip -n "$ns" link set eth0 up
}

# Replaces this process by `ray start --block` in node N. The caller's Ray settings would point it elsewhere, and its
# proxies (which Ray's own connections would take) cannot be reached from a node.
become_ray() {
    local n=$1 name temp
    shift
    temp=$(as_caller mktemp -d "/tmp/$CLUSTER-n$n.XXXXXX")
    for name in $(compgen -e); do
        case $name in RAY_* | *_proxy | *_PROXY) unset "$name" ;; esac
    done
    cd "$ROOT"
    export PATH="$BIN:$PATH" RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$STATE/auth_token" RAY_USAGE_STATS_ENABLED=0
    umask 022
    export -f as_caller
    export RUN_AS_UID RUN_AS_GID RUN_AS_HOME
    # shellcheck disable=SC2016
    exec setsid ip netns exec "$(namespace "$n")" bash -c 'as_caller "$@"' _ "$RAY" start "$@" --block \
        --node-ip-address="$(address "$n")" --num-cpus="$CPUS" --num-gpus=0 --disable-usage-stats \
        --object-store-memory=$((OBJECT_MB * 1000000)) --temp-dir="$temp" --labels="rayalign-node=$n"
}

# Usage: start_node N ray-start-arguments...; returns when Ray runs in the node.
start_node() {
    local n=$1 began=$SECONDS log=$STATE/nodes/$1/ray.log pid
    shift
    mkdir "$STATE/nodes/$n"
    echo "$n" >"$STATE/nodes/last"
    make_network "$n"
    [ "$n" = 0 ] || check_reach "$n"
    become_ray "$n" "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    disown "$pid"
    echo "$pid" >"$STATE/nodes/$n/pid"
    chown -R "$RUN_AS_UID:$RUN_AS_GID" "$STATE/nodes/$n"
    until grep -q 'Ray runtime started' "$log"; do
        kill -0 "$pid" 2>/dev/null || show_log "$log" "ray start ended in node $n"
        [ $((SECONDS - began)) -lt $START_LIMIT_S ] || show_log "$log" "ray start took over $START_LIMIT_S s in node $n"
        sleep 0.2
    done
    echo "node $n  $(address "$n")  ray in $((SECONDS - began)) s"
}

show_log() {
    echo "--- last lines of ray start" >&2
    tail -n 25 "$1" >&2
    fail "$2" "why: it ran as user id $RUN_AS_UID; the lines above are what it said" \
        "remedy: fix that and run it again; what was begun is removed"
}

check_reach() {
    timeout 10 ip netns exec "$(namespace "$1")" bash -c "exec 3<>/dev/tcp/$(address 0)/6379" 2>/dev/null ||
        fail "node $1 ($(address "$1")) does not reach the head ($(address 0):6379)" \
            "why: a firewall drops packets on the bridge $BRIDGE, or the head is gone" \
            "remedy: allow forwarding on $BRIDGE (with iptables installed up.sh does it), or down.sh and up.sh again"
}

# Waits until the head knows so many nodes; asked from outside, with the token, as `rayalign submit` will.
wait_for_nodes() {
    local url
    url=http://$(address 0):8265
    (as_caller "$BIN/python" - "$url" "$STATE/auth_token" "$1" "$START_LIMIT_S") <<'PYTHON' || exit 2
import json, pathlib, sys, time, urllib.request

url, token_file, wanted, limit = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
headers = {"Authorization": "Bearer " + token_file.read_text()}
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
deadline = time.monotonic() + limit
while True:
    try:
        request = urllib.request.Request(url + "/api/v0/nodes?limit=1000", headers=headers)
        rows = json.load(opener.open(request, timeout=10))["data"]["result"]["result"]
        found = f"{sum(row['state'] == 'ALIVE' for row in rows)} nodes"
        if found == f"{wanted} nodes":
            break
    except (OSError, KeyError, TypeError, ValueError) as error:
        found = repr(error)
    if time.monotonic() > deadline:
        sys.exit(f"error: {url} shows {found}, not {wanted} nodes\n  why: the dashboard or a node did not come up in "
                 f"{limit} s, or a firewall is in between\n  remedy: the logs are in /tmp/*/session_latest/logs")
    time.sleep(0.3)
PYTHON
}

say_how() {
    local head
    head=$(address 0)
    echo
    echo "The cluster is up. Its nodes see this disk, but not the internet. In your shell, in $ROOT:"
    echo
    echo "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$STATE/auth_token"
    if [ -n "${http_proxy:-}${HTTP_PROXY:-}${all_proxy:-}${ALL_PROXY:-}" ]; then
        # shellcheck disable=SC2016
        echo "export NO_PROXY=$head\${NO_PROXY:+,\$NO_PROXY} no_proxy=$head\${no_proxy:+,\$no_proxy}"
    fi
    echo "$BIN/rayalign submit configs/quickstart.yaml --address http://$head:8265"
}

is_up() { [ -f "$STATE/settings" ] && [ -n "$(pids_of 0)" ]; }

end_of_failed() {
    local code=$?
    trap - EXIT INT TERM
    [ "$code" = 0 ] || remove_all hard
    exit "$code"
}

up() {
    if is_up; then
        SUBNET=$(noted_subnet)
        echo "the cluster $CLUSTER is already up: nodes $(nodes | paste -sd' '), dashboard http://$(address 0):8265" >&2
        echo "  token: $STATE/auth_token; one more node: $0 --node; end it: cluster/local/down.sh" >&2
        exit 2
    fi
    local left n
    left=$(remains)
    [ -z "$left" ] || fail "remains of an earlier cluster are there" "$left" "remedy: cluster/local/down.sh, then again"
    make_state
    trap end_of_failed EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    make_bridge
    start_node 0 --head --port=6379 --dashboard-host=0.0.0.0 --dashboard-port=8265
    for ((n = 1; n < NODES; n++)); do start_node "$n" --address="$(address 0):6379"; done
    wait_for_nodes "$NODES"
    trap - EXIT INT TERM
    say_how
}

end_of_failed_node() {
    local code=$?
    trap - EXIT INT TERM
    [ "$code" = 0 ] || end_node "$new" hard
    exit "$code"
}

add_node() {
    is_up || fail "the cluster $CLUSTER is not up" "why: a node needs a head to join" "remedy: $0, then $0 --node"
    SUBNET=$(noted_subnet)
    new=$(($(cat "$STATE/nodes/last") + 1))
    [ "$new" -le 200 ] || fail "node $new is too many" \
        "why: numbers and addresses are not used twice, and the network has room for 200" \
        "remedy: cluster/local/down.sh, then up.sh"
    trap end_of_failed_node EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    start_node "$new" --address="$(address 0):6379"
    trap - EXIT INT TERM
}

case "${1:-}" in
"") action=up ;;
--node) action=add_node ;;
-h | --help)
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"
    exit 0
    ;;
*) fail "unknown argument: $1" "remedy: up.sh, up.sh --node or up.sh --help" ;;
esac
[ $# -le 1 ] || fail "more than one argument: $*" "remedy: up.sh, up.sh --node or up.sh --help"
check_machine "$@"
check_settings
find_ray
"$action"
