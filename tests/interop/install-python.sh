#!/bin/sh
# install-python.sh FOLDER MODULES: installs the packages of FOLDER/requirements.txt, and no others, into
# FOLDER/.venv. MODULES, separated by commas, must be importable then.
# Needs python3 >= 3.10 with venv, and a reachable package index, but no compiler: it accepts only wheels
# with one of the hashes in the file.
set -eu
cd "$1"

stamp=.venv/.installed-requirements
if cmp -s requirements.txt "$stamp" && .venv/bin/python -I -c "import $2" 2>/dev/null; then
  echo "install-python.sh: the Python packages of $1 are up to date"
  exit 0
fi

echo "install-python.sh: pip install into $1/.venv (from requirements.txt, wheels with known hashes only)"
python3 -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
  --require-hashes --only-binary :all: --no-deps -r requirements.txt
.venv/bin/python -m pip check
cp requirements.txt "$stamp"
