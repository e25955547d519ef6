# `make demo` and `make test` need Python 3.10 or 3.11 and make; everything else is installed into .venv.
PYTHON ?= python3
# What pip is told about torch: another build is chosen here.
TORCH ?= torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# As many test processes, of one thread each: threads of several processes on the same cores slow each other down.
WORKERS ?= 2
# What `make bench` measures on, and further options of either benchmark (`python -m benchmarks.bench --help`).
DATASET ?= ml-100k
DATA_PATH ?= dataset
BENCH_ARGS ?=
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-slow torture lint types bench bench-scale tables clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## */\1|/' | awk -F'|' '{printf "  make %-11s %s\n", $$1, $$2}'

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v in ((3, 10), (3, 11)) else "got Python %d.%d, expected 3.10 or 3.11: make PYTHON=python3.11 ... (README, Install, for later ones)" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt $(TORCH)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

setup: $(READY)  ## create .venv with every dependency, once per change of them

demo: $(READY)  ## train NCL_OT on ml-100k and compare it with popularity and an untrained model
	$(BIN)/recmodels demo

test: lint types test-fast test-slow  ## everything CI runs

lint: $(READY)  ## ruff check and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## mypy on the package
	$(BIN)/mypy

test-fast: $(READY)  ## tests of at most a few seconds
	$(PYTEST) -n $(WORKERS) -m 'not slow and not torture'

test-slow: $(READY)  ## longer tests: whole runs, resume, the notebook
	$(PYTEST) -n $(WORKERS) -m slow

torture: $(READY)  ## many kill -9 rounds
	$(PYTEST) -m torture

bench: $(READY)  ## seconds and memory of our models beside RecBole's; DATASET, DATA_PATH, BENCH_ARGS="--epochs 5 ..."
	$(BIN)/python -m benchmarks.bench --dataset="$(DATASET)" --data_path="$(DATA_PATH)" $(BENCH_ARGS)

bench-scale: $(READY)  ## seconds and memory of a step on synthetic graphs of growing size; BENCH_ARGS="--growth density ..."
	$(BIN)/python -m benchmarks.scale $(BENCH_ARGS)

tables: $(READY)  ## docs/results/ml-1m*.* and gowalla.* from results/; a data set without results is skipped
	test ! -d results/ml-1m-r3 || $(BIN)/recmodels report results/ml-1m-r3 --name=ml-1m --published=ml-1m --sort=ndcg@10 --out=docs/results
	test ! -d results/ml-1m-r3-split-2021 || $(BIN)/recmodels report results/ml-1m-r3-split-2021 --name=ml-1m-split-2021 --sort=ndcg@10 --against=EASE --out=docs/results
	test ! -d results/gowalla || $(BIN)/recmodels report results/gowalla --by=split --published=gowalla --sort=ndcg@20 --out=docs/results

clean:  ## remove the environment, caches and build products; runs and data sets stay
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
