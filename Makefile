# `make` alone lists the targets. Needed: make and Python 3.11 or newer; the rest goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that run tests; each starts servers of its own.
WORKERS ?= 2
CODE := $(wildcard optimizer tasks flows tests bench deployments examples)

# The stamp's name holds what was installed, so a changed lock installs anew and a fresh checkout
# with old time stamps does not.
KEY := $(shell cat requirements.lock pyproject.toml | cksum | tr ' ' '-')
STAMP := $(VENV)/.installed-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help demo test check fix bench serve test-slow coverage lock ci clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## run the whole loop on a simulated world, in one command
	@start=$$(date +%s); $(BIN)/llmopt demo && echo "demo: $$(( $$(date +%s) - start )) s"

test: $(STAMP) ## run the quick tests
	$(BIN)/pytest -n $(WORKERS) --dist loadfile

check: $(STAMP) ## lint, types, import rules, lock: only reads
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/house/test_lock.py

fix: $(STAMP) ## format, and mend what the linter can
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(STAMP) ## measure the engine and the statistics
	$(BIN)/python -m bench

serve: $(STAMP) ## run the optimizer with its schedules and its page
	$(BIN)/llmopt serve

test-slow: $(STAMP) ## run the slow tests: simulations, real-flow runs
	$(BIN)/pytest -m slow -n $(WORKERS) --dist worksteal

coverage: $(STAMP) ## run the quick tests and list the lines and branches they miss
	$(BIN)/coverage run -m pytest -q
	$(BIN)/coverage report

lock: $(STAMP) ## renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-header --quiet \
		--upgrade --output-file requirements.lock

ci: check test test-slow ## everything that has to pass

clean: ## remove the environment and every cache
	rm -rf $(VENV) build dist *.egg-info .coverage htmlcov
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# The lock is complete, so nothing is resolved: older pips trip over an extra of a pinned package.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "error: Python 3.11 or newer is needed; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
		echo "       Name another one with: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: '$(PYTHON)' cannot make environments: install its venv package (python3-venv)." >&2; \
		exit 1; }
	@echo "setup: installing the locked packages into $(VENV) (about a minute, once)"
	@start=$$(date +%s); \
	{ $(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV); } && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
		--no-deps --require-hashes -r requirements.lock && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation -e . && \
	rm -f $(VENV)/.installed-* && touch $@ && \
	echo "setup: $$(( $$(date +%s) - start )) s"
