# Sourced by setup.sh and lock.sh: hands pip's index settings to uv, which does not read them.

# PyTorch's own index: the only public home of CPU builds of torch.
PYTORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

# Usage: pip_setting PYTHON NAME; prints a pip setting (environment first, then configuration files) or nothing.
pip_setting() {
    local variable
    variable=PIP_$(echo "$2" | tr 'a-z-' 'A-Z_')
    if [ -n "${!variable:-}" ]; then
        echo "${!variable}"
    else
        "$1" -m pip config get "global.$2" 2>/dev/null || true
    fi
}

# Usage: pip_settings_for_uv PYTHON; exports what uv calls the same things, unless already set.
pip_settings_for_uv() {
    local links index extra
    links=$(pip_setting "$1" find-links)
    index=$(pip_setting "$1" index-url)
    extra=$(pip_setting "$1" extra-index-url)
    [ -z "$links" ] || export UV_FIND_LINKS="${UV_FIND_LINKS:-$(echo $links | tr ' ' ',')}"
    [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
    [ -z "$extra" ] || export UV_INDEX="${UV_INDEX:-$(echo $extra)}"
    export UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}"
}
