#!/bin/sh
# Prints the Python to use: PYTHON= if given, else python3, else the newest that runs.
set -eu

supported() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    # a name on PATH may be a stub that only says that it is not installed
    if supported "$python"; then
        echo "$python"
        exit 0
    fi
done
echo "drf-concord needs Python 3.11 or newer, and ${PYTHON:-python3} is not: install one, or name it with PYTHON=..." >&2
exit 1
