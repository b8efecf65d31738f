#!/usr/bin/env bash
# Sets up the two environments. Each step is done once, and again only when what it installs from has changed.
#   scripts/setup.sh runtime   .venv: fedkeys and all it runs on, from requirements/py3.N.lock
#   scripts/setup.sh lint      .venv-lint: ruff, mypy and import-linter, from requirements/lint.lock
#   scripts/setup.sh python    prints the Python that a new environment would be made with
# PYTHON=... names that Python; else it is the first of python3.11 python3.10 python3.9 python3 that can work.
set -euo pipefail
cd -P "$(dirname "$0")/.."

die() { echo "fedkeys: $*" >&2; exit 2; }

# probe PYTHON: prints its version, as 3.11, if it can work; else prints why not and fails.
probe() {
  local version
  command -v "$1" >/dev/null || { echo "is not there"; return 1; }
  # Under pyenv a python3.10 can be on the path and still not start, so ask the thing itself.
  version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || { echo "does not start"; return 1; }
  case $version in
    3.9 | 3.10 | 3.11) ;;
    *) echo "is Python $version"; return 1 ;;
  esac
  "$1" -c 'import venv, ensurepip' 2>/dev/null || { echo "has no venv module"; return 1; }
  echo "$version"
}

# choose_python: prints the first Python that can work; else says in one line what was found and how to get one.
choose_python() {
  local candidate reason found=""
  local candidates=(python3.11 python3.10 python3.9 python3)
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if reason=$(probe "$candidate"); then
      echo "$candidate"
      return
    fi
    [ -z "${PYTHON:-}" ] && [ "$reason" = "is not there" ] || found+="${found:+, }$candidate $reason"
  done
  die "needs Python 3.11 (or 3.10, 3.9) with venv, but ${found:-there is no Python on the PATH}." \
    "Get it with 'apt install python3.11 python3.11-venv' or 'pyenv install 3.11'," \
    "then 'make setup PYTHON=/path/to/python3.11'."
}

# ensure_venv DIR: keeps DIR if it is whole, was made in this folder and has the asked version; else makes it anew.
ensure_venv() {
  local version python
  if [ ! -e "$1/.unfinished" ] && version=$(probe "$1/bin/python") && grep -qF "$PWD/$1" "$1/bin/activate"; then
    if [ -z "${PYTHON:-}" ] || [ "$(probe "$PYTHON")" = "$version" ]; then return; fi
  fi
  python=$(choose_python) || exit
  rm -rf "$1"
  mkdir "$1"
  touch "$1/.unfinished"
  "$python" -m venv "$1" || die "$python could not make $1, see above"
}

# digest FILE...: prints one SHA-256 over them all.
digest() { cat "$@" | sha256sum | cut -d' ' -f1; }

# install DIR STAMP DIGEST WHAT PIP-ARGUMENTS: one step, skipped if DIR/STAMP holds DIGEST already.
# A step that was killed leaves .unfinished behind, and the next set-up starts from an empty DIR: pip would take
# a half-copied package for an installed one.
install() {
  local dir=$1 stamp=$2 digest=$3 what=$4
  shift 4
  [ "$(cat "$dir/$stamp" 2>/dev/null)" != "$digest" ] || return 0
  echo "setup: installing $what into $dir" >&2
  touch "$dir/.unfinished"
  PYTHONWARNINGS=ignore "$dir/bin/python" -m pip install -q --disable-pip-version-check --no-input --no-deps "$@" ||
    die "$what did not install, see above; then run it again, or read docs/install.md"
  echo "$digest" > "$dir/$stamp"
  rm "$dir/.unfinished"
}

only_one_at_a_time() {
  exec 9< .
  flock -n 9 || { echo "setup: waiting for another set-up of this folder" >&2; flock 9; }
}

case ${1:-} in
  python)
    choose_python ;;
  runtime)
    [ "$(uname -sm)" = "Linux x86_64" ] ||
      die "TensorFlow Federated 0.87 comes for Linux on x86-64 only, and this is $(uname -sm): use a Linux machine or container"
    only_one_at_a_time
    ensure_venv .venv
    lock=requirements/py$(probe .venv/bin/python).lock
    install .venv .lock-stamp "$(digest "$lock")" "$lock (a minute or more, 3 GB)" --require-hashes -r "$lock"
    # compat puts this folder on the path; the default's import hook loses to any other folder called models/.
    install .venv .fedkeys-stamp "$(digest setup.cfg pyproject.toml requirements/*.in)" "fedkeys itself" \
      --no-index --no-build-isolation --config-settings editable_mode=compat -e .
    # Where there is no C compiler everything but the C client works.
    make -s -C edge/clients/c PYTHON="$PWD/.venv/bin/python" 2>/dev/null ||
      echo "setup: the C client was not built, all else works: it takes a C compiler and Python 3.10 or newer" >&2 ;;
  lint)
    only_one_at_a_time
    ensure_venv .venv-lint
    install .venv-lint .lock-stamp "$(digest requirements/lint.lock)" requirements/lint.lock \
      --require-hashes -r requirements/lint.lock ;;
  *)
    die "scripts/setup.sh takes runtime, lint or python, not '${1:-}'" ;;
esac
