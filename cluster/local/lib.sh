# Sourced by up.sh and down.sh: settings, the names of what is made, and how it is found again.
#
#   bridge <cluster>-br, address .1             namespace <cluster>-n0, address .10: the head
#   veth pairs <cluster>-vN <-> eth0 in nN      namespace <cluster>-n1, address .11: the first worker, and so on
#
# A node is a network namespace: every process that Ray starts there stays in it, so `ip netns pids` names exactly
# what has to end, whatever sessions and process groups those processes made.
# shellcheck shell=bash disable=SC2034

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CLUSTER=${RAYALIGN_CLUSTER:-rayalign}
BRIDGE=$CLUSTER-br

fail() {
    echo "error: $1" >&2
    shift
    printf '%s\n' "$@" | sed 's/^/  /' >&2
    exit 2
}

# Under sudo the files belong to the caller and Ray runs as the caller; only the network needs root.
RUN_AS_UID=${SUDO_UID:-$(id -u)}
RUN_AS_GID=${SUDO_GID:-$(id -g)}
RUN_AS_HOME=$(getent passwd "$RUN_AS_UID" | cut -d: -f6)
RUN_AS_HOME=${RUN_AS_HOME:-${HOME:-/root}}

# Usage: as_caller command...; the command replaces this process when run by exec.
as_caller() {
    if [ "$RUN_AS_UID" = "$(id -u)" ]; then
        exec env HOME="$RUN_AS_HOME" "$@"
    fi
    exec setpriv --reuid "$RUN_AS_UID" --regid "$RUN_AS_GID" --init-groups env HOME="$RUN_AS_HOME" "$@"
}

default_state=$RUN_AS_HOME/.local/state
if [ -z "${SUDO_UID:-}" ]; then default_state=${XDG_STATE_HOME:-$default_state}; fi
STATE=${RAYALIGN_CLUSTER_STATE:-$default_state/rayalign-cluster/$CLUSTER}

check_machine() {
    [ "$(uname -s)" = Linux ] || fail "found $(uname -s)" "why: network namespaces are a part of Linux" \
        "remedy: use a Linux machine, or one of the other ways in cluster/README.md"
    [ "$(id -u)" = 0 ] || fail "this needs root (found user id $(id -u))" \
        "why: it makes network namespaces and a bridge" \
        "remedy: sudo $0 $*   (Ray itself then runs as you, not as root)"
    local tool
    for tool in ip:iproute2 setsid:util-linux setpriv:util-linux getent:libc-bin; do
        command -v "${tool%:*}" >/dev/null || fail "the command ${tool%:*} is not there" \
            "why: the nodes are made with it" "remedy: apt-get install ${tool#*:}"
    done
    [[ $CLUSTER =~ ^[a-z][a-z0-9]{0,9}$ ]] || fail "RAYALIGN_CLUSTER is '$CLUSTER'" \
        "why: it begins the names of network interfaces, which have at most 15 characters" \
        "remedy: a letter, then up to nine letters or digits, all lower case"
    [[ $STATE = /* ]] || fail "the state folder '$STATE' is not an absolute path" \
        "why: up.sh and down.sh must find the same one from anywhere" "remedy: set RAYALIGN_CLUSTER_STATE to one"
}

namespace() { echo "$CLUSTER-n$1"; }
veth() { echo "$CLUSTER-v$1"; }

# Numbers of the nodes that have a namespace, the head first.
nodes() {
    ip netns list 2>/dev/null | cut -d' ' -f1 | sed -n "s/^$CLUSTER-n\([0-9]\+\)\$/\1/p" | sort -n
}

pids_of() { ip netns pids "$(namespace "$1")" 2>/dev/null || true; }

our_links() { ip -o link show | awk -F': ' '{print $2}' | cut -d@ -f1 | grep -E "^$CLUSTER-(br|v[0-9]+)\$" || true; }

# Usage: temp_dirs [N]; the folders of Ray's sessions, which mktemp made in up.sh, of one node or of all.
temp_dirs() {
    find /tmp -maxdepth 1 -type d -user "$RUN_AS_UID" -regextype posix-extended \
        -regex "/tmp/$CLUSTER-n${1:-[0-9]+}\.[A-Za-z0-9]{6}"
}

# The network of the cluster that is up, as up.sh noted it.
noted_subnet() { sed -n 's/^SUBNET=//p' "$STATE/settings"; }

# Packets between two ports of a bridge pass iptables where br_netfilter is on, and Docker drops them there.
firewall_rule() { echo "FORWARD -i $BRIDGE -o $BRIDGE -m comment --comment $BRIDGE -j ACCEPT"; }

bridge_is_filtered() {
    [ "$(cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null)" = 1 ] && command -v iptables >/dev/null
}

has_firewall_rule() {
    # shellcheck disable=SC2046
    command -v iptables >/dev/null && iptables -w -C $(firewall_rule) 2>/dev/null
}

# Usage: end_node N KIND; KIND is hard (SIGKILL at once) or soft (SIGTERM, three seconds, then SIGKILL: a head often
# needs it, because its gcs_server waits). Ends what runs in the node and removes its link, namespace and files.
# Returns 1 where processes do not end.
end_node() {
    local n=$1 pids tries
    if [ "$2" = soft ]; then
        pids=$(pids_of "$n")
        # shellcheck disable=SC2086
        [ -z "$pids" ] || kill -TERM $pids 2>/dev/null || true
        for ((tries = 0; tries < 30; tries++)); do
            [ -n "$(pids_of "$n")" ] || break
            sleep 0.1
        done
    fi
    for ((tries = 0; tries < 100; tries++)); do
        pids=$(pids_of "$n")
        [ -n "$pids" ] || break
        # shellcheck disable=SC2086
        kill -KILL $pids 2>/dev/null || true
        sleep 0.1
    done
    [ -z "$(pids_of "$n")" ] || return 1
    ip link del "$(veth "$n")" 2>/dev/null || true
    ip netns del "$(namespace "$n")" 2>/dev/null || true
    temp_dirs "$n" | xargs -r -d '\n' rm -rf
    rm -rf "${STATE:?}/nodes/$n"
}

# Removes all that up.sh made, also after an interrupted one.
remove_all() {
    local n link
    for n in $(nodes | sort -rn); do end_node "$n" "$1" || true; done
    for link in $(our_links); do ip link del "$link" 2>/dev/null || true; done
    # shellcheck disable=SC2046
    while has_firewall_rule; do iptables -w -D $(firewall_rule); done
    if [ -z "$(nodes)" ]; then temp_dirs | xargs -r -d '\n' rm -rf; fi
    if [ -f "$STATE/settings" ] && [ -z "$(nodes)" ]; then
        rm -rf "${STATE:?}/nodes" "$STATE/auth_token" "$STATE/settings"
        rmdir "$STATE" 2>/dev/null || true
        rmdir "$(dirname "$STATE")" 2>/dev/null || true
    fi
}

# One line for each thing that is there.
remains() {
    local n
    for n in $(nodes); do
        echo "namespace $(namespace "$n")"
        pids_of "$n" | sed "s/^/process in $(namespace "$n"): /"
    done
    our_links | sed 's/^/network interface /'
    temp_dirs | sed 's/^/folder /'
    if [ -e "$STATE" ]; then echo "state folder $STATE"; fi
    if has_firewall_rule; then echo "firewall rule $(firewall_rule)"; fi
}
