# make run: set up and search olivine NaxFePO4.   make test: set up and pass the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
SEARCHES := $(VENV)/.searches
READY := $(VENV)/.ready

# Some machines set these; then files are compiled again by each process, and tests see another Python
# than users have.
unexport PYTHONDONTWRITEBYTECODE PYTHONUNBUFFERED

.PHONY: help setup run test check bench docs clean

help:
	@echo "make run | test | setup | check | bench | docs | clean"

# What a search needs, and nothing else. torch first and alone: an open range in another package would
# bring gigabytes of CUDA libraries.
$(SEARCHES): pyproject.toml constraints.txt tools/system-packages.sh
	sh tools/system-packages.sh searches
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[chgnet]'
	touch $(SEARCHES)

# What the tests need besides: other networks, compilers of GPAW, a browser, a database server.
setup: $(READY)

$(READY): $(SEARCHES) tools/gpaw.sh tools/gpaw-siteconfig.py
	sh tools/system-packages.sh tests
	$(PIP) --editable '.[dev,chgnet,mace,schnetpack]'
	$(PIP) --no-deps schnetpack
	sh tools/gpaw.sh $(BIN)/python
	touch $(READY)

run: $(SEARCHES)
	$(BIN)/gasearch run runs/quickstart

# One process more than cores: some tests wait, for other processes, a browser or a server.
test: PROCESSES = $(shell $(BIN)/python -c 'import os; print(min(os.cpu_count() or 1, 4) + 1)')
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/search.py

docs: $(SEARCHES)
	$(PIP) --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
