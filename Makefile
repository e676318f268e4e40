# Everything a person or CI runs. The virtual environment is a by-product: `make demo` and `make test`
# work in a fresh clone with nothing but Python >= 3.11 (with venv) and make.
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
DURATION ?= 60
# Bytecode that is not kept would be compiled again by each of the hundreds of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

# The tree as it is deployed: installed from its wheel, the request path compiled where a C compiler is at hand.
INSTALLED := build/installed
AS_INSTALLED := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(INSTALLED):$(CURDIR) PARALLAX_TREE=$(CURDIR)/$(INSTALLED)
COMPILED_TESTS := tests/net tests/http tests/plan tests/exchange

.PHONY: help setup installed demo test test-servers check lint format bench fuzz soak clean

help:
	@echo "make demo    two real models, a shadow, a fault and a report, in about $(DURATION) seconds (DURATION=...)"
	@echo "make test    every test"
	@echo "make test-servers  real model servers and their clients, each in an environment of its own (SERVERS=kserve,litserve)"
	@echo "make check   format, lint, types, import contracts and the quick tests, under a minute"
	@echo "make bench   side by side with nginx, HAProxy and Envoy, in about 20 minutes (ARGS=\"--jobs a,d --rounds 1\")"
	@echo "make fuzz    Hypothesis against parsers and log for $(DURATION) seconds (DURATION=...)"
	@echo "make soak    everything at once for $(DURATION) seconds, then the books are checked (DURATION=...)"

$(VENV)/.ready: pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
	  echo "parallax needs Python 3.11 or newer, and none was found on PATH"; \
	  echo "  install one (Debian: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.11 ..."; exit 1; fi
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module"; \
	  echo "  install it (Debian: apt-get install python3-venv) or name another: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "[1/2] creating the virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "[2/2] installing pinned versions from constraints.txt (about a minute)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -q -c constraints.txt -e '.[demo,otel,test]'
	@touch $@

setup: $(VENV)/.ready

$(INSTALLED)/.ready: setup.py pyproject.toml $(shell find proxy -name '*.py' -o -name '*.css') | setup
	@echo "building and compiling the wheel into $(INSTALLED) (a minute or two)"
	@rm -rf build
	@$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --target $(INSTALLED) .
	@touch $@

installed: $(INSTALLED)/.ready

demo: setup
	@$(BIN)/python -m loadtests.demo --duration $(DURATION)

# The quick tests side by side, then those that take their time; then the wire tests again on the compiled tree, and
# those that start processes one after another, on that tree as well.
test: setup installed
	$(BIN)/python -m pytest -n auto -m "not slow and not e2e" $(ARGS)
	$(BIN)/python -m pytest -n auto -m "slow and not e2e" $(ARGS)
	$(AS_INSTALLED) $(BIN)/python -m pytest -n auto -m "not slow and not e2e" $(COMPILED_TESTS) $(ARGS)
	$(AS_INSTALLED) $(BIN)/python -m pytest -m e2e $(ARGS)

# Heavy, so apart: about 3 GB of environments in .servers, made once.
test-servers: setup installed
	@PARALLAX_TREE=$(CURDIR)/$(INSTALLED) SERVERS=$(SERVERS) $(BIN)/python -m tests.servers $(ARGS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(BIN)/python -m pytest -n auto -m "not slow and not e2e" --hypothesis-profile=quick $(ARGS)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup installed
	@PARALLAX_TREE=$(INSTALLED) $(BIN)/python -m loadtests.bench $(ARGS)

fuzz: setup
	@$(BIN)/python -m tests.fuzz --duration $(DURATION) $(ARGS)

soak: setup installed
	@PARALLAX_TREE=$(INSTALLED) $(BIN)/python -m loadtests.soak --duration $(DURATION) $(ARGS)

clean:
	rm -rf $(VENV) .peers .servers build dist *.egg-info
