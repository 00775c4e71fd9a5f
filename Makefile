# A fresh machine needs Python (3.10 or later) and make. Everything is installed into .venv, caches included.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := $(VENV)/bench
export UV_CACHE_DIR ?= $(CURDIR)/$(VENV)/.cache
export PIP_NO_CACHE_DIR := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export UV_LINK_MODE := copy
UV = $$(command -v uv || echo $(BIN)/uv)

# Scenarios 1, 2 and 5 of docs/reliability.md, and what is stopped without anybody's wish to end a call.
DISTRIBUTED := $(addprefix tests/system/test_,kills.py workers.py components.py stops.py storm.py)

# What the LocalExecutor leaves of a scheduler that is killed alone goes on beside the next scheduler, and Airflow at times loses
# such a task: played with Celery, whose workers are meant to.
CELERY_ONLY := --deselect tests/system/test_components.py::test_a_scheduler_killed_alone

.PHONY: help demo test test-system test-distributed test-matrix test-without-store lint format types build bench clean

help:
	@echo "make demo                phone people in the simulator with a real Airflow, and show what they answered"
	@echo "make demo KEEP=1         the same, and leave Airflow's UI up until Ctrl-C"
	@echo "make test                all tests, with coverage"
	@echo "make test-system         real Airflow processes that die at the worst moment; needs PostgreSQL and Redis, and installs them"
	@echo "make test-without-store  the same where Airflow keeps no record: 3.1 and 3.2 (AIRFLOW=3.1.8: on one)"
	@echo "make test-distributed    the same with Celery, two workers, two triggerers and two schedulers"
	@echo "make test-matrix         what can depend on it, on each Airflow that is supported (AIRFLOW=3.1.8: on one)"
	@echo "make bench               what waiting costs, beside other people's triggers (BENCHMARKS=poll_cost: only that)"
	@echo "make lint types          what CI checks besides"
	@echo "make build               sdist and wheel into dist/"

# --- environments -----------------------------------------------------------------------------------------------------

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Said in so many words, lest the resolver settles for an earlier Airflow, whose requirements have no upper bounds.
LATEST := 'apache-airflow>=3.3'

$(VENV)/.tests-installed: pyproject.toml | $(BIN)/python
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@echo "Installing Airflow and what the tests need into $(VENV) …"
	@$(UV) pip install --quiet --python $(BIN)/python --editable '.[simulator]' --group test $(LATEST)
	@touch $@

$(VENV)/.system-installed: pyproject.toml | $(BIN)/python
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@$(UV) pip install --quiet --python $(BIN)/python --editable '.[simulator]' --group system $(LATEST)
	@touch $@

$(VENV)/.tools-installed: pyproject.toml | $(BIN)/python
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@$(UV) pip install --quiet --python $(BIN)/python --editable '.[simulator]' --group dev $(LATEST)
	@touch $@

# The other providers pull in much that nothing else here should depend on.
$(BENCH)/.installed: pyproject.toml | $(BIN)/python
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@test -x $(BENCH)/bin/python || $(BIN)/python -m venv $(BENCH)
	@echo "Installing Airflow and what is measured into $(BENCH) …"
	@$(UV) pip install --quiet --compile-bytecode --python $(BENCH)/bin/python --editable '.[simulator]' --group bench $(LATEST)
	@touch $@

# --- what one does ----------------------------------------------------------------------------------------------------

demo: $(VENV)/.tests-installed
	@$(BIN)/python scripts/demo.py $(if $(KEEP),--keep)

# More workers than cores, for these tests mostly wait.
test: $(VENV)/.tests-installed
	@$(BIN)/python -m pytest -n 4 --dist worksteal --cov --cov-report=term --cov-fail-under=97 $(PYTEST_ARGS)

test-system: $(VENV)/.system-installed
	@sh scripts/install_services.sh
	@$(BIN)/python -m pytest tests/system --ignore tests/system/test_without_store.py $(CELERY_ONLY) $(PYTEST_ARGS)

test-distributed: $(VENV)/.system-installed
	@sh scripts/install_services.sh
	@REVOX_SYSTEM=distributed $(BIN)/python -m pytest $(DISTRIBUTED) $(PYTEST_ARGS)

test-matrix: | $(BIN)/python
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@$(BIN)/python scripts/matrix.py --uv $(UV) $(AIRFLOW) -- -n $(or $(WORKERS),4) --dist worksteal $(PYTEST_ARGS)

test-without-store: | $(BIN)/python
	@sh scripts/install_services.sh
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@$(BIN)/python scripts/matrix.py --system --uv $(UV) $(AIRFLOW) -- --no-cov $(PYTEST_ARGS)

lint: $(VENV)/.tools-installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell

format: $(VENV)/.tools-installed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(VENV)/.tools-installed
	@$(BIN)/mypy

build: $(VENV)/.tools-installed
	@$(BIN)/python -m build --installer uv

bench: $(BENCH)/.installed
	@$(BENCH)/bin/python -m benchmarks $(BENCHMARKS)

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
