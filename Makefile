# Everything runs in .venv, which any target makes when it is missing. Python 3.11 or newer, Debian or alike.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Files in parallel: many tests wait for processes. One hash seed, so that all workers collect the same tests.
PYTEST := PYTHONHASHSEED=0 $(BIN)/pytest -q --dist loadfile --no-loadscope-reorder

.PHONY: install demo test test-kafka faults prove bench lint format types docs build clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
	@began=$$(date +%s); $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]" \
	  && echo "installed into $(VENV) in $$(( $$(date +%s) - began )) s" && touch $@

demo: $(STAMP)
	$(BIN)/python demo/demo.py

test: $(STAMP) lint types
	$(PYTEST) -n 3 -m "not kafka"

test-kafka: $(STAMP) kafka-jars
	$(PYTEST) -n 2 -m kafka

# Seeded kills of every part of the path, and a checker: make faults ROUNDS=500 SEED=7
ROUNDS ?= 40
SEED ?= 1
faults: $(STAMP) kafka-jars
	PYTHONPATH=tests $(BIN)/python -m faults.campaign trainers --rounds $(ROUNDS) --seed $(SEED)
	PYTHONPATH=tests $(BIN)/python -m faults.campaign spool --rounds $(ROUNDS) --seed $(SEED) --keep
	PYTHONPATH=tests $(BIN)/python -m faults.campaign kafka --rounds $(ROUNDS) --seed $(SEED) --keep

# The properties of money on many cases: make prove CASES=10000. A bill, its lines, and reports, whatever happened.
CASES ?= 10000
PROVED = tests/ingest/cost/test_books.py tests/ingest/cost/test_node_hour_properties.py
prove: $(STAMP)
	TRAINLEDGER_PROVE_CASES=$(CASES) $(BIN)/pytest -q --timeout 7200 $(PROVED)

bench: $(STAMP) kafka-jars
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python -m bench

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(STAMP)
	$(BIN)/mypy

# docs/views.md, from the SQL files of the views.
docs: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m support.views_page

build: $(STAMP)
	$(BIN)/pip wheel --quiet --no-deps -w dist .

include deploy/kafka/kafka.mk
