# Sourced by the scripts beside it: makes .venv where there is none, and installs the checkout into
# it again whenever pyproject.toml has changed. `extra` says with which extras, such as [test].
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

find_python() {
    local name
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "normbench needs Python 3.10 to 3.13; install one, or name it with PYTHON=..." >&2
    return 1
}

set_up() {
    local extra=$1 want stamp=$venv/.installed${1//[^a-z]/-}
    want=$(cksum <"$root/pyproject.toml")
    if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then return; fi
    echo "setting up $venv: once, a few minutes, most of it for torch; its steps:" >&2
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then  # none, or half of one
        local python
        rm -rf "$venv"
        python=$(find_python) || return 1
        echo "  Making an environment of $("$python" --version)" >&2
        "$python" -m venv "$venv" || return 1
    fi
    "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off -e "$root$extra" 2>&1 |
        tee "$venv/install.log" | grep --line-buffered -oE '^ *(Downloading [^ ]+( \(.*\))?|Building [^ ]+|Installing collected packages)' >&2
    if [ "${PIPESTATUS[0]}" != 0 ]; then
        tail -n 20 "$venv/install.log" >&2
        echo "the installation failed; all of it is in $venv/install.log" >&2
        return 1
    fi
    echo "$want" >"$stamp"
}
