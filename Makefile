# `make` alone lists the targets. Each sets up what it needs, once (scripts/setup.sh); PYTHON=... picks the Python.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-lint demo test test-fast check bench docs lock lint-lock clean

PACKAGES := models tff_pipelines edge orchestrator
PYTEST := .venv/bin/python -m pytest
# A file's tests stay in one process, and so on one trained run; the order of files stays, since the longest come first.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
# Unit tests first: they are fast, and what they find explains much of what fails after them.
TESTS = $(wildcard tests/unit tests/contract tests/system)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

setup: ## install everything into .venv (once; again when its lock changes)
	@scripts/setup.sh runtime

setup-lint: setup
	@scripts/setup.sh lint

demo: setup ## train the small model by federated learning and show it beside the n-gram baselines
	.venv/bin/fedkeys demo $(ARGS)

test: setup ## every test and every doctest, two at a time
	$(PYTEST) $(PARALLEL) --doctest-modules $(TESTS) $(PACKAGES) $(ARGS) < /dev/null

test-fast: setup ## the tests that need no TFF, under a minute
	$(PYTEST) -m "not slow" $(TESTS) $(ARGS) < /dev/null

# mypy reads the types of numpy, msgspec and click where they are installed: in .venv.
check: setup-lint ## ruff, mypy and import-linter
	.venv-lint/bin/ruff check .
	.venv-lint/bin/ruff format --check .
	.venv-lint/bin/mypy --python-executable .venv/bin/python $(PACKAGES)
	.venv-lint/bin/lint-imports

bench: setup ## run every benchmark (on a quiet machine)
	@set -e; for file in $(sort $(wildcard benchmarks/*.py)); do echo "== $$file"; .venv/bin/python $$file; done

docs: setup ## check links and commands of README.md and docs/, and run all doctests
	.venv/bin/python scripts/check_docs.py
	$(PYTEST) -q --doctest-modules --doctest-glob='*.md' $(wildcard README.md) docs scripts $(PACKAGES) < /dev/null

lock: ## remake requirements/py3.*.lock (LOCK=--upgrade takes newer versions)
	scripts/lock.sh runtime $(LOCK)

lint-lock: ## remake requirements/lint.lock (LOCK=--upgrade takes newer versions)
	scripts/lock.sh lint $(LOCK)

clean: ## remove caches and build leftovers; the environments stay
	rm -rf build edge/clients/c/build *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find $(PACKAGES) tests scripts -name __pycache__ -prune -exec rm -rf {} +
