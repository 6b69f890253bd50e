# make serve · make demo · make train · make test · make bench · make load · make soak · make fuzz · make lint · make audit · make image · make sbom · make clean
# Everything happens in .venv and .ekiben beside this file; a second run does only what is missing.

PYTHON ?= python3
PORT ?= 3000
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .tools
PEERS ?= bentoml,fastapi
ROUTES := ekiben-routed,ekiben-aa,ekiben-split,ekiben-shadow,ekiben-cached,ekiben-unlogged,ekiben-guarded
export BENTOML_DO_NOT_TRACK ?= 1

.PHONY: serve demo train test bench load soak fuzz lint audit image sbom tools clean help

help:
	@grep -E '^#' Makefile

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ekiben needs Python 3.11 or later; say make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pinned dependencies into $(VENV) (a few minutes the first time) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve,postgresql,monitor,report,redis,s3,tracing,train,dev]'
	@touch $@

train: $(VENV)/.installed
	@$(BIN)/python -m training.flight_delay --if-missing
	@$(BIN)/python -m training.digits --if-missing

serve: train
	@echo "Serving on http://localhost:$(PORT): Swagger UI at /, models at /v1/models, metrics at /metrics; gRPC and REST on port $(or $(EKIBEN_DATA_PORT),3001)"
	@exec $(BIN)/bentoml serve service:svc --port $(PORT)

# A year of flights in minutes: drift, ground truth, retraining, rollouts, and a page about it in demo-report/. DEMO_ARGS=--short for less.
demo: $(VENV)/.installed
	@exec $(BIN)/python -m load_tests.demo $(DEMO_ARGS)

test: $(VENV)/.installed
	@$(BIN)/python -m pytest -n auto --dist loadscope --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

bench: $(VENV)/.installed
	@$(BIN)/python -m load_tests.bench --peers ekiben,$(ROUTES),$(PEERS),echo,onnx-ceiling,grpc-echo,raw $(BENCH_ARGS)

# HOST=http://host:port (and GRPC=host:port) loads a running server; without it, one is started and stopped here.
# A HOST that the shell happens to export is a machine's name and no address.
LOAD_HOST = $(if $(or $(findstring ://,$(HOST)),$(findstring command,$(origin HOST))),--host $(HOST))
LOAD = $(BIN)/python -m load_tests.run $(LOAD_HOST) $(if $(GRPC),--grpc-address $(GRPC))

load: train
	@$(LOAD) --shape ramp --seconds 30 $(LOAD_ARGS)

soak: train
	@$(LOAD) --shape soak $(LOAD_ARGS)

# Hours of it: 200,000 mutated requests, and a thousand of each operation of the OpenAPI documents. FUZZ_SEED=… for others.
fuzz: $(VENV)/.installed
	@FUZZ_TIMES=$${FUZZ_TIMES:-10} SCHEMATHESIS_EXAMPLES=$${SCHEMATHESIS_EXAMPLES:-1000} FUZZ_SEED=$${FUZZ_SEED:-$$(date +%s)} \
		$(BIN)/python -m pytest --timeout 0 tests/integration/test_fuzz.py tests/integration/test_schemathesis.py

# BASE_IMAGE, IMAGE, BUILDER, VERSIONS and EXTRAS choose what docs/50-container.md says.
image: train
	@BENTOML=$(BIN)/bentoml deploy/image/build.sh

sbom: tools
	@TOOLS=$(TOOLS) deploy/image/sbom.sh $(or $(IMAGE),ekiben):latest sbom.json

tools: $(TOOLS)/.installed

$(TOOLS)/.installed: deploy/tools.txt
	@test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/tools.txt
	@touch $@

lint: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory audit

# Known vulnerabilities of the pinned packages. Where the service that knows them cannot be reached that is said, and fails only with AUDIT_REQUIRED=1.
audit:
	@if $(PYTHON) deploy/audit.py probe; then $(MAKE) --no-print-directory tools && $(TOOLS)/bin/python deploy/audit.py run; else test -z "$(AUDIT_REQUIRED)"; fi

clean:
	rm -rf $(VENV) $(TOOLS) .ekiben sbom.json demo-report *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage* bench-results build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
