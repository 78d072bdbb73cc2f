# Set-up happens once and again only when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest/bin
STAMP := $(VENV)/.installed
# Of wandb-sync.
RUNS ?= runs
JOBS ?= 8

.DEFAULT_GOAL := help
.PHONY: help setup run wandb-sync test bench bench-gpu lint format clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install the project with its development tools

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(STAMP)

run: $(STAMP) ## Deep SAD on the embedded digits (ARGS=... goes to train.py)
	$(BIN)/python train.py $(ARGS)

wandb-sync: $(STAMP) ## upload offline W&B runs (RUNS=<output_dir>, JOBS=<uploads at a time>)
	$(BIN)/python -m deepsad_pl.tracking.wandb_sync "$(RUNS)" --jobs "$(JOBS)" $(ARGS)

test: $(STAMP) ## the whole test suite (ARGS=... goes to pytest)
	$(BIN)/python -m pytest -n auto $(ARGS)

test-lowest: ## the suite with the lowest versions that pyproject.toml allows, in .venv-lowest (ARGS=... likewise)
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet uv
	$(LOWEST)/uv pip install --quiet --python $(LOWEST)/python --resolution lowest-direct --editable '.[dev]'
	$(LOWEST)/python -m pytest -n auto $(ARGS)

bench: $(STAMP) ## all benchmarks, one after the other (ARGS=... goes to each of them)
	$(BIN)/python -m benchmarks.step $(ARGS)
	$(BIN)/python -m benchmarks.sweep $(ARGS)
	$(BIN)/python -m benchmarks.shallow $(ARGS)
	$(BIN)/python -m benchmarks.score $(ARGS)

bench-gpu: $(STAMP) ## the benchmarks that a GPU changes, on it (ARGS=... likewise)
	$(BIN)/python -m benchmarks.step --device cuda $(ARGS)
	$(BIN)/python -m benchmarks.sweep --device cuda $(ARGS)
	$(BIN)/python -m benchmarks.scenario --device cuda $(ARGS)
	$(BIN)/python -m benchmarks.score --device cuda $(ARGS)

lint: $(STAMP) ## ruff (check and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove caches of the tools (not runs, not data, not .venv)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
