# make serve · make train · make test · make bench · make lint · make clean
# Everything happens in .venv and .ekiben beside this file; a second run does only what is missing.

PYTHON ?= python3
PORT ?= 3000
VENV := .venv
BIN := $(VENV)/bin
export BENTOML_DO_NOT_TRACK ?= 1

.PHONY: serve train test bench lint clean help

help:
	@grep -E '^#' Makefile

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ekiben needs Python 3.11 or later; say make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pinned dependencies into $(VENV) (a few minutes the first time) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve,postgresql,tracing,train,dev]'
	@touch $@

train: $(VENV)/.installed
	@$(BIN)/python -m training.flight_delay --if-missing
	@$(BIN)/python -m training.digits --if-missing

serve: train
	@echo "Serving on http://localhost:$(PORT): Swagger UI at /, models at /v1/models, metrics at /metrics"
	@exec $(BIN)/bentoml serve service:svc --port $(PORT)

test: $(VENV)/.installed
	@$(BIN)/python -m pytest --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

bench: $(VENV)/.installed
	@$(BIN)/python -m load_tests.bench $(BENCH_ARGS)

lint: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

clean:
	rm -rf $(VENV) .ekiben *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage* bench-results build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
