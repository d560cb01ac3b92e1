# Sourced by ./start and ./check: sets $root and $python, or says in one sentence why it cannot.
root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

python=
for candidate in ${PYTHON:-"$root/.venv/bin/python" python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    found=$(${PYTHON:-python3} --version 2>&1) || found="none"
    echo "Corral needs Python 3.11 or newer (found here: $found); install one, or name it: PYTHON=/path/to/python3 $0" >&2
    exit 1
fi
