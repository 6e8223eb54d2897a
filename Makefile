# `make demo` and `make test` need Python 3.11 or newer and a package registry, nothing else.
# pip's own settings (an index, a proxy, PIP_* variables) are honoured.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/demo

.PHONY: demo test lint types tests docs tables notebooks bench clean

demo: $(VENV)/.train
	$(BIN)/soundmark train toy --out $(RUN)
	$(BIN)/soundmark data export toy --to $(RUN)-recordings
	$(BIN)/soundmark classify --model $(RUN)/model.onnx --top 3 $(RUN)-recordings/siren/siren-000.wav
	@echo "open $(RUN)/report.html in a browser"

test: lint types tests docs

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

tests: $(VENV)/.dev
	$(BIN)/pytest -n 2 --dist loadgroup --cov --cov-report=term:skip-covered --cov-fail-under=90

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

tables: $(VENV)/.dev
	$(BIN)/python tools/tables.py

notebooks: $(VENV)/.dev
	$(BIN)/python tools/notebook.py

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/features.py

clean:
	rm -rf $(VENV) site runs .pytest_cache .mypy_cache .ruff_cache .coverage

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[train]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.train
