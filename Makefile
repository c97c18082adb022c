# `make demo` and `make test` each do all the set-up on a fresh clone. `make help` lists the targets.
SHELL := /bin/sh
VENV ?= .venv
BIN := $(VENV)/bin
# The newest Python from 3.11 to 3.13 that runs; override with: make test PYTHON=/path/to/python
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	if command -v $$name >/dev/null 2>&1 && $$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info)' >/dev/null 2>&1; \
	then echo $$name; break; fi; done)
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# uv reads its own variable where pip reads this one.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-long lint format bench long-life soak soak-loop study docs clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv makes the set-up a matter of seconds; where it cannot be had, pip does the same.
$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then echo "reverie needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python"; exit 1; fi
	$(PYTHON) -m venv $(VENV)
	-@$(BIN)/python -m pip install --quiet uv 2>/dev/null

comma := ,

define install
	@if [ -x $(BIN)/uv ] && $(BIN)/uv pip install --quiet --python $(BIN)/python -e '$(1)'; then :; \
	else $(BIN)/python -m pip install --quiet -e '$(1)'; fi
	@touch $@
endef

$(VENV)/.run: $(BIN)/python pyproject.toml
	$(call install,.)

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(call install,.[dev])
	@touch $(VENV)/.run

demo: $(VENV)/.run ## set up and dream: one loop without memory beside the same loop with it
	@$(BIN)/reverie dream $(ARGS)

test: $(VENV)/.dev ## set up and run the tests
	$(BIN)/python -m pytest -n 2 -m "not long" $(ARGS)

test-long: $(VENV)/.dev ## the long tests: 500 kills, every seed picture drawn again (five minutes)
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -m long $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy and the arrows of the house
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev ## put the code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.bench: $(VENV)/.dev
	$(call install,.[dev$(comma)bench])

bench: $(VENV)/.bench ## all benchmarks, interleaved with their peers (a quarter of an hour)
	$(BIN)/python benchmarks/run_all.py $(ARGS)

long-life: $(VENV)/.bench ## five loops of 10,000 frames: do they stay varied, and as fast and small (an hour)
	$(BIN)/python benchmarks/long_life.py $(ARGS)

soak: $(VENV)/.bench ## a million adds to a cache that evicts: does it grow or slow down (an hour)
	$(BIN)/python benchmarks/soak.py $(ARGS)

soak-loop: $(VENV)/.bench ## a loop that is observed 100,000 times: does anything grow, or stay open (half an hour)
	$(BIN)/python benchmarks/soak_observe.py $(ARGS)

study: $(VENV)/.bench ## the whole held-out study into ./study; Ctrl-C keeps what is done (half a day)
	$(BIN)/reverie study $(ARGS)

docs: $(VENV)/.dev ## write the generated pages of docs/
	$(BIN)/python tools/cli_docs.py

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
