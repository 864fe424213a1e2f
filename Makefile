# Tidegate: everything a person types in a clone. `make help` lists it.
# Needs Python >= 3.11 and make; what else is missing is installed into .venv, or with apt-get as root or by sudo.

PYTHON ?= python3
# Three workers on two cores. One begins with the group `real_time`: real processes that mostly wait for each other, so
# no two of those run beside one another; the other two have a core each, nearly.
JOBS ?= 3

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Debian keeps mosquitto in /usr/sbin, which is not on a plain user's PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH):/usr/sbin
# A stray package of the calling shell must not decide what is tested.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
# Hundreds of processes start in a run of the tests: none of them is to compile the same sources anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint format soak fuzz bench oracle constraints clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.has-demo ## nodes on LoRa and on lines, meters, a thermometer, the gateway, a live table (DEMO_SECONDS=30 ends with an audit)
	@$(BIN)/tidegate demo $(DEMO_ARGS)

test: lint machine ## lint, types, import contracts, then every test (what CI runs)
	$(BIN)/python -m pytest hil_tests tests --rig unix,sim -n $(JOBS) --dist loadgroup --durations 15

lint: $(VENV)/.has-dev ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.has-dev ## let ruff fix and format the tree
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: $(VENV)/.has-dev machine ## every power cut and kill, not a sample (at most an hour on two cores)
	$(BIN)/python -m pytest hil_tests tests --rig unix,sim -m soak -n $(JOBS) --dist loadgroup --durations 40 -o tmp_path_retention_policy=failed

fuzz: $(VENV)/.has-dev ## a million random and mutated inputs through every decoder
	$(BIN)/python -m tests.wire.fuzz $(FUZZ_ARGS)

bench: $(VENV)/.has-dev machine ## payload size, node encoder, lift detectors, idle gateway, cost of foreign LoRa traffic, ingest rate beside its floor, three days of backlog to a broker, to regulators and to a hotline, the whole city, a thousand Modbus points a second, years of a cover on a cell, bytes of a flash, what verifying an update costs and what deltas weigh (RECORDS="a.csv.gz b.csv")
	$(if $(RECORDS),$(BIN)/python bench/payload.py $(RECORDS),@echo "payload size: skipped, name real records with RECORDS=")
	$(if $(word 2,$(RECORDS)),$(BIN)/python bench/events.py $(RECORDS),@echo "events: skipped, name two labelled records or more with RECORDS=, the first to tune on")
	$(BIN)/python bench/node_encoder.py
	$(BIN)/python bench/lift_detectors.py
	$(BIN)/python bench/gateway_idle.py
	$(BIN)/python bench/foreign.py
	$(BIN)/python bench/ingest.py
	$(BIN)/python bench/gateway.py
	$(BIN)/python bench/backlog.py
	$(BIN)/python bench/rows.py
	$(BIN)/python bench/orders.py
	$(BIN)/python bench/city.py 1
	$(BIN)/python bench/modbus.py
	$(BIN)/python bench/cover_energy.py
	$(BIN)/python bench/flash.py
	$(BIN)/python bench/verify.py
	$(BIN)/python bench/deltas.py

oracle: ## ask ioos-qc and pandas again for the recorded flags and aggregates (in a venv of its own: it wants numpy and pandas)
	$(PYTHON) -m venv $(VENV)/oracle
	$(VENV)/oracle/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[oracle]'
	$(VENV)/oracle/bin/python -m tests.wire.make_quality_oracle
	$(VENV)/oracle/bin/python -m tests.northbound.make_aggregate_oracle

constraints: $(VENV)/.has-dev oracle ## renew constraints.txt with what .venv holds (do it in a fresh clone)
	$(PIP_INSTALL) -e '.[dev,ble]'
	{ grep '^#' constraints.txt; for python in $(BIN) $(VENV)/oracle/bin; do $$python/python -m pip freeze --exclude-editable; done | sort -fu; } > constraints.new
	mv constraints.new constraints.txt

clean: ## remove .venv and everything made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis tests/wasm/node_modules

.PHONY: machine
machine:
	@tools/setup_test_machine.sh

# pip and not python: it comes last, so an interrupted attempt is made again.
$(BIN)/pip:
	tools/make_venv.sh $(PYTHON)

# One stamp per set of packages, newer than what it was made from, so that a second call starts at once.
$(VENV)/.has-demo: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP_INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/.has-dev: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP_INSTALL) -e '.[dev]'
	@$(BIN)/python tools/collect_stubs.py
	@touch $(VENV)/.has-demo $@
