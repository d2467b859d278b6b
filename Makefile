# Two commands are all that a newcomer needs: `make run` and `make test`.
# Each sets up what it uses: a virtual environment in .venv with exactly what the lock file names.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Found before the sources by every Python started with it, wherever it is started.
COMPILED := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/build/compiled
HEADER := import os, sysconfig; print(os.path.join(sysconfig.get_path("include"), "Python.h"))
CAN_COMPILE = command -v cc >/dev/null && test -e "$$($(BIN)/python -c '$(HEADER)')"

.PHONY: run test test-laws test-compiled check soak compiled bench lock clean help

help: ## what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Tidegate needs Python 3.11 or later. Type: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(VENV)/ready ## a Redis, a sample plan, a gateway, one check, and serving on 127.0.0.1:8080
	@$(BIN)/tidegate up

# Three at once: tests wait for processes half of their time, and most machines have two cores.
test: $(VENV)/ready ## every law and example, in some ten minutes
	@echo "Three suites run at once; what two of them say comes at the end."; \
	$(MAKE) --no-print-directory test-laws >$(VENV)/laws.log 2>&1 & laws=$$!; \
	$(BIN)/python -m pytest -p no:cacheprovider tests/test_[s-z]*.py >$(VENV)/rest.log 2>&1 & rest=$$!; \
	trap "kill $$laws $$rest 2>/dev/null" INT TERM; \
	$(BIN)/python -m pytest tests/test_[a-r]*.py; first=$$?; \
	wait $$rest; rest=$$?; cat $(VENV)/rest.log; \
	wait $$laws; laws=$$?; cat $(VENV)/laws.log; exit $$((first | rest | laws))

test-laws: $(VENV)/ready ## the laws alone, on the plain form and on the compiled one
	$(BIN)/python -m pytest -p no:cacheprovider tests/laws
	@if $(CAN_COMPILE); then $(MAKE) --no-print-directory test-compiled; \
	  else echo "There is no C compiler, or no Python.h: the compiled hot path is not tested."; fi

test-compiled: build/compiled/ready ## the laws that the compiled hot path must hold, too
	$(COMPILED) $(BIN)/python -c "import gateway.quick; assert gateway.quick.__file__[-3:] == '.so'"
	$(COMPILED) $(BIN)/python -m pytest --override-ini=pythonpath=tests -p no:cacheprovider \
	  tests/laws/test_equivalence.py tests/laws/test_lists.py tests/laws/test_no_accident.py \
	  tests/laws/test_order.py tests/laws/test_redis_loss.py tests/laws/test_rollouts.py \
	  tests/laws/test_switches.py tests/laws/test_tokens.py tests/laws/test_windows.py \
	  tests/test_answers.py tests/test_apps.py tests/test_claims.py tests/test_gateway_process.py \
	  tests/test_hashing.py tests/test_identified_requests.py \
	  tests/test_lookup.py tests/test_seats.py \
	  tests/test_membership.py tests/test_overload.py tests/test_quick.py \
	  tests/test_remembered.py tests/test_report.py tests/test_request.py tests/test_server.py \
	  tests/test_sketch.py tests/test_sums.py tests/test_switch_outage.py

check: $(VENV)/ready ## formatting, lint, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py tests/test_tidy.py

soak: $(VENV)/ready ## the same laws with larger numbers, and what they saw
	TIDEGATE_SOAK=1 $(BIN)/python -m pytest -s tests/laws

build/compiled/ready: $(VENV)/ready setup.py $(wildcard gateway/*.py gateway/*.pxd compiler/*.py loadtest/*.py)
	rm -rf build
	TIDEGATE_COMPILE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation --target build/compiled .
	@touch $@

compiled: build/compiled/ready ## the gateway with its hot path compiled, in build/compiled (needs a C compiler)

bench: $(VENV)/ready ## what a check costs, beside nginx returning a constant (ARGS=--help tells more)
	@{ command -v wrk && PATH="$$PATH:/usr/sbin" command -v nginx; } >/dev/null || \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get --quiet update && apt-get --quiet --yes install wrk nginx-light; \
	  else echo "For every row type: sudo apt-get install wrk nginx-light"; fi
	@if $(CAN_COMPILE); then $(MAKE) --no-print-directory compiled; fi
	@if test -e build/compiled/ready; then export $(COMPILED); fi; $(BIN)/python -m loadtest.bench $(ARGS)

lock: $(VENV)/ready ## write requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --all-extras pyproject.toml --output-file requirements.lock

clean: ## forget the environment and everything that runs left behind
	rm -rf $(VENV) .tidegate build dist *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
