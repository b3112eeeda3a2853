# Two commands do everything on a fresh clone: `make run` and `make test`. Both make the environment first, once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test parity bench soak reliability fuzz audit test-oldest lint style format types docs site clean

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
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/installed-demo ## run the main job: transfer learning on handwritten digits, three ways
	$(VENV)/bin/phasewire demo $(DEMO_ARGS)

test: $(VENV)/installed-test ## run all tests, lint and type checks among them
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(VENV)/bin/pytest $(PYTEST_ARGS)

parity: $(VENV)/installed-test ## train N random cases with finetuning-scheduler and with Phasewire, and compare: make parity N=5000
	OMP_NUM_THREADS=1 PYTHONPATH=tests/support $(VENV)/bin/python tests/parity/compare.py $(N) --first $(FIRST)

# In seconds, for all targets of the fuzzer together.
FUZZ_SECONDS ?= 600
fuzz: $(VENV)/installed-test ## fuzz the readers of YAML, references, patterns and files: make fuzz FUZZ_SECONDS=60
	$(INSTALL) --quiet --editable '.[fuzz]'
	OMP_NUM_THREADS=1 PYTHONPATH=tests/support $(VENV)/bin/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)

audit: ## look the tested versions up in the advisories, where the index serves them
	"$(PYTHON)" -m venv .cache/audit
	.cache/audit/bin/python -m pip install --quiet pip-audit
	.cache/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip | tee .cache/audit/found
	@if grep -q 'could not be audited' .cache/audit/found; then \
	    echo 'Some or all versions were not found in any advisory source: nothing is known of those.' >&2; exit 1; fi

OLDEST := .cache/oldest
# What touches every dependency, and trains no longer than a minute.
OLDEST_TESTS ?= tests/adapters/test_name_patterns.py tests/app/test_config_file.py tests/app/test_settings.py \
    tests/app/test_cli.py tests/app/test_convert.py tests/app/phases/test_resume.py tests/containers tests/security
test-oldest: ## run a part of the tests with the oldest versions that pyproject.toml allows; torch stays
	"$(PYTHON)" -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet packaging
	$(OLDEST)/bin/python tests/oldest_versions.py > $(OLDEST)/constraints.txt
	grep '^torch==' constraints.txt >> $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/constraints.txt --editable '.[test]'
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n 0 -W ignore::DeprecationWarning $(OLDEST_TESTS)

bench: $(VENV)/installed-test ## measure beside finetuning-scheduler, and write benchmarks/RESULTS.md
	OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/all.py

soak: $(VENV)/installed-test ## 10,000 transitions and 1,000 fits in one process: what stays behind
	OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/soak.py

reliability: $(VENV)/installed-test ## write the table of injected faults into docs/reliability.md
	$(VENV)/bin/python tests/support/fault_page.py

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

docs: $(VENV)/installed-docs ## build the documentation site into build/site
	$(MAKE) --no-print-directory site

# From an ordinary install, in which the folders are called what they are imported as.
site:
	rm -rf build/docs-source build/lib build/bdist.*
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target build/docs-source .
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open build/site/index.html, or with a working search: python3 -m http.server --directory build/site"

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

$(VENV)/installed-docs: pyproject.toml constraints.txt | $(VENV)/created
	$(INSTALL) --editable '.[docs]' setuptools
	touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(VENV)/created
	$(INSTALL) --editable '.[test]'
	touch $(VENV)/installed-demo $(VENV)/installed-docs $@
