# Everything a person types. `make demo` and `make test` work from nothing: they make .venv first.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
FREE_GIB_NEEDED := 8# .venv has 2 GiB with the CPU build of torch, 6 GiB with the CUDA one

# Once made, .venv is kept up with the requirements it was made from.
MADE_FROM := $(patsubst $(VENV)/.made-from-%,requirements/%,$(firstword $(wildcard $(VENV)/.made-from-*)))
REQUIREMENTS ?= $(or $(MADE_FROM),requirements/cpu.txt)
STAMP := $(VENV)/.made-from-$(notdir $(REQUIREMENTS))

FAST := not ray and not gpu and not slow and not bench
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet# without the notice on Material's successor
PARALLEL := -n auto --maxprocesses 8 --dist loadfile# a file's models are made once

IS_SUPPORTED := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))
PYTHON ?= $(firstword $(foreach p,python3 python3.11 python3.12,$(shell $(p) -c '$(IS_SUPPORTED)' 2>/dev/null && echo $(p))))

.PHONY: help setup setup-gpu demo serve serve-demo check test fix docs bench clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(STAMP)  ## make .venv (CPU); TORCH_INDEX=URL takes torch's small CPU build from there

setup-gpu:  ## make .venv with torch's CUDA libraries (6 GB)
	@$(MAKE) setup REQUIREMENTS=requirements/gpu.txt

demo: $(STAMP)  ## serve on loopback, transcribe a Mandarin recording, stop
	@$(BIN)/python -m deployments.demo

serve: $(STAMP)  ## serve serve_config.yaml in the foreground
	@$(BIN)/python -m deployments.serve serve_config.yaml

serve-demo: $(STAMP)  ## serve demo.yaml in the foreground, with the page at http://127.0.0.1:8000/
	@$(BIN)/python -m deployments.serve demo.yaml

check: $(STAMP)  ## format, lint, types, import contracts, the documents and the fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(SITE) --site-dir build/site
	$(BIN)/pytest -q $(PARALLEL) -m "$(FAST)"

test: $(STAMP)  ## every test that needs no GPU and no model hub, real Ray included
	$(BIN)/pytest $(PARALLEL) -m "$(FAST)"
	$(BIN)/pytest -m "(ray or slow) and not gpu and not bench"

fix: $(STAMP)  ## format, and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## write the pages that are made from the code, and build the site into site/
	@$(BIN)/python docs/generate.py
	@$(SITE)
	@echo "== read it: $(BIN)/python -m http.server -d site"

bench: $(STAMP)  ## one benchmark, as JSON: make bench NAME=pipeline
	@$(BIN)/python -m benchmarks $(NAME) --json

clean:  ## remove .venv and every cache in this directory
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist site *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The recipe of .venv ------------------------------------------------------------------------------
# --no-deps: the requirements are a full closure, and FunASR declares packages that are not used.
# The public index's torch for Linux is the CUDA build: it imports only with the libraries in gpu.txt.
$(STAMP): $(wildcard requirements/*.txt) pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(IS_SUPPORTED)' 2>/dev/null || { \
		echo "Python 3.11 or 3.12 with the venv module is needed; found: $(or $(PYTHON),none)." >&2; \
		echo "Name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@if [ "$(REQUIREMENTS)" != "$(or $(MADE_FROM),$(REQUIREMENTS))" ]; then rm -rf $(VENV); fi
	@test -x $(BIN)/pip || { \
		free=$$(df -Pk . | awk 'NR == 2 { print int($$4 / 1048576) }'); \
		test "$$free" -ge $(FREE_GIB_NEEDED) || { \
			echo "$(FREE_GIB_NEEDED) GiB of disk are needed here; $$free GiB are free." >&2; exit 1; }; }
	@echo "== $(VENV) from $(REQUIREMENTS) with $$($(PYTHON) --version): a few minutes"
	@rm -f $(VENV)/.made-from-*
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(if $(TORCH_INDEX),$(BIN)/pip install --no-deps --index-url "$(TORCH_INDEX)" $$(grep '^torch==' requirements/cpu.txt))
	@$(BIN)/pip install --no-deps -r $(REQUIREMENTS)
	@$(BIN)/pip install --no-deps --no-build-isolation -e .
	@echo "== trying torch"
	@$(BIN)/python -c 'import torch' 2>/dev/null || { \
		echo "== this torch is the CUDA build: adding its libraries (3 GB)"; \
		echo "   (to spare them: make clean; make setup TORCH_INDEX=URL, URL = PyTorch's CPU index)"; \
		$(BIN)/pip install --no-deps -r requirements/gpu.txt; \
		$(BIN)/python -c 'import torch'; }
	@touch $@
	@echo "== $(VENV) is ready"
