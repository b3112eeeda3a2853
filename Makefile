# Two commands do everything on a fresh clone: `make run` and `make test`. Both make the environment first, once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test parity bench lint style format types clean

VENV ?= .venv
# The folder of the tools: the tests call the targets below with the one they run in.
BIN ?= $(VENV)/bin
# A file of tests stays in one process, so that what it builds once is built once.
PYTEST_ARGS ?= --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
DEMO_ARGS ?=
# How many random cases `make parity` compares, and from which on.
N ?= 1000
FIRST ?= 0

# The first Python that runs and is new enough; 3.11 first, because constraints.txt is tested with it.
OLD_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.11 python3 python; do \
    if "$$python" -c "$(OLD_ENOUGH)" >/dev/null 2>&1; then command -v "$$python"; break; fi; done)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
INSTALL = $(VENV)/bin/python -m pip install --constraint constraints.txt

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/installed-demo ## run the main job: transfer learning on handwritten digits, three ways
	$(VENV)/bin/phasewire demo $(DEMO_ARGS)

test: $(VENV)/installed-test ## run all tests, lint and type checks among them
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(VENV)/bin/pytest $(PYTEST_ARGS)

parity: $(VENV)/installed-test ## train N random cases with finetuning-scheduler and with Phasewire, and compare: make parity N=5000
	OMP_NUM_THREADS=1 PYTHONPATH=tests/support $(VENV)/bin/python tests/parity/compare.py $(N) --first $(FIRST)

bench: $(VENV)/installed-test ## measure beside finetuning-scheduler, and write benchmarks/RESULTS.md
	OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/all.py

lint: $(VENV)/installed-test ## check style, docstrings and types
	$(MAKE) --no-print-directory style types

style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Over an ordinary install: type checkers cannot follow the import hook of an editable one.
types:
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target build/types .
	MYPYPATH=build/types $(BIN)/mypy --cache-dir .cache/types -p phasewire.app -p phasewire.containers -p phasewire.adapters

format: $(VENV)/installed-test ## format the code, mend what ruff can mend, copy config.yaml into the package
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cp config.yaml app/config.yaml

clean: ## remove the environment, caches and build products
	rm -rf $(VENV) build dist .cache .*_cache .hypothesis phasewire.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/created:
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c "$(OLD_ENOUGH)"; then \
	    echo "Phasewire needs Python 3.11 or newer; found: $$(python3 --version 2>&1)." \
	         "Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; fi
	"$(PYTHON)" -m venv --clear $(VENV)
	touch $@

# Editable, so that a changed source takes effect without another install.
$(VENV)/installed-demo: pyproject.toml constraints.txt | $(VENV)/created
	$(INSTALL) --editable '.[demo]'
	touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(VENV)/created
	$(INSTALL) --editable '.[test]'
	touch $(VENV)/installed-demo $@
