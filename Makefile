# Each target makes .venv and installs requirements.lock first, if that has not been done.
SHELL := bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test check bench soak lock clean

demo: $(STAMP)
	$(BIN)/smartstream demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile tests

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_tidy.py tests/test_layers.py

bench: $(STAMP)
	$(BIN)/python -m benchmarks

soak: $(STAMP)
	$(BIN)/python -m pytest -m soak tests

lock: $(STAMP)
	$(BIN)/pip install --quiet --upgrade --upgrade-strategy eager -e '.[demo,aws,dev]'
	$(BIN)/pip freeze --exclude-editable | grep -v '^smartstream' > requirements.lock

clean:
	rm -rf .venv

# The package is put on the path by a .pth file: no build, no build dependencies.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "SmartStream needs Python 3.11 or later: install it, or set PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the pinned dependencies into .venv (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python tools/link_package.py
	@touch $@
