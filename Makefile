# make quickstart: from nothing to generated pictures.   make test: lint, types, tests.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Shorter training for a trial: make quickstart MINUTES=0.5
MINUTES ?=
RUN ?= runs/quickstart
JOBS ?= 2

.PHONY: quickstart test test-slow test-gpu lint format clean

quickstart: $(VENV)/.installed
	$(BIN)/keras-gan quickstart --run $(RUN) $(if $(MINUTES),--minutes $(MINUTES))

test: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow --timeout 3600

# On a fake device list: make test-gpu DEVICE=CPU:1,CPU:2
DEVICE ?= GPU

test-gpu: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m gpu tests/gpu --device $(DEVICE) -n $(JOBS) --dist loadgroup

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed. Received: $$($(PYTHON) --version)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e '.[serve]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache
