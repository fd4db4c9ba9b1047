# Every target does the set-up it needs: a virtual environment with exact versions, made once and again when they change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_PEERS := $(VENV)/.ready-peers

.PHONY: demo test lint bench durability docs clean help

help:  ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# The demo's network is small: one thread is nearly as fast as two, and does not mind a busy machine.
demo: $(READY)  ## Compare averaging methods on digits with 40 % wrong labels, and write a report
	@OMP_NUM_THREADS=1 $(BIN)/sema compare classification --data digits --label-noise 0.4 --epochs 15 --seeds 3 --control --out runs/demo \
	  --methods 'baseline,ema:decay=0.9,ema:decay=0.98,sema:decay=0.98,sema:decay=0.999,swa,lookahead'

# One thread for each worker; files in their order, so that the last ones are the many short ones of the docstrings.
test: $(READY)  ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(READY)  ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A part of it: make bench BENCH='--only update --rounds 10', or --help.
bench: $(READY_PEERS)  ## Measure our averages beside those of other libraries, into benchmarks/results/
	$(BIN)/python -m benchmarks.run $(BENCH)

# A part of it: make durability DURABILITY='damage --scale 0.1', or --help.
durability: $(READY)  ## Kill, fill disks, flip bits, fuzz, for about half an hour: is anything lost?
	@$(BIN)/python -m tests.durability.run $(DURABILITY)

docs: $(READY)  ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:  ## Remove what was built, but not results below runs/
	rm -rf $(VENV) site build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	touch $(READY)

$(READY_PEERS): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench-peers]'
	touch $(READY_PEERS)
