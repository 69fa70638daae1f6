# Everything a user or developer needs, on a machine with Python 3.11+, make and git. `make help` explains it.
# All that is installed lands in .venv, all that is written at run time in var/ (or where ORDERS_PLATFORM_HOME says).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
INSTALLED := $(VENV)/.installed
MANIFEST := dbt_project/target/manifest.json
DBT_SOURCES := $(shell find dbt_project -type f \( -name '*.sql' -o -name '*.yml' -o -name '*.yaml' -o -name '*.csv' \) \
                 -not -path 'dbt_project/target/*' -not -path 'dbt_project/logs/*' 2>/dev/null)

# Every Dagster run is a fresh interpreter: without bytecode its imports cost 2.5 times as much.
unexport PYTHONDONTWRITEBYTECODE

ARGS ?=

##@ Use it

.PHONY: demo
demo: $(INSTALLED) $(MANIFEST) ## Run the main job end to end on live changes, print the reconciled daily revenue, stop everything
	$(BIN)/orders-platform demo $(ARGS)

.PHONY: dev
dev: $(INSTALLED) $(MANIFEST) ## Start the stack and the Dagster UI on it; SHOP=50 adds a shop writing 50 changes/s (Ctrl-C ends UI and shop)
	@$(BIN)/orders-platform up --for-ui $(if $(SHOP),--for-shop)
	@read -r port home < <($(BIN)/python -c 'from orders_platform.settings import load; s = load(); print(s.ports.dagster, s.home)'); \
	mkdir -p "$$home/dagster" "$$home/logs"; \
	cp deploy/dagster/dagster.yaml "$$home/dagster/dagster.yaml"; \
	shop=; trap 'if [ -n "$$shop" ]; then kill "$$shop" 2>/dev/null || true; fi; echo "The stack still runs: make down stops it."' EXIT; \
	if [ -n "$(SHOP)" ]; then $(BIN)/orders-platform shop --rate "$(SHOP)" > "$$home/logs/shop.log" 2>&1 & shop=$$!; fi; \
	DAGSTER_HOME="$$home/dagster" $(BIN)/dagster dev --workspace workspace.yaml --port "$$port" $(ARGS)
SHOP ?=

.PHONY: up down status
up: $(INSTALLED) ## Start PostgreSQL, Kafka, Connect with Debezium, and ClickHouse; wait until each is healthy
	$(BIN)/orders-platform up $(ARGS)

down: $(INSTALLED) ## Stop them in order
	$(BIN)/orders-platform down $(ARGS)

status: $(INSTALLED) ## Show endpoint, process, memory, version and log file of each part
	$(BIN)/orders-platform status $(ARGS)

##@ Work on it

.PHONY: test
test: lint $(MANIFEST) ## Run lint, then all tests, on real parts, with coverage; ARGS="-k name" chooses, WORKERS=1 for less memory
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(ARGS)
WORKERS ?= 2

.PHONY: lint
lint: $(INSTALLED) ## Check format, rules, types and which module may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(INSTALLED) ## Rewrite the code to the format, and fix what can be fixed without asking
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(INSTALLED) $(MANIFEST) ## Measure each hop beside DuckDB alone, Parquet to Parquet; ARGS=--quick takes a minute
	$(BIN)/python -m orders_platform_tests.benchmarks $(ARGS)

.PHONY: latency
latency: $(INSTALLED) ## Measure from commit to dashboard for MINUTES=10, on the stack that `make dev SHOP=50` runs
	$(BIN)/python -m orders_platform_tests.benchmarks.latency --minutes $(MINUTES)
MINUTES ?= 10

.PHONY: faults
faults: $(INSTALLED) $(MANIFEST) ## Play SEEDS=100 histories of faults from seed FIRST=0 on, one in ten on live stacks; each must end in the tables of PostgreSQL
	$(BIN)/python -m orders_platform_tests.faults --seeds $(SEEDS) --first $(FIRST) $(ARGS)
SEEDS ?= 100
FIRST ?= 0

.PHONY: manifest
manifest: $(MANIFEST) ## Parse the dbt project into the manifest that Dagster reads

.PHONY: install
install: $(INSTALLED) ## Create .venv with exactly the packages of requirements.lock

.PHONY: lock
lock: $(INSTALLED) ## Resolve all dependencies again: Python packages with their hashes, jars with theirs
	$(UV) pip compile $(LOCK_OPTIONS) --extra stack --extra quality --extra dev --output-file requirements.lock pyproject.toml
	$(UV) pip compile $(LOCK_OPTIONS) --extra spark --extra kubernetes --constraint requirements.lock \
	  --output-file requirements-cluster.lock pyproject.toml
# Neither addresses nor paths belong in a lock: what is installed is named by its hash, from where is the user's choice.
LOCK_OPTIONS := --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --no-annotate --upgrade

.PHONY: clean
clean: ## Stop the stack, remove what was installed and built; ALL=1 removes the data in var/ too
	@if [ -x $(BIN)/orders-platform ]; then $(BIN)/orders-platform down || echo "The stack could not be asked to stop; going on."; fi
	rm -rf $(VENV) dbt_project/target dbt_project/logs *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*
	find orders_platform orders_platform_tests -name __pycache__ -type d -exec rm -rf {} +
	@if [ -n "$(ALL)" ]; then rm -rf var; fi
ALL ?=

.PHONY: help
help: ## Show this
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z][a-z-]*:.*## / { printf "  \033[1mmake %-9s\033[0m %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nPYTHON=python3.12 make … chooses the interpreter (3.11 to 3.14) of a new .venv.\n'

# ---- files ----

# The lock holds uv too: pip installs that one package by its hash, and uv the rest, several times quicker.
$(INSTALLED): requirements.lock pyproject.toml
	@python="$$(for name in $(PYTHON) python3 python3.13 python3.12 python3.14 python3.11; do \
	    if "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; then echo "$$name"; break; fi; \
	    if [ "$$name" = "$(PYTHON)" ]; then break; fi; \
	  done)"; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 to 3.14 is needed$(if $(PYTHON),; $(PYTHON) is not one). Name one: make PYTHON=/path/to/python3.12 …" >&2; exit 1; fi; \
	if ! $(BIN)/python -c '' 2>/dev/null; then \
	  echo "Creating $(VENV) with $$("$$python" --version)"; \
	  "$$python" -m venv --clear $(VENV) || { echo "Its venv module is missing or incomplete (Debian: apt-get install python3-venv)." >&2; exit 1; }; fi
	@if ! [ -x $(UV) ]; then echo "Installing uv"; \
	  awk '/^[A-Za-z0-9]/ { ours = /^uv==/ } ours' requirements.lock | \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement /dev/stdin; fi
	@echo "Installing the packages of requirements.lock"
	@VIRTUAL_ENV=$(VENV) $(UV) pip sync --require-hashes --compile-bytecode requirements.lock
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Dagster reads the manifest when it loads the definitions; making it there would cost every run 4 seconds.
$(MANIFEST): $(DBT_SOURCES) $(INSTALLED)
	@echo "Parsing the dbt project"
	@$(BIN)/dbt --quiet parse --project-dir dbt_project --profiles-dir dbt_project
	@touch $@
