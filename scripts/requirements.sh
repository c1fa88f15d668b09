#!/bin/sh
# Pins every requirements/*.in with hashes; an address of a package index never gets into a file.
# UPGRADE=--upgrade takes the newest releases, UV= names another uv.
set -eu
cd "$(dirname "$0")/.."

uv=${UV:-.venv/bin/uv}
[ -x "$uv" ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check uv

pin() { # pin NAME PYTHON [OPTION ...]
    name=$1 python=$2
    shift 2
    echo "requirements/$name.txt"
    "$uv" pip compile --quiet ${UPGRADE:-} --universal --python-version "$python" \
        --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
        --output-file "requirements/$name.txt" "$@" "requirements/$name.in"
}

pin test 3.11
# the same versions as the tests, so that both can share one environment
pin demo 3.11 --constraint requirements/test.txt
pin test-django61 3.12
[ ! -e requirements/bench.in ] || pin bench 3.11
