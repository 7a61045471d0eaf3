# Each target sets itself up: a fresh clone and Python 3.11 or newer are enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

help:
	@echo "make setup      make .venv with the tested versions"
	@echo "make repro      run the pipeline: from raw studies to metrics/test.json"
	@echo "make test       run the tests"
	@echo "make bench      measure speed and memory: benchmarks/results.json"
	@echo "make docs       write docs/parameters.md, and the tables of docs/library.md and README.md"
	@echo "make table1     train the systems of the paper's Table 1 over two seeds, hours: docs/table1.md"
	@echo "make ablations  run the paper's ablations and sweeps over three seeds, hours: docs/ablations.md"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

repro: setup
	dvc repro

test: setup
	pytest -n 2 --dist loadfile -rs

bench: setup
	python -m benchmarks

docs: setup
	python -m docs.make

ablations: setup
	python -m experiments.ablations $(ARGS)

table1: setup
	python -m experiments.table1 $(ARGS)

.PHONY: help setup repro test bench docs ablations table1
