# The only vocabulary. `make demo` and `make test` work on a machine with Python 3.11+, git and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
STAMP := $(VENV)/.setup
export PYTHONDONTWRITEBYTECODE=

.PHONY: help setup demo test fuzz long mutants chaos serving-load attack lint docs bench bench-gpu campaign up down lock clean images up-compose down-compose test-compose test-cluster

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 15

setup: $(STAMP) ## virtual environment with everything in requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@# torch first and by itself: which build there is depends on the machine's index
	@$(UV) pip install --quiet --python $(BIN)/python "$$(grep -E '^torch==' requirements.lock | sed 's/ .*//')"
	@$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@$(BIN)/python -m compileall -q include dags demo
	@touch $@

demo: setup ## the whole loop on the 2013 flights; leaves Airflow running (make down stops it)
	@$(BIN)/python -m demo

up: setup ## start Airflow and MLflow for this project
	@$(BIN)/millrace up

down: ## stop what `make demo` or `make up` started
	@if [ -x $(BIN)/millrace ]; then $(BIN)/millrace down; fi

test: setup ## all tests that this machine has servers for, in groups beside each other
	@$(BIN)/python tests

fuzz: setup ## every time zone over twenty years, and whatever else takes long to search
	@MILLRACE_TEST_FUZZ=1 $(BIN)/python -m pytest -m fuzz

long: setup ## what `make test` leaves out: further variants of its tests, those in a cluster where there is one
	@MILLRACE_TEST_LONG=1 $(BIN)/python -m pytest -m long

mutants: setup ## break each invariant in a copy of the code, and see a fast test fail
	@$(BIN)/python tests/mutants

chaos: setup ## 8 x 1,000 racing promotions, then 500 times kill -9 in a project at work (CHAOS_KILLS, _SEED, _LEDGER)
	@MILLRACE_TEST_RACES=1000 $(BIN)/python -m pytest -qs tests/ledger/test_ledger_promotion_races.py
	@$(BIN)/python tests/chaos

serving-load: setup ## what live traffic sees of each fault of a prediction server; writes docs/faults.md (LOAD_SECONDS, LOAD_RATE)
	@$(BIN)/python -W ignore tests/load

attack: setup ## all that somebody may do who may edit runs, to every task of a small pipeline (ATTACK_SEED)
	@$(BIN)/python tests/loop/attack_campaign.py

lint: setup ## ruff, mypy, import contracts, committed schemas, docs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/millrace schema --check
	@$(BIN)/millrace check
	@$(BIN)/python docs/reference.py --check
	@$(MAKE) --no-print-directory docs

docs: setup ## the pages of docs/ as a site in .millrace/docs; a link that leads nowhere is an error
	@mkdir -p .millrace
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict >.millrace/docs.log 2>&1 || { cat .millrace/docs.log; exit 1; }
	@echo "docs: open .millrace/docs/index.html"

bench: setup ## speed and memory, ours against a reference, as ratios; writes .millrace/bench.json
	@$(BIN)/python -m bench

bench-gpu: setup ## both learners on a GPU against the CPU, and the tests that need one; says so where there is none
	@MILLRACE_TEST_GPU=1 $(BIN)/python -m pytest -q tests/learners/test_learners_gpu.py tests/learners/test_learners_forward.py
	@$(BIN)/python -m bench.gpu

campaign: setup ## corrupt the real data in two hundred ways and see what stops it; writes docs/gates.md
	@$(BIN)/python -W ignore tests/gates/campaign

images: setup ## millrace-jobs, -platform and -serving, by the Docker engine there is (DEVICE=cuda for GPUs)
	@include/images/build.sh $(BIN)/python

up-compose: images ## start docker-compose.yaml; writes .env and secrets where they are missing
	@$(BIN)/python include/images/stack.py up

down-compose: ## stop what up-compose started; DATA=1 removes its data too
	@$(PYTHON) include/images/stack.py down $(if $(DATA),--data)

test-compose: images ## the compose stack, for real: needs a Docker engine (DOCKER_HOST)
	@$(BIN)/python -m pytest -s tests/compose tests/images

test-cluster: setup ## jobs in pods and the chart, for real: needs a cluster (KUBECONFIG, and MILLRACE_TEST_CLUSTER=1)
	@test -f "$$KUBECONFIG" -a "$$MILLRACE_TEST_CLUSTER" = 1 || { echo "no cluster: set KUBECONFIG to the file of an" \
		"administrator, and MILLRACE_TEST_CLUSTER=1 if tests may use his cluster"; exit 1; }
	@test -z "$$DOCKER_HOST" || $(MAKE) --no-print-directory images
	@MILLRACE_TEST_LONG=1 $(BIN)/python -m pytest -s tests/cluster tests/chart

# What torch brings by itself, and only in its CUDA build: its own metadata pins the versions.
CUDA := $(addprefix --no-emit-package ,cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
	nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver \
	nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx triton)

lock: ## resolve requirements.lock anew from pyproject.toml
	@test -x $(UV) || ($(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv)
	@$(UV) pip compile --quiet --all-extras --universal --python-version 3.11 --no-header --no-emit-index-url \
		--no-emit-find-links --generate-hashes $(CUDA) --output-file requirements.lock pyproject.toml

clean: down ## remove state and environment
	@rm -rf .millrace $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
