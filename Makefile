# make demo | test | lint | help. Everything lives in .venv; `make PYTHON=python3.12 demo` picks
# the interpreter it is made from.

PYTHON ?= python3
# Processes that share the tests; WORKERS=0 runs them in one.
WORKERS ?= auto
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

# pyright runs on Node.js: its `nodejs` extra is a wheel of it, so nothing is fetched at run time
# and no Node.js needs to be installed. The variable stops it from asking for newer versions.
TOOLS_dev := 'pyright[nodejs]'
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: help demo test lint
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help: ## Show this list.
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-6s %s\n' "$$name" "$$text"; done

demo: $(VENV)/installed-demo ## Debug bundled real data and write report.html.
	@$(BIN)/rainpp demo

test: lint ## Run the linter, the type checker and the tests.
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

lint: $(VENV)/installed-dev ## Run the linter, the formatter's check and the type checker.
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { \
		echo 'Unformatted files: run $(BIN)/ruff format' >&2; $(BIN)/ruff format --check; exit 1; }
	@$(BIN)/pyright

$(VENV)/installed-%: pyproject.toml | $(BIN)/python
	@echo 'Installing rainpp[$*] into $(VENV)' >&2
	@$(PIP) install -e '.[$*]' $(TOOLS_$*)
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo 'error: $(PYTHON) not found; rainpp needs Python 3.11 or newer: make PYTHON=/path/to/python3.11' >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: rainpp needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1): make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
