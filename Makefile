# `make` alone lists the targets. Each sets up what it needs, once (scripts/setup.sh); PYTHON=... picks the Python.
SHELL := /bin/bash
.DEFAULT_GOAL := help
WEB := edge/clients/web
.PHONY: help setup setup-lint demo phone picture test test-fast check coverage dist check-dist bench bench-race docs mutants web arm64 vectors lock tools-lock race-lock clean

PACKAGES := models tff_pipelines edge orchestrator
PYTEST := .venv/bin/python -m pytest
# A file's tests stay in one process, and so on one trained run; the order of files stays, since the longest come first.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
# Unit tests first: they are fast, and what they find explains much of what fails after them.
TESTS = $(wildcard tests/unit tests/contract tests/system)
# By name of the packages, and so of the installed wheel where that is what is tested.
COVERAGE := $(PACKAGES:%=--cov=%) --cov-report=term:skip-covered
# Where `make check-dist` installs the wheel.
WHEEL := build/wheel

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

setup: ## install everything into .venv (once; again when its lock changes)
	@scripts/setup.sh runtime

setup-lint: setup ## install the tools of `make check` and `make dist` into .venv-lint
	@scripts/setup.sh lint

demo: setup ## train the small model by federated learning and show it beside the n-gram baselines
	.venv/bin/fedkeys demo $(ARGS)

phone: setup web ## rounds in which a phone or a browser takes part, beside four clients of this machine (needs Node 20)
	.venv/bin/fedkeys phone-demo $(ARGS)

picture: setup ## the pictures of the README and of docs/, from the demo's run (RUN=... names another; needs Chromium, and Node for the phone's)
	.venv/bin/python scripts/draw_pictures.py $(RUN)

test: setup ## every test and every doctest, two at a time
	$(PYTEST) $(PARALLEL) --doctest-modules $(TESTS) $(PACKAGES) $(ARGS) < /dev/null

test-fast: setup ## the tests that need no TFF, in two minutes
	$(PYTEST) -m "not slow" $(TESTS) $(ARGS) < /dev/null

# mypy reads the types of numpy, msgspec and click where they are installed: in .venv.
check: setup-lint ## ruff, mypy, import-linter, and hadolint for the Containerfile
	.venv-lint/bin/ruff check .
	.venv-lint/bin/ruff format --check .
	.venv-lint/bin/mypy --python-executable .venv/bin/python $(PACKAGES) fedkeys.py
	.venv-lint/bin/lint-imports
	.venv-lint/bin/hadolint Containerfile

coverage: setup ## the share of the four packages' lines that the fast tests run; fails below pyproject.toml's floor
	$(PYTEST) $(PARALLEL) -m "not slow" $(COVERAGE) $(TESTS) $(ARGS) < /dev/null

# The date of the last commit in place of today's: the same commit makes the same files.
dist: setup-lint ## build a wheel and an sdist into dist/
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) .venv-lint/bin/python -m build --no-isolation --outdir dist .

# Beside the installed wheel stands all of the project but its packages, so that nothing can import the checkout's; the
# sources of the page for browsers, which are no Python, stand in their place.
check-dist: dist ## check the wheel's files, and run the fast tests on it with the floor of `make coverage`
	.venv/bin/python scripts/check_wheel.py dist/*.whl
	rm -rf $(WHEEL)
	mkdir -p $(WHEEL)
	git ls-files -z | grep -zvE '^(($(subst $() ,|,$(PACKAGES)))/|fedkeys\.py$$)' | xargs -0 cp --parents -t $(WHEEL)
	.venv/bin/python -m pip install -q --no-deps --no-index --no-compile --target $(WHEEL) dist/*.whl
	git ls-files -z $(WEB) | xargs -0 cp --parents -t $(WHEEL)
	cd $(WHEEL) && ../../$(PYTEST) $(PARALLEL) -m "not slow" $(COVERAGE) $(TESTS) $(ARGS) < /dev/null

# Three take a run or a folder of runs, one a text, as their first lines say; the race has a target.
BENCHMARKS := $(filter-out $(patsubst %,benchmarks/%.py,evaluation kinds private_options race train_shapes),$(sort $(wildcard benchmarks/*.py)))
bench: setup ## run every benchmark that needs no run and no other framework (on a quiet machine)
	@set -e; for file in $(BENCHMARKS); do echo "== $$file"; .venv/bin/python $$file; done

bench-race: setup ## race fedkeys with FedJAX, pfl-research and Flower, in environments of their own (needs Python 3.11; 3 GB or more)
	@scripts/setup.sh race
	.venv/bin/python benchmarks/race.py $(ARGS)

docs: setup ## check links and commands of the pages, run all doctests, and build the site into build/site
	.venv/bin/python scripts/check_docs.py
	$(PYTEST) -q --doctest-modules --doctest-glob='*.md' --ignore=scripts/mutants.py \
	  $(wildcard README.md) docs scripts $(PACKAGES) < /dev/null
	@scripts/setup.sh docs
	.venv-docs/bin/python scripts/build_site.py build/site

mutants: setup ## mutation tests of the parts whose mistakes would not show (ARGS="--sample N --seed S" for some of them)
	@scripts/setup.sh mutants
	.venv-mutants/bin/python scripts/mutants.py $(ARGS)

vectors: setup ## write edge/conformance/: what clients in other languages are tested against
	.venv/bin/python scripts/make_vectors.py

web: ## build the page for browsers into edge/clients/web/dist, and run its tests (needs Node 20)
	@node -e 'process.exit(Number(parseInt(process.versions.node) < 20))' 2> /dev/null && command -v npm > /dev/null || \
	  { echo "make web needs Node 20 or later, with npm: install it and call again" >&2; exit 2; }
	@$(MAKE) -s $(WEB)/node_modules/.package-lock.json
	cd $(WEB) && npm run -s check && npm run -s build && npm -s test

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json
	cd $(WEB) && npm ci --ignore-scripts
	@touch $@

arm64: ## build the C client for ARM64 into build/arm64, for fedkeys parity (needs qemu and a cross compiler)
	scripts/arm64.sh build/arm64

lock: ## remake requirements/py3.*.lock (LOCK=--upgrade takes newer versions)
	scripts/lock.sh runtime $(LOCK)

tools-lock: ## remake the locks of the tools: lint, docs, mutants, uv (LOCK=--upgrade takes newer versions)
	scripts/lock.sh tools $(LOCK)

race-lock: ## remake the locks of `make bench-race` (LOCK=--upgrade takes newer versions)
	scripts/lock.sh race $(LOCK)

clean: ## remove caches and build leftovers; the environments stay
	rm -rf $(filter-out build/race,$(wildcard build/*)) dist edge/clients/c/build $(WEB)/build $(WEB)/dist *.egg-info .coverage .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find $(PACKAGES) tests scripts -name __pycache__ -prune -exec rm -rf {} +
