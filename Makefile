# Each target makes .venv and installs requirements.lock first, when that has not been done.
# PYTHON=… chooses the interpreter; without it the first of these that is 3.11 or later.
SHELL := bash
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed
CHECKOV := .venv/checkov/.installed

.PHONY: demo test check bench soak aws-local lambdas lock clean

demo: $(STAMP)
	@$(BIN)/smartstream demo

test: $(STAMP) $(CHECKOV)
	$(BIN)/python -m pytest -n 2 --dist loadfile tests

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_tidy.py tests/test_layers.py

# Five to ten minutes; BENCH=--quick for one, BENCH=memory for one of them.
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(BENCH)

# About an hour: twenty kills under pgbench and under random transactions of all types; random tables
# of all types, value by value; random transactions of several sessions; random DDL; the same changes through
# the local pipeline and through DMS; faults and kills of the transform function; 500 tables, 1,600 columns, values
# of 100 MB; every server event.
soak: export SMARTSTREAM_TEST_KILLS = 20
soak: export SMARTSTREAM_TEST_KILL_SECONDS = 120
soak: export SMARTSTREAM_TEST_PGBENCH_SCALE = 10
soak: export SMARTSTREAM_TEST_TYPES_SECONDS = 300
soak: export SMARTSTREAM_TEST_TXN_SECONDS = 300
soak: export SMARTSTREAM_TEST_DDL_SECONDS = 600
soak: export SMARTSTREAM_TEST_PARITY_SECONDS = 300
soak: export SMARTSTREAM_TEST_DELIVERY_SECONDS = 300
soak: export SMARTSTREAM_TEST_TABLES = 500
soak: export SMARTSTREAM_TEST_COLUMNS = 1600
soak: export SMARTSTREAM_TEST_VALUE_MB = 100
soak: export SMARTSTREAM_TEST_SERVER_EVENTS = 1
soak: $(STAMP)
	$(BIN)/python -m pytest -s tests/faults/test_kill.py tests/faults/test_server_*.py \
		tests/properties/test_types_random.py tests/properties/test_transactions_random.py \
		tests/properties/test_ddl_random.py tests/aws/test_parity.py tests/aws/test_transform_faults.py \
		tests/integration/test_many_tables.py tests/integration/test_wide_tables.py \
		tests/integration/test_large_values.py

# About seven minutes: the stack on emulators, a live PostgreSQL's rows in its trusted tables, and nothing left.
aws-local: $(STAMP)
	$(BIN)/python -m tests.aws.local_stack

# The packages that terraform/ uploads, into build/lambdas; wheels are downloaded once, about 100 MB.
lambdas: $(STAMP)
	$(BIN)/python tools/build_lambdas.py

# The newest versions that pyproject.toml allows become the pins; run the tests afterwards.
lock: $(STAMP)
	$(BIN)/python tools/list_requirements.py > .venv/wanted.txt
	$(BIN)/pip install --quiet --upgrade --upgrade-strategy eager -r .venv/wanted.txt
	$(BIN)/pip freeze > requirements.lock

clean:
	rm -rf .venv build

# The package is put on the path by a .pth file: no build, no build dependencies.
$(STAMP): requirements.lock pyproject.toml tools/link_package.py
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
		"SmartStream needs Python 3.11 or later: install it, or say where it is: make PYTHON=python3.12 …" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the pinned dependencies into .venv (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python tools/link_package.py
	@touch $@

# checkov pins an old boto3, so it has an environment of its own; only the tests use it.
$(CHECKOV): $(STAMP) requirements-checkov.lock
	@echo "Installing checkov into .venv/checkov (once) …"
	@$(BIN)/python -m venv .venv/checkov
	@.venv/checkov/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-checkov.lock
	@touch $@
