#!/bin/sh
# Make the virtual environment, install pinned packages, run mt5bus (Linux, macOS).
#
#   ./run.sh                start the whole system on the paper terminal and watch it
#   ./run.sh test [ARGS]    install the tools for developers and run the tests
#   ./run.sh ANYTHING       the same as: mt5bus ANYTHING
#
# PYTHON=/path/to/python3 chooses the Python; the default is the first of 3.13, 3.12, 3.11, 3.14 found.
set -eu

self=$0
while [ -h "$self" ]; do # called through a link: what it stands for
    target=$(readlink -- "$self")
    case $target in
        /*) self=$target ;;
        *) self=$(dirname -- "$self")/$target ;;
    esac
done
root=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
venv=$root/.venv
python=$venv/bin/python

fits() {
    "$1" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 14) and sys.maxsize > 2**32))' \
        >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        if fits "$PYTHON"; then printf '%s\n' "$PYTHON"; return; fi
        printf 'mt5bus: PYTHON=%s is not a 64-bit Python 3.11 to 3.14\n' "$PYTHON" >&2
        exit 1
    fi
    for name in python3.13 python3.12 python3.11 python3.14 python3 python; do
        if command -v "$name" >/dev/null 2>&1 && fits "$name"; then printf '%s\n' "$name"; return; fi
    done
    printf 'mt5bus: needs a 64-bit Python 3.11 to 3.14: install one from python.org or your package manager\n' >&2
    exit 1
}

# A virtual environment holds absolute paths: one that was moved, or whose Python is gone, is made again.
if ! { [ -x "$python" ] && "$python" -m pip --version >/dev/null 2>&1; }; then
    base=$(find_python)
    printf 'mt5bus: making the virtual environment .venv with %s ...\n' "$("$base" --version)" >&2
    rm -rf -- "$venv"
    if ! "$base" -m venv "$venv"; then
        rm -rf -- "$venv"
        printf 'mt5bus: .venv could not be made (on Debian and Ubuntu: apt install python3-venv)\n' >&2
        exit 1
    fi
fi

export PYTHONUTF8=1
if [ "${1:-}" = test ]; then
    shift
    "$python" -I "$root/mt5bus/bootstrap.py" --dev
    cd -- "$root"
    exec "$python" -m pytest "$@"
fi
"$python" -I "$root/mt5bus/bootstrap.py"
if [ "$#" -eq 0 ]; then set -- up; fi
exec "$python" -P -m mt5bus "$@"
