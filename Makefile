# Everything from a fresh clone: `make demo`, `make test`. Set-up happens once, and again when the lock changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PAGE := glasshouse/web/static/index.html
PAGE_SOURCES := $(shell find frontend -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)

# pip reads these: the same pins for what is installed and for what builds the wheel.
export PIP_CONSTRAINT := $(CURDIR)/requirements.lock
export PIP_BUILD_CONSTRAINT := $(CURDIR)/requirements.lock
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test test-all check format bench docs

setup: $(READY) $(PAGE)

# Nothing is compiled ahead: most of what is installed is never imported.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expected Python 3.11 or newer, found " + sys.version.split()[0] + "; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[test]'
	touch $@

$(PAGE): $(PAGE_SOURCES) | $(READY)
	$(BIN)/python hatch_build.py
	touch $@

demo: setup
	$(BIN)/glasshouse demo $(DEMO)

test: setup
	$(BIN)/python -m pytest -q

test-all: setup
	$(BIN)/python -m pytest -q -m "$$($(BIN)/python -c 'import torch; print("" if torch.cuda.is_available() else "not gpu")')"

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py tests/test_docs.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# docs/cli.md is generated; a test holds it against the commands.
docs: setup
	$(BIN)/python docs/generate.py

# One script a claim, each writing benchmarks/results/NAME.json. An hour in all; BENCH=benchmarks/one.py for one. Not among
# them: grow.py wants --data, read_features.py a reader, runner.py the peers, train_dictionary_cuda.py a GPU.
BENCH ?= $(patsubst %,benchmarks/%.py,features harvest page toys train_dictionary)
bench: setup
	@set -e; for script in $(BENCH); do echo "== $$script"; $(BIN)/python $$script; done
