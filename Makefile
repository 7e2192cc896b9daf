# Everything works from a fresh checkout with Python 3.11 or 3.12 and make.
#
#   make demo [SUMMARY=FILE]   the main job once, on simulated sky; exits 0 only if the truth was found
#   make test                  lint and all tests
#   make lint docs bench clean
#
# PYTHON=... chooses the interpreter for the environment.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: demo test lint docs bench clean

BIN := .venv/bin
RUN := $(BIN)/python
INSTALLED := .venv/.installed
# bjdata's compiled part prints a NumPy traceback into every process; without it there is none.
export PYBJDATA_NO_EXTENSION := 1
# Compile while installing: a dozen agents that start at once would each compile what they import.
export UV_COMPILE_BYTECODE := 1

demo: $(INSTALLED)
	$(BIN)/socs-bl demo $(if $(SUMMARY),--summary "$(SUMMARY)")

# Two workers: what waits for processes and what computes share the time (the groups are in tests/conftest.py).
test: lint
	$(RUN) -m pytest tests -n 2 --dist loadscope --no-loadscope-reorder

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(RUN) -m mypy socs_bl agents $(wildcard benchmarks/*.py)
	$(BIN)/lint-imports --no-logo

docs: $(INSTALLED)
	$(RUN) -m sphinx -W --keep-going -b html docs docs/_build/html

# Each benchmark runs alone; their rows become one list.
bench: $(INSTALLED)
	@rm -rf build/bench && mkdir -p build/bench
	@for file in benchmarks/*.py; do \
	  [ -e "$$file" ] || { echo "no benchmarks/*.py"; exit 1; }; \
	  name=$$(basename "$$file" .py); echo "== $$name"; \
	  $(RUN) "$$file" --json "build/bench/$$name.json" || exit 1; \
	done
	@$(RUN) -c 'import json, pathlib; rows = [row for file in sorted(pathlib.Path("build/bench").glob("*.json")) for row in json.loads(file.read_text())]; pathlib.Path("benchmarks/results.json").write_text(json.dumps(rows, indent=1) + "\n"); print(len(rows), "figures in benchmarks/results.json")'

clean:
	rm -rf .venv build dist docs/_build benchmarks/results.json
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .grimp_cache .hypothesis
	find socs_bl agents tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# What builds a package is pinned as well, ours and those that come as source.
$(INSTALLED): export UV_BUILD_CONSTRAINT := constraints.txt
$(INSTALLED): export PIP_BUILD_CONSTRAINT := constraints.txt

# A candidate counts only if it really runs: version managers leave commands behind that do not.
$(INSTALLED): pyproject.toml constraints.txt
	@python=; for candidate in $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	[ -n "$$python" ] || { echo "make: Python 3.11 or 3.12 is needed; install one, or say which: make PYTHON=/path/to/python3.12" >&2; exit 1; }; \
	[ -x $(RUN) ] && $(RUN) -c '' 2>/dev/null || { \
	  echo "== environment .venv with $$python"; \
	  "$$python" -m venv --clear .venv || { echo "make: $$python cannot make environments; install its venv module (Debian: python3-venv)" >&2; exit 1; }; }
	@echo "== dependencies as constraints.txt pins them; some minutes the first time"
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(RUN) -m ensurepip
	@$(RUN) -m pip install --quiet --constraint constraints.txt uv || echo "uv is not to be had; pip does it, slower"
	@$(BIN)/uv pip install --python $(RUN) --constraint constraints.txt --editable '.[test]' \
	  || { echo "== uv cannot install here; with pip"; $(RUN) -m pip install --constraint constraints.txt --editable '.[test]'; } \
	  || { echo "make: the dependencies could not be installed; the lines above say which and why" >&2; exit 1; }
	@touch $(INSTALLED)
