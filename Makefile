# The two commands: `make demo` and `make test`, each from a bare checkout. Both share one virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The version that is tested, installed first and alone: where a wheel for the processor is at hand it is taken, and what
# comes after is content with it. Elsewhere pip takes the wheel for GPUs, or, where this version is not to be had, another.
TORCH ?= torch==2.13.0

.PHONY: demo test lint format clean

$(VENV)/core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/dev: $(VENV)/core
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,train]'
	@touch $@

demo: $(VENV)/core
	$(BIN)/python examples/demo.py

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n auto --dist worksteal

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV)
