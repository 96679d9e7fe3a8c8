# Everything sets itself up: a fresh machine needs Python 3.11 and a network to its package registry.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
# What checks infra/ has an environment of its own; whoever has no Terraform needs none.
INFRA_READY := .venv-infra/.ready
SBOM_READY := .venv-sbom/.ready
TRUTH_READY := .venv-truth/.ready
DOCS_READY := .venv-docs/.ready
INFRA_TOOLS := $(if $(shell command -v terraform),$(INFRA_READY))
# A test process that crashes ends the run: it is a failure, and what it left undone is not hidden.
PARALLEL := -n 2 --dist loadgroup --max-worker-restart 0
# Each package is locked with its hashes, and for all Pythons that Segue runs on. No registry is named.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-annotate --no-header

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint format docs wheel bench truth prove infra archives lock sbom clean

help:  ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): locks/build.txt locks/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Segue needs Python 3.11 or newer; name one with make PYTHON=...")'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv  # an environment made by uv has no pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/build.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r locks/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@echo "Compiling what the feature jobs need, once; this takes up to a minute"
	@$(BIN)/python -P -m segue.worker.numba_cache shared/segue/features/jobs.yaml
	@touch $(READY)

$(INFRA_READY): locks/infra.txt | $(READY)
	test -x .venv-infra/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-infra
	$(BIN)/uv pip install --quiet --python .venv-infra/bin/python --require-hashes -r locks/infra.txt
	@touch $(INFRA_READY)

$(SBOM_READY): locks/sbom.txt | $(READY)
	test -x .venv-sbom/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-sbom
	$(BIN)/uv pip install --quiet --python .venv-sbom/bin/python --require-hashes -r locks/sbom.txt
	@touch $(SBOM_READY)

$(DOCS_READY): locks/docs.txt | $(READY)
	test -x .venv-docs/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-docs
	$(BIN)/uv pip install --quiet --python .venv-docs/bin/python --require-hashes -r locks/docs.txt
	@touch $(DOCS_READY)

$(TRUTH_READY): locks/truth.txt | $(READY)
	test -x .venv-truth/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-truth
	$(BIN)/uv pip install --quiet --python .venv-truth/bin/python --no-deps --require-hashes -r locks/truth.txt
	@touch $(TRUTH_READY)

setup: $(READY)  ## Install Segue and its tools into .venv

demo: $(READY)  ## Tour Segue on synthesised music: its main job, then several teams
	@$(BIN)/segue demo
	@$(BIN)/segue demo --teams

test: $(READY) $(SBOM_READY) $(DOCS_READY) $(INFRA_TOOLS)  ## Run all tests
	$(BIN)/pytest $(PARALLEL)

check: lint  ## Lint and run the fast unit tests, in at most 90 s on two cores
	$(BIN)/pytest tests/unit -m "not slow" --quiet $(PARALLEL)

lint: $(READY)  ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## Put the source in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) $(DOCS_READY)  ## Build the documentation as a site: build/site/index.html
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "Open build/site/index.html; to search it, too: python3 -m http.server --directory build/site"

wheel: $(READY)  ## Build what is installed elsewhere, a wheel, and its source: dist
	@rm -rf dist
	@$(BIN)/python -m hatchling build --directory dist

bench: $(READY)  ## Measure: ratios, each within one run
	$(BIN)/python -m bench

truth: $(READY) $(TRUTH_READY)  ## Measure how accurate the features are, and write it to docs/features.md
	.venv-truth/bin/python -m truth --write

prove: $(READY)  ## Put the promises to the proof, for hours: kills, power cuts, malformed input
	$(BIN)/python -m segue_support.prove

infra: $(READY) $(INFRA_READY)  ## Check the Terraform: format, validity, tests, plans, policy
	$(BIN)/pytest tests/infra $(PARALLEL)

archives: $(READY)  ## Build the functions' archives and compile the graph, for Terraform to deploy
	$(BIN)/segue package --all --output build

lock: $(READY)  ## Renew the locks from pyproject.toml and locks/*.in
	@for part in functions dev; do \
	  $(COMPILE) --extra $$part pyproject.toml --output-file locks/$$part.txt || exit; \
	done
	@$(COMPILE) --extra console --extra pipelines --extra models pyproject.toml --output-file locks/pipelines.txt
	@$(COMPILE) --extra console --extra pipelines --extra models-gpu --constraints locks/pipelines.txt pyproject.toml \
	  --output-file locks/pipelines-gpu.txt
	@$(COMPILE) --constraints locks/dev.txt locks/build.in --output-file locks/build.txt
	@$(COMPILE) --constraints locks/dev.txt $(patsubst %,--no-emit-package %,numpy python-dateutil six tzdata) locks/frames.in \
	  --output-file locks/frames.txt
	@$(COMPILE) --no-deps locks/truth.in --output-file locks/truth.txt
	@for part in docs infra sbom; do $(COMPILE) locks/$$part.in --output-file locks/$$part.txt || exit; done

sbom: $(SBOM_READY)  ## List what is deployed, by version and hash: build/sbom, in CycloneDX
	@mkdir -p build/sbom
	@for part in functions pipelines pipelines-gpu; do \
	  .venv-sbom/bin/python -W ignore::UserWarning -m cyclonedx_py requirements locks/$$part.txt --pyproject pyproject.toml \
	    --spec-version 1.6 --validate --output-reproducible --output-file build/sbom/$$part.cdx.json || exit; \
	done
	@.venv-sbom/bin/python .ci/console_sbom.py build/sbom/console.cdx.json

clean:  ## Remove what was made, the environment included
	rm -rf .venv .venv-docs .venv-infra .venv-sbom .venv-truth .segue build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
