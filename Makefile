# Every target makes its own environment: `make demo` or `make test` may be the only command ever typed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROCESSES ?= 2
# A file's tests share what it makes, so it goes to one process; a thread each, or they would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-cluster test-all check format

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
		{ echo "There is no $(PYTHON) here. On Debian and Ubuntu: apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Saccade needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@

setup: $(STAMP) ## Make .venv and install the tested versions

demo: $(STAMP) ## Make slides, train, predict, export; prints where to look
	$(BIN)/saccade demo --out demo

test: $(STAMP) ## Run the tests, PROCESSES=2 at once
	$(PYTEST) -m 'not slow and not gpu and not cluster'

test-cluster: $(STAMP) ## Run the workflow, and what befalls it, on a Slurm of its own (Debian: slurm-wlm munge)
	$(BIN)/python -m pytest -m cluster tests/cluster --durations=10

test-all: $(STAMP) ## Run the tests, the longer proofs, those on Slurm and those on a GPU too
	$(PYTEST)

check: $(STAMP) ## Format, lint, types, import arrows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile pipeline/rules
	$(BIN)/mypy
	PYTHONPATH=typings $(BIN)/lint-imports

format: $(STAMP) ## Mend format and lint where that can be done by machine
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile pipeline/rules
