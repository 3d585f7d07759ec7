# make quickstart: from nothing to generated pictures.   make test: lint, types, tests.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
# Other releases of TensorFlow and Keras, in an environment of their own: make test TRY=nightly, or
# make test TRY='tensorflow==2.20.0 keras==3.14.0'. The caps of pyproject.toml do not apply to them.
TRY ?=
ifneq ($(strip $(TRY)),)
override VENV := .venv-try
OTHERS := $(patsubst nightly,tf-nightly keras-nightly,$(TRY))
# A release of one beside `nightly` replaces its nightly package. One alone leaves the other as constraints.txt has it.
NAMES := $(foreach package,$(OTHERS),$(firstword $(subst =, ,$(subst <, ,$(subst >, ,$(subst [, ,\
  $(subst ~, ,$(subst !, ,$(package)))))))))
OTHERS := $(filter-out $(if $(filter keras,$(NAMES)),keras-nightly) \
  $(if $(filter tensorflow,$(NAMES)),tf-nightly),$(OTHERS))
ifeq ($(filter keras keras-nightly,$(NAMES)),)
OTHERS += $(shell grep '^keras==' constraints.txt)
endif
ifeq ($(filter tensorflow tensorflow-cpu tf-nightly tf-nightly-cpu,$(NAMES)),)
OTHERS += $(shell grep '^tensorflow==' constraints.txt)
endif
QUOTED := $(foreach package,$(OTHERS),'$(package)')
TRIED := $(VENV)/.try
endif
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Shorter training for a trial: make quickstart MINUTES=0.5
MINUTES ?=
RUN ?= runs/quickstart
JOBS ?= 2

.PHONY: quickstart test test-slow test-gpu lint format clean FORCE

quickstart: $(VENV)/.installed
	$(BIN)/keras-gan quickstart --run $(RUN) $(if $(MINUTES),--minutes $(MINUTES))

test: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow --timeout 3600

# On a fake device list: make test-gpu DEVICE=CPU:1,CPU:2
DEVICE ?= GPU

test-gpu: JOBS := 4
test-gpu: $(VENV)/.installed-$(if $(filter GPU,$(DEVICE)),gpu,dev)
	$(BIN)/python -m pytest -m gpu tests/gpu --device $(DEVICE) -n $(JOBS) --dist loadgroup

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed. Received: $$($(PYTHON) --version)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt $(TRIED)
	$(PIP) install -q -c constraints.txt -e '.[serve]'
	$(exchange)
	touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt $(TRIED)
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	$(exchange)
	touch $@ $(VENV)/.installed

$(VENV)/.installed-gpu: $(VENV)/.installed-dev
	$(PIP) install -q -c constraints.txt -e '.[gpu]'
	touch $@

# Replaces what constraints.txt has installed. Nightly packages unpack to the folders of the others,
# so all are removed first.
ifneq ($(strip $(TRY)),)
exchange = $(PIP) uninstall -q -y tensorflow keras tf-nightly keras-nightly; \
	  $(PIP) install -q --upgrade $(QUOTED)
endif

# Changes with TRY. Releases that the index does not have are refused before anything is installed.
$(VENV)/.try: $(VENV)/.created FORCE
	@echo "$(TRY)" | cmp -s - $@ \
	  || $(PIP) install -q --dry-run --no-deps $(QUOTED) > $(VENV)/try.log 2>&1 \
	  || { echo "TRY must name releases that pip can install. Received: TRY=$(TRY);" \
	    "$$(grep -m 1 ERROR $(VENV)/try.log || tail -n 1 $(VENV)/try.log)"; exit 2; }
	@echo "$(TRY)" | cmp -s - $@ || echo "$(TRY)" > $@

clean:
	rm -rf $(VENV) .venv-try dist build .pytest_cache .ruff_cache
