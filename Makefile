# Sightline. `make` alone lists what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3#      the interpreter setup uses, 3.11 to 3.13
ARGS ?=#                passed on, e.g. make demo ARGS="preset=quick"
WORKERS ?= 2#           processes that run the tests
TORCH_INDEX ?=#         another index to look for torch, e.g. https://download.pytorch.org/whl/cpu for the small CPU build

BIN := .venv/bin
STAMP := .venv/.stamp
QUICK := tests/core tests/sightline tests/test_imports.py tests/test_architecture.py

export OMP_WAIT_POLICY := passive
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help setup demo test test-slow check format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu takes the small CPU build of torch where the'
	@echo '  package index has only the CUDA build for Linux, as PyPI does; PYTHON=python3.12 takes another interpreter'
	@echo '  after make setup: $(BIN)/sightline --help'

setup: $(STAMP) ## make .venv with everything in it (needs pip's package index, nothing else)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Sightline needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Choose another: make setup PYTHON=python3.12" >&2; exit 1; }
	@# a venv that failed halfway leaves a python without pip behind
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf .venv; $(PYTHON) -m venv .venv; } || { rm -rf .venv; \
	  echo "$(PYTHON) cannot make .venv. As root: apt-get install python3-venv. Without root: another interpreter," >&2; \
	  echo "make setup PYTHON=python3.12; or $(PYTHON) -m pip install --user virtualenv && $(PYTHON) -m virtualenv .venv && make setup" >&2; \
	  exit 1; }
	@bash .ci/system_library.sh libusb-1.0.so.0 libusb-1.0-0 "CPU rendering with Open3D"
	@echo "installing Python packages into .venv (one to three minutes)"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]' $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	@touch $@

demo: $(STAMP) ## the whole way on small homes, ending in report.html (ARGS="preset=quick" for two minutes)
	@$(BIN)/sightline demo $(ARGS)

test: $(STAMP) ## the tests that take seconds
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile $(ARGS)

test-slow: $(STAMP) ## the tests that take minutes: whole pipeline, kill and resume
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n $(WORKERS) --dist loadfile $(ARGS)

check: $(STAMP) ## formatting, lint, types, import direction, quick tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" $(QUICK)

format: $(STAMP) ## mend formatting and simple lint
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## the measurements behind benchmarks/results, with the peers they compare to (two and a half hours on 2 cores; ARGS=--quick: speed and PPO alone)
	@bash .ci/system_library.sh libEGL.so.1 "libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0" "the OpenGL peers"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	@# exit code 1 says that a target is short: it is shown and the other measurements go on; 2 is an error
	@$(BIN)/python -m benchmarks.sim --out benchmarks/results $(ARGS) || test $$? = 1
	@$(BIN)/python -m benchmarks.rl --out benchmarks/results $(ARGS) || test $$? = 1
	@$(BIN)/python -m benchmarks.grounding --out benchmarks/results $(ARGS) || test $$? = 1
	@$(BIN)/python -m benchmarks.rewards --out benchmarks/results $(ARGS) || test $$? = 1
	@$(BIN)/python -m benchmarks.vl --out benchmarks/results $(ARGS) || test $$? = 1
	@$(BIN)/python -m benchmarks.reason --out benchmarks/results $(ARGS) || test $$? = 1
	@if [ -n "$${SIGHTLINE_DATA:-}" ]; then $(BIN)/python -m benchmarks.scenes --out benchmarks/results $(ARGS) || test $$? = 1; \
	  else echo "benchmarks.scenes left out: SIGHTLINE_DATA names no folder with ProcTHOR houses"; fi
ifeq (,$(findstring --quick,$(ARGS)))
	@bash benchmarks/agents.sh
	@bash benchmarks/demo.sh
endif

clean: ## remove .venv and caches; runs stay
	@rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
