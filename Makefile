# Bare machine: Python 3.11 with venv, git, make. `make run` and `make test` are all a newcomer needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export MEDLLM_HOME ?= $(CURDIR)/var
export AIRFLOW_HOME ?= $(CURDIR)/var/airflow
export AIRFLOW__CORE__DAGS_FOLDER ?= $(CURDIR)/dags
export AIRFLOW__CORE__PLUGINS_FOLDER ?= $(CURDIR)/plugins
export AIRFLOW__CORE__LOAD_EXAMPLES ?= False
export HF_HUB_OFFLINE ?= 1
export DO_NOT_TRACK ?= 1

help: ## Show these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## Install everything into .venv, by the lock

# pip, not a faster installer: it is the one that finds a CPU build of torch where there is one.
$(STAMP): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not installed; set PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "error: no venv; on Debian: apt install python3-venv"; rm -rf $(VENV); exit 1; }
	@echo "installing into $(VENV) (a few minutes the first time)"
	@DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

RAW ?=
run: install ## Run the whole chain on a real 135M model, on CPU, offline (RAW=DIR: on your files)
	@$(BIN)/medllm-ops run $(if $(RAW),--raw "$(RAW)") $(RUN_OPTIONS)

test: install ## Run all tests
	@$(BIN)/python -m pytest $(PYTEST_OPTIONS)

slow: install ## Run the tests that CI has no time for
	@$(BIN)/python -m pytest -m slow $(PYTEST_OPTIONS)

soak: install ## Kill at random, again and again; what comes out must be right each time
	@$(BIN)/python -m pytest -m soak -s $(PYTEST_OPTIONS)

lint: install ## ruff, mypy, import-linter
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

up: install ## Airflow on 127.0.0.1:8080 with the DAGs; prints the login
	@$(BIN)/python -m medllm_ops.ui.standalone

serve: install ## Chat page of the latest model on 127.0.0.1:9101
	@$(BIN)/medllm-ops serve latest

lock: install ## Write requirements.txt anew from pyproject.toml
	@$(BIN)/pip-compile --quiet --all-extras --strip-extras --allow-unsafe --no-annotate --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --no-emit-options --no-header \
		--output-file requirements.txt pyproject.toml
# The same line must serve CPU and GPU: no local build tag, no CUDA wheels, which torch brings along by itself.
	@sed -i -e 's/+cpu$$//' -e '/^nvidia-/d' -e '/^triton==/d' -e '/^cuda-/d' requirements.txt

.PHONY: help install run test slow soak lint up serve lock
