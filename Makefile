# Everything a newcomer needs: `make demo` and `make test` work from nothing but Python 3.11+ and a network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LIBRARIES := $(VENV)/.libraries
EXTRAS := torch,preprocess,report,worker,zstd,train,slicer,dev
SLICER_LIBRARIES := libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1
TORCH := torch==2.13.0
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
SCAN ?=
OUT ?= demo_output
WORK ?= runs/small
TEMPLATES ?=
PYTEST_ARGS ?=
SLACK ?= 1

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-ray reliability lint types train-small benchmark clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# Without an NVIDIA GPU torch comes as its CPU build (a tenth of the download). Only this one package is asked of the
# extra index, with short attempts, so that a network that cannot reach it falls back to the usual index at once.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "BrainG3N needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Installing into $(VENV) (about 1 GB, a few minutes, once)"
	$(PYTHON) -m venv $(VENV)
	command -v nvidia-smi >/dev/null || $(BIN)/pip install -q --no-deps --retries 2 --timeout 15 \
		"$(TORCH)" --extra-index-url $(TORCH_CPU_INDEX)
	$(BIN)/pip install -q -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

demo: $(STAMP) ## one real scan through the whole system, into demo_output/ (make demo SCAN=path/to/T1.nii.gz)
	$(BIN)/braing3n demo $(if $(SCAN),"$(SCAN)") -o "$(OUT)"

# What off-screen windows and views need; where they cannot be installed, those tests skip and say what to type.
$(LIBRARIES): $(STAMP)
	@sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
		command -v apt-get >/dev/null && $$sudo apt-get install -qq -y $(SLICER_LIBRARIES) >/dev/null 2>&1 || true
	@touch $@

test: $(STAMP) $(LIBRARIES) ## all tests, with style and types (needs no GPU and no data of your own)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(STAMP) ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

# The full numbers of docs/reliability.md; hours on two cores. `make test` runs the same tests with a short setting.
reliability: $(STAMP) ## the worker under faults, kills, load and damaged files, at full length
	BRAING3N_RELIABILITY_VOLUMES=10000 BRAING3N_RELIABILITY_KILLS=300 BRAING3N_RELIABILITY_FAULTS=40 \
	BRAING3N_RELIABILITY_CANCELS=200 BRAING3N_RELIABILITY_CLIENTS=32 BRAING3N_RELIABILITY_JOBS=30 \
	BRAING3N_RELIABILITY_SMALL_JOBS=1400 BRAING3N_RELIABILITY_FUZZ=20000 \
	BRAING3N_RELIABILITY_SCHEMA=20000 BRAING3N_RELIABILITY_SLACK=$(SLACK) $(BIN)/python -m pytest Testing/worker --durations=10 $(PYTEST_ARGS)

# Ray is several hundred MB and starts daemons, so it has an environment of its own.
test-ray: ## the worker's contract tests, over Ray Serve too
	$(PYTHON) -m venv .venv-ray
	command -v nvidia-smi >/dev/null || .venv-ray/bin/pip install -q --no-deps --retries 2 --timeout 15 \
		"$(TORCH)" --extra-index-url $(TORCH_CPU_INDEX)
	.venv-ray/bin/pip install -q -e ".[torch,preprocess,worker,zstd,ray]" "pytest>=8"
	.venv-ray/bin/python -m pytest Testing/worker/test_contract.py $(PYTEST_ARGS)

lint: $(STAMP) ## style alone
	$(BIN)/ruff check .

types: $(STAMP) ## types alone
	$(BIN)/mypy

train-small: $(STAMP) ## train the embedded default again, on phantoms, into runs/small (hours on a CPU)
	PYTHON=$(BIN)/python bash training/runs/small.sh "$(WORK)" $(if $(TEMPLATES),"$(TEMPLATES)")

benchmark: $(STAMP) ## seconds and peak memory of the demo, an edit and a forecast
	$(BIN)/python -m benchmarks.speed

clean: ## remove caches and outputs; the environment and the checkpoints stay
	rm -rf demo_output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -type d -prune -exec rm -rf {} +
