# make run: set up and search olivine NaxFePO4.   make test: set up and pass the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup run test check bench clean

help:
	@echo "make run | test | setup | check | bench | clean"

setup: $(READY)

# torch first and alone: an open range in another package would bring gigabytes of CUDA libraries.
$(READY): pyproject.toml constraints.txt tools/system-packages.sh tools/gpaw.sh tools/gpaw-siteconfig.py
	sh tools/system-packages.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,chgnet,mace,schnetpack]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps schnetpack
	sh tools/gpaw.sh $(BIN)/python
	touch $(READY)

run: setup
	$(BIN)/gasearch run runs/quickstart

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/search.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
