# The front door. `make` alone lists what it can do.
#
# PYTHON   the interpreter that .venv is made from      (make book PYTHON=python3.12)
# JOBS     notebooks or tests executed at the same time (make book JOBS=4)
# PORT     where `make serve` listens                   (make serve PORT=9000)
PYTHON ?= python3
JOBS ?= 2
PORT ?= 8000

VENV := .venv
BIN := $(VENV)/bin
# Where nobody names a PYTHON, a .venv that is there stays with the version that it has.
version = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
HAS := $(call version,$(BIN)/python)
WANTS := $(or $(if $(filter file,$(origin PYTHON)),$(HAS)),$(call version,$(PYTHON)))
# The stamp carries a checksum of what is installed, so that it is found again after a checkout
# has touched the files, and not found once their content has changed.
SUM := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
STAMP := $(VENV)/.installed-$(WANTS)-$(SUM)
UV := $(shell command -v uv 2>/dev/null)

ifdef UV
MAKE_VENV = $(UV) venv --clear --python "$$(command -v $(PYTHON))" $(VENV)
INSTALL = $(UV) pip install --python $(BIN)/python
else
MAKE_VENV = $(PYTHON) -m venv --clear $(VENV)
INSTALL = $(BIN)/python -m pip install
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book full test test-all types tests size lab claims serve clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: $(STAMP)  ## execute the notebooks at the quick budget and build the HTML
	@$(BIN)/python book/build.py --budget quick --jobs $(JOBS)

full: $(STAMP)  ## the same at the full budget, which takes longer
	@$(BIN)/python book/build.py --budget full --jobs $(JOBS)

# Without a built book the tests of its pages have nothing to look at.
test: TESTS := not slow and not book and (smoke or not browser)
test-all: TESTS := $(if $(wildcard _build/html/index.html),,not book)

test: $(STAMP)  ## ruff, import-linter, pyright and the tests that need no minutes
test-all: $(STAMP)  ## the same with every test (the built book too, where there is one)

test test-all:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory --jobs 2 types tests TESTS="$(TESTS)"

types: $(STAMP)
	$(BIN)/pyright

# A file stays with one worker: what a module has trained is trained once.
tests: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "$(TESTS)"

size: $(STAMP)  ## count lines, public names and files, beside those of the first edition
	@$(BIN)/python -m tests.size

lab: $(STAMP)  ## open JupyterLab on the notebooks
	@$(BIN)/jupyter lab notebooks

claims: $(STAMP)  ## print the ledger of claims, and bring the README's up to date
	@$(BIN)/trix claims
	@$(BIN)/trix claims --update README.md

serve: $(STAMP)  ## serve the built book on localhost
	@test -f _build/html/index.html || { echo "There is no book yet: make book" >&2; exit 1; }
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2>/dev/null || { echo "Port $(PORT) is in use, or is none: name another, as make serve PORT=9000" >&2; exit 1; }
	@echo "http://localhost:$(PORT)/  (Ctrl-C ends it)"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

clean:  ## remove everything that was built; .venv stays
	rm -rf _build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find book notebooks tests trix -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps are removed before anything is installed: an environment without one was interrupted
# half-way, and is made again from nothing.
$(STAMP):
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or newer, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, $(PYTHON) is " + v + ": make $(MAKECMDGOALS) PYTHON=/path/to/python")'
	@test -z "$(HAS)" || test "$(HAS)" = "$(WANTS)" || echo ".venv has Python $(HAS) and $(PYTHON) is Python $(WANTS): .venv is made anew"
	@test "$(HAS)" = "$(WANTS)" && ls $(VENV)/.installed-* >/dev/null 2>&1 || $(MAKE_VENV)
	@rm -f $(VENV)/.installed-*
	$(INSTALL) -c constraints.txt -e ".[dev]"
	@touch $@
