# Everything sets itself up: a fresh machine needs Python 3.11 and a network to its package registry.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench lock clean

help:  ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): locks/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Segue needs Python 3.11 or newer; name one with make PYTHON=...")'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv  # an environment made by uv has no pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r locks/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(READY)

setup: $(READY)  ## Install Segue and its tools into .venv

demo: $(READY)  ## Tour the main job on synthesised music
	@$(BIN)/segue demo

test: $(READY)  ## Run all tests
	$(BIN)/pytest -n 2 --dist loadgroup

lint: $(READY)  ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## Put the source in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## Measure: ratios, each within one run
	$(BIN)/python -m bench

lock: $(READY)  ## Renew the locks from pyproject.toml
	@for part in functions pipelines dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
	    --extra $$part pyproject.toml --output-file locks/$$part.txt; \
	done

clean:  ## Remove what was made, the environment included
	rm -rf .venv .segue .pytest_cache .mypy_cache .ruff_cache .hypothesis
