# Two commands are all that a newcomer needs: `make run` and `make test`.
# Each sets up what it uses: a virtual environment in .venv with exactly what the lock file names.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check soak bench lock clean help

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

test: $(VENV)/ready ## every law and example, in a few minutes
	$(BIN)/python -m pytest

check: $(VENV)/ready ## formatting, lint, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py tests/test_tidy.py

soak: $(VENV)/ready ## the same laws with larger numbers, and what they saw
	TIDEGATE_SOAK=1 $(BIN)/python -m pytest -s tests/laws

bench: $(VENV)/ready ## checks a second and CPU time a check, beside nginx returning a constant
	$(BIN)/python -m loadtest.bench

lock: $(VENV)/ready ## write requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --all-extras pyproject.toml --output-file requirements.lock

clean: ## forget the environment and everything that runs left behind
	rm -rf $(VENV) .tidegate build dist *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
