PYTHON := .venv/bin/python
# Two at once, the files in the order that tests/conftest.py gives them.
PYTEST := $(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-servers lint bench clean

help:
	@echo "make demo      run a real workload through a service of its own"
	@echo "make test      lint, type check, tests"
	@echo "make test-all  the same, with the tests that take long"
	@echo "make lint      lint and type check"
	@echo "make bench     measure raytes beside bare Podman"
	@echo "make clean     remove what these commands made, but for .venv"

setup:
	@scripts/setup

demo: setup
	@$(PYTHON) -m demo

test-servers:
	@scripts/install-test-servers

test: lint test-servers
	$(PYTEST) -m "not slow"

test-all: lint test-servers
	$(PYTEST)

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy -p raytes -p demo

bench: setup
	$(PYTHON) -m benchmarks

clean:
	rm -rf .make .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist demo-results
