#!/bin/sh
# environment.sh DIRECTORY REQUIREMENTS: a virtual environment with the pinned requirements and
# this project in it; does nothing when it is already there and up to date.
set -eu
cd "$(dirname "$0")/.."
environment=$1
requirements=$2
stamp=$environment/.installed-$(basename "$requirements" .txt)

# a checkout that was moved or copied leaves an environment that points to the old place
here='import sys; from importlib.util import find_spec as find; from pathlib import Path
sys.exit(Path(find("drf_concord").origin).resolve() != Path("src/drf_concord/__init__.py").resolve())'

up_to_date() {
    "$environment/bin/python" -c "$here" 2>/dev/null &&
        [ "$stamp" -nt "$requirements" ] && [ "$stamp" -nt pyproject.toml ]
}

pip_install() {
    "$environment/bin/python" -m pip install -qq --disable-pip-version-check --no-input "$@"
}

if up_to_date; then
    exit 0
fi

if ! "$environment/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(sh scripts/python.sh)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$python cannot make virtual environments: install its venv module (on Debian: apt-get install python3-venv)" >&2
        exit 1
    fi
    echo "making $environment with $("$python" --version)"
    "$python" -m venv --clear "$environment"
fi

echo "installing $requirements into $environment"
pip_install --require-hashes --requirement "$requirements"
pip_install --no-deps --no-build-isolation --editable .
touch "$stamp"
