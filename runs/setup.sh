#!/usr/bin/env bash
# Set up Python for a recipe; every recipe sources this file. Makes .venv and installs what pyproject.toml pins, with uv where there is one and
# with pip where there is not. Once done it takes no time; a changed pyproject.toml does it again.
#
#   EXTRAS=dev      extras of pyproject.toml to install as well (default: none)
#   PYTHON=…        the Python to use (default: the first of the usual names that is 3.10 or newer)
#   SKIP_SETUP=1    touch nothing and use the python that is on the PATH

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

nanochat_find_python() {
    local name names=(python3 python3.13 python3.12 python3.11 python3.10 python)
    if [ -n "${PYTHON:-}" ]; then names=("$PYTHON"); fi
    for name in "${names[@]}"; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            "$name" -c 'import sys; print(sys.executable)'
            return 0
        fi
    done
    echo "error: found no Python 3.10 or newer (tried: ${names[*]}). Install one, or name it: PYTHON=/path/to/python3 bash runs/…" >&2
    return 1
}

nanochat_install() {  # $1: extras, comma-separated
    local what=".${1:+[$1]}" python
    if command -v uv >/dev/null 2>&1; then
        # pip looks for local wheels where PIP_FIND_LINKS says, uv where UV_FIND_LINKS says
        if [ -z "${UV_FIND_LINKS:-}" ] && [ -n "${PIP_FIND_LINKS:-}" ]; then export UV_FIND_LINKS="$PIP_FIND_LINKS"; fi
        python=${PYTHON:-$(nanochat_find_python 2>/dev/null || cat .python-version)}  # uv brings a Python where the machine has none
        uv venv --quiet --clear --python "$python" .venv
        uv pip install --quiet --python .venv/bin/python -e "$what"
    else
        python=$(nanochat_find_python)
        if ! "$python" -m venv --clear .venv; then
            echo "error: $python cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)" >&2
            return 1
        fi
        # Half of the time would go into compiling modules of which few are ever imported; Python does that when they are
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -e "$what"
    fi
}

nanochat_setup() {
    if [ "${SKIP_SETUP:-0}" = 1 ]; then return 0; fi
    local marker=.venv/.nanochat current=no pins="" extras="" extra
    if [ -f "$marker" ] && [ -x .venv/bin/python ]; then
        { read -r pins; read -r extras; } <"$marker" || true
        if [ "$pins" = "$(cksum <pyproject.toml)" ]; then current=yes; fi
    fi
    for extra in $(echo "${EXTRAS:-}" | tr ',' ' '); do
        case ",$extras," in
            *",$extra,"*) ;;
            *) current=no extras="${extras:+$extras,}$extra" ;;  # what an earlier recipe installed stays installed
        esac
    done
    if [ "$current" = no ]; then
        echo "setting up .venv (once; some minutes)"
        rm -f "$marker"
        nanochat_install "$extras"
        printf '%s\n%s\n' "$(cksum <pyproject.toml)" "$extras" >"$marker"  # last: it is the proof that the rest went well
    fi
    export PATH="$PWD/.venv/bin:$PATH" VIRTUAL_ENV="$PWD/.venv"
}

nanochat_setup
