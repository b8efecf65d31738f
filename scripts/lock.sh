#!/usr/bin/env bash
# Remakes the hashed locks from requirements/*.in, with uv in a venv that is deleted afterwards.
#   scripts/lock.sh runtime [--upgrade]   requirements/py3.9.lock, py3.10.lock, py3.11.lock
#   scripts/lock.sh tools [--upgrade]     requirements/lint.lock, docs.lock, mutants.lock, uv.lock
#   scripts/lock.sh race [--upgrade]      requirements/race-fedjax.lock, race-pfl.lock, race-flower.lock
# Without --upgrade a version that still fits the .in files stays as it is.
set -euo pipefail
cd -P "$(dirname "$0")/.."

python=$(scripts/setup.sh python)
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --no-deps --require-hashes -r requirements/uv.lock

compile() {
  "$venv/bin/uv" pip compile -q --generate-hashes --no-emit-index-url --no-header --no-annotate "$@"
}

what=${1:?say what to lock: runtime, tools or race}
shift
cd requirements
case $what in
  runtime)
    # ai-edge-litert asks for backports-strenum, which forbids Python 3.11 and which only its vendor compilers import.
    for version in 3.9 3.10 3.11; do
      compile --python-version "$version" --override overrides.txt --no-emit-package backports-strenum \
        runtime.in dev.in -o "py$version.lock" "$@"
    done ;;
  tools)
    for tools in lint docs mutants uv; do
      compile --universal --python-version 3.9 "$tools.in" -o "$tools.lock" "$@"
    done ;;
  race)
    for peer in fedjax pfl flower; do
      compile --python-version 3.11 --python-platform x86_64-manylinux_2_28 "race-$peer.in" -o "race-$peer.lock" "$@"
    done ;;
  *) echo "scripts/lock.sh: runtime, tools or race, not $what" >&2; exit 2 ;;
esac
