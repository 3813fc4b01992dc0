#!/usr/bin/env bash
# Ends the cluster that up.sh made, and removes its namespaces, network interfaces, token, logs and Ray folders.
#
#   sudo cluster/local/down.sh            everything
#   sudo cluster/local/down.sh --node 1   kills node 1 at once, like a machine that lost power; 0 is the head
#                                         (Ray's head notices about 30 s later, and then restarts its actors)
#
# Settings: RAYALIGN_CLUSTER and RAYALIGN_CLUSTER_STATE, as given to up.sh.
# Exit codes: 0 nothing is left (or there was nothing), 1 something is left and named, 2 not possible.
set -euo pipefail
# shellcheck source=cluster/local/lib.sh
. "$(dirname "$0")/lib.sh"

down() {
    if [ -z "$(remains)" ]; then
        echo "there is no cluster $CLUSTER: nothing to do"
        exit 0
    fi
    remove_all soft
    local left
    left=$(remains)
    if [ -n "$left" ]; then
        echo "error: this is left of the cluster $CLUSTER:" >&2
        printf '%s\n' "$left" | sed 's/^/  /' >&2
        echo "  remedy: run it again; if that does not help, end or remove what is named" >&2
        exit 1
    fi
    echo "the cluster $CLUSTER is gone"
}

kill_node() {
    local n=$1 ended
    nodes | grep -qxF -- "$n" || fail "there is no node '$n'" \
        "why: the nodes of $CLUSTER are: $(nodes | paste -sd' ')" "remedy: down.sh --node N with one of these"
    ended=$(pids_of "$n" | wc -l)
    end_node "$n" hard || fail "processes of node $n do not end: $(pids_of "$n" | paste -sd' ')" \
        "why: the kernel holds them" "remedy: wait, then down.sh --node $n again"
    echo "node $n killed ($ended processes)"
    [ "$n" != 0 ] || echo "it was the head: the cluster is lost; remove the rest with cluster/local/down.sh"
}

case "${1:-}" in
"") action=down ;;
--node)
    action=kill_node
    [ $# -eq 2 ] || fail "down.sh --node needs one number" "remedy: for example down.sh --node 1"
    ;;
-h | --help)
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"
    exit 0
    ;;
*) fail "unknown argument: $1" "remedy: down.sh, down.sh --node N or down.sh --help" ;;
esac
check_machine "$@"
"$action" "${@:2}"
