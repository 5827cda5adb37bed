#!/bin/sh
# install.sh: installs the packages of requirements.txt, and no others, into .venv/ beside it.
# Needs python3 >= 3.10 with venv, and a reachable package index; no compiler: only wheels are taken,
# and each must have one of the hashes in the file.
set -eu
cd "$(dirname "$0")"

stamp=.venv/.installed-requirements
if cmp -s requirements.txt "$stamp" && .venv/bin/python -I -c 'import jsonschema, kubernetes_validate, yaml' 2>/dev/null; then
  echo "install.sh: the Python packages are up to date"
  exit 0
fi

echo "install.sh: pip install into $PWD/.venv (from requirements.txt, wheels with known hashes only)"
python3 -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
  --require-hashes --only-binary :all: --no-deps -r requirements.txt
.venv/bin/python -m pip check
cp requirements.txt "$stamp"
