#!/usr/bin/env bash
# Sets up the environments. Each step is done once, and again only when what it installs from has changed.
#   scripts/setup.sh runtime   .venv: fedkeys and all it runs on, from requirements/py3.N.lock
#   scripts/setup.sh packages  .venv without fedkeys itself: the part that takes long and seldom changes
#   scripts/setup.sh lint      .venv-lint: ruff, mypy, import-linter and build, from requirements/lint.lock
#   scripts/setup.sh docs      .venv-docs: what makes the site, from requirements/docs.lock
#   scripts/setup.sh mutants   .venv-mutants: cosmic-ray, from requirements/mutants.lock
#   scripts/setup.sh race      build/race/*: FedJAX, pfl-research and Flower, each by requirements/race-*.lock
#   scripts/setup.sh python    prints the Python that a new environment would be made with
# PYTHON=... names that Python; else it is the first of python3.11 python3.10 python3.9 python3 that can work, and
# where there is none, a Python 3.11 that uv gets into .uv/.
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

# choose_python: prints the first Python that can work, or one from uv; else says in one line what to do.
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
  found=${found:-there is no Python on the PATH}
  # A Python that was asked for is never replaced by another one.
  if [ -z "${PYTHON:-}" ]; then
    if python_from_uv "$found"; then return; fi
    found+=", and uv could not get one (see above; it can where uv, or python3 with venv or pip, is installed)"
  fi
  die "needs Python 3.11 (or 3.10, 3.9) with venv, but $found." \
    "Get it with 'apt install python3.11 python3.11-venv' or 'pyenv install 3.11'," \
    "then 'make setup PYTHON=/path/to/python3.11'."
}

# python_from_uv FOUND: prints a Python 3.11 in .uv/, got there if need be; fails if it can't be had. FOUND says why.
python_from_uv() {
  local uv
  if ! uv_python; then
    echo "setup: needs Python 3.9 to 3.11, but $1: getting Python 3.11 with uv into .uv (some 100 MB, once)" >&2
    uv=$(find_uv) || return
    UV_CACHE_DIR=.uv/cache UV_PYTHON_INSTALL_DIR=.uv/python "$uv" python install --no-bin 3.11 >&2 || return
    uv_python
  fi
}

# uv_python: prints the Python that uv has put into .uv/; fails if there is none that works.
uv_python() {
  local python
  for python in "$PWD"/.uv/python/cpython-3.11.*/bin/python3.11; do
    if probe "$python" >/dev/null; then
      echo "$python"
      return
    fi
  done
  return 1
}

# find_uv: prints the uv of the PATH, or else one that any Python 3 with venv or pip installs into .uv/.
find_uv() {
  local python
  if uv --version >/dev/null 2>&1; then
    echo uv
    return
  fi
  for python in python3 python3.14 python3.13 python3.12 python; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || continue
    rm -rf .uv/tool
    # Debian's python3 has neither venv nor pip before python3-venv or python3-pip is installed; each is enough.
    if "$python" -m venv .uv/tool 2>/dev/null >&2; then
      install_uv .uv/tool/bin/python && echo .uv/tool/bin/uv && return
    else
      install_uv "$python" --target .uv/tool && echo .uv/tool/bin/uv && return
    fi
  done
  return 1
}

# install_uv PYTHON [PIP-ARGUMENT...]: the pinned uv, by the pip of PYTHON.
install_uv() {
  local python=$1
  shift
  "$python" -m pip install -q --disable-pip-version-check --no-input --no-deps --require-hashes \
    -r requirements/uv.lock "$@" >&2
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
  PYTHONWARNINGS=ignore "$dir/bin/python" -m pip install -q --disable-pip-version-check --no-input "$@" ||
    die "$what did not install, see above; then run it again, or read docs/install.md"
  echo "$digest" > "$dir/$stamp"
  rm "$dir/.unfinished"
}

# set_up_packages: .venv with all that its lock pins.
set_up_packages() {
  local lock
  [ "$(uname -sm)" = "Linux x86_64" ] ||
    die "TensorFlow Federated 0.87 comes for Linux on x86-64 only, and this is $(uname -sm): use a Linux machine or container"
  ensure_venv .venv
  lock=requirements/py$(probe .venv/bin/python).lock
  install .venv .lock-stamp "$(digest "$lock")" "$lock (a minute or more, 3 GB)" --no-deps --require-hashes -r "$lock"
}

# set_up_fedkeys: fedkeys itself, in .venv, and the C client.
set_up_fedkeys() {
  # compat puts this folder on the path; the default's import hook loses to any other folder called models/.
  install .venv .fedkeys-stamp "$(digest setup.cfg pyproject.toml requirements/*.in)" "fedkeys itself" \
    --no-deps --no-index --no-build-isolation --config-settings editable_mode=compat -e .
  # Where there is no C compiler everything but the C client works.
  make -s -C edge/clients/c client PYTHON="$PWD/.venv/bin/python" 2>/dev/null ||
    echo "setup: the C client was not built, all else works: it takes a C compiler, libcrypto (on Debian:" \
      "build-essential pkg-config libssl-dev) and Python 3.10 or newer" >&2
}

# set_up_race: an environment for each framework that fedkeys is raced with.
set_up_race() {
  local peer
  mkdir -p build/race
  for peer in fedjax pfl flower; do
    ensure_venv "build/race/$peer"
    [ "$(probe "build/race/$peer/bin/python")" = 3.11 ] ||
      die "the race needs Python 3.11, and build/race/$peer has $(probe "build/race/$peer/bin/python"): give PYTHON=python3.11"
    install "build/race/$peer" .lock-stamp "$(digest "requirements/race-$peer.lock")" "requirements/race-$peer.lock" \
      --no-deps --require-hashes -r "requirements/race-$peer.lock"
  done
  for peer in pfl flower; do
    install "build/race/$peer" .torch-stamp "$(digest requirements/race-torch.txt)" "PyTorch" -r requirements/race-torch.txt
  done
}

only_one_at_a_time() {
  exec 9< .
  flock -n 9 || { echo "setup: waiting for another set-up of this folder" >&2; flock 9; }
}

case ${1:-} in
  python)
    choose_python ;;
  runtime)
    only_one_at_a_time
    set_up_packages
    set_up_fedkeys ;;
  packages)
    only_one_at_a_time
    set_up_packages ;;
  lint | docs | mutants)
    only_one_at_a_time
    ensure_venv ".venv-$1"
    install ".venv-$1" .lock-stamp "$(digest "requirements/$1.lock")" "requirements/$1.lock" \
      --no-deps --require-hashes -r "requirements/$1.lock" ;;
  race)
    only_one_at_a_time
    set_up_race ;;
  *)
    die "scripts/setup.sh takes runtime, packages, lint, docs, mutants, race or python, not '${1:-}'" ;;
esac
