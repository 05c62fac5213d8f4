# Two commands need only Python 3.11+ with venv, and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
VENV := $(BIN)/pip
DEMO := .venv/.demo
READY := .venv/.ready

.PHONY: demo test test-slow coverage mutation check docs format generate bench bench-full bench-distributed bench-export soak soak-sync matrix browser test-browser test-dataframes test-dlt test-remote spark test-spark test-distributed test-notebook notebook typescript test-typescript screenshot clean

# What the command line needs, without the developers' tools: half a minute from a fresh checkout.
demo: $(DEMO)
	$(BIN)/itwin-async demo

# Two processes: most tests wait for a socket, and some keep a core busy.
test: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not slow"

# The rest: what takes seconds, and what is tried at each of many steps.
test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 -m slow

# Lines and branches that `make test` and the tests of the command line run, those of processes that
# they start too. Fails below the share that pyproject.toml names.
coverage: $(READY)
	rm -rf .coverage
	mkdir .coverage
	$(BIN)/python -m coverage run -m pytest -n 2 -m "not slow and not unmeasured"
	$(BIN)/python -m coverage run -m pytest -n 2 -m "slow and not unmeasured" tests/cli
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# Small changes of the modules whose arithmetic decides, and whether a test fails. ONLY="limiter urls"
# takes some of them.
mutation: $(READY)
	$(BIN)/python scripts/mutation.py $(ONLY)

# Types are those of every extra that the package imports.
check: $(READY)
	$(INSTALL) --editable '.[dask]'
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate.py --check
	$(BIN)/mypy
	$(BIN)/mypy tests/typing/api.py
	$(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --ignoreexternal --verifytypes itwin_async

# What the browser's tests need. CHROMIUM names an executable that is not found as `chromium`.
browser: $(READY)
	@command -v "$${CHROMIUM:-chromium}" >/dev/null \
	  || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -yqq --no-install-recommends chromium; } \
	  || { echo "Chromium is needed: install it or name it in CHROMIUM (as root on Debian this is done for you)"; exit 1; }
	$(INSTALL) --group browser

test-browser: browser
	$(BIN)/python -m pytest tests/browser

screenshot: browser
	SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/browser -k 'fits and light and 1280'

# On clusters of real processes, two files at a time, for one of them mostly waits for minutes to be
# over. What it prints of throughput and rates is of interest too.
test-distributed: $(READY)
	$(INSTALL) --editable '.[dask,notebook]'
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/distributed

# What polars, duckdb, pandas and geopandas make of tables and data sets.
test-dataframes: $(READY)
	$(INSTALL) --group dataframes
	$(BIN)/python -m pytest tests/dataframes tests/test_readme.py

# The source for dlt, in processes of its own.
test-dlt: $(READY)
	$(INSTALL) --group dlt
	$(BIN)/python -m pytest tests/dlt

# Data sets on an S3 server, in a process of its own on this machine.
test-remote: $(READY)
	$(INSTALL) --group remote-tests --editable '.[remote]'
	$(BIN)/python -m pytest tests/remote

# Bentley's own TypeScript clients do everything that they have against the emulator.
typescript: $(READY)
	@command -v node >/dev/null && command -v npm >/dev/null \
	  || { echo "Node.js with npm is needed, 20 or newer"; exit 1; }
	mkdir -p .typescript
	cp tests/typescript/package.json .typescript/
	npm install --prefix .typescript --fetch-timeout=60000 --fetch-retries=1 --no-package-lock --no-audit --no-fund --loglevel=error

test-typescript: typescript
	$(BIN)/python -m pytest tests/typescript

# What Spark makes of data sets. It needs Java.
spark: $(READY)
	@command -v java >/dev/null \
	  || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -yqq --no-install-recommends default-jre-headless; } \
	  || { echo "Java is needed: install it (as root on Debian this is done for you)"; exit 1; }
	$(INSTALL) --group spark

test-spark: spark
	$(BIN)/python -m pytest tests/spark

# In a kernel of its own; `make notebook` runs it and keeps what it shows, its picture for the docs too.
test-notebook: $(READY)
	$(INSTALL) --editable '.[notebook]'
	$(BIN)/python -m pytest tests/notebook

notebook: $(READY)
	$(INSTALL) --editable '.[notebook]'
	$(BIN)/python scripts/notebook.py

# Pages with warnings as errors, every link inside, every snippet. Opens as docs/_build/html/index.html.
docs: $(READY)
	$(INSTALL) --group docs --group dataframes --editable '.[dask,notebook]'
	rm -rf docs/_build
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --fresh-env --quiet docs docs/_build/html
	$(BIN)/python scripts/check_pages.py docs/_build/html
	$(BIN)/python -m pytest tests/docs

# What is made from the declared operations, and the dump of the public API.
generate: $(READY)
	$(BIN)/python scripts/generate.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(INSTALL) --group bench
	$(BIN)/python benchmarks/run.py

bench-full: $(READY)
	$(INSTALL) --group bench
	$(BIN)/python benchmarks/run.py --full --write

bench-distributed: $(READY)
	$(INSTALL) --editable '.[dask]'
	$(BIN)/python benchmarks/cluster.py

soak: $(READY)
	$(BIN)/python benchmarks/soak.py --write

# An hour of emulated life: pushes, late data, deletions, faults, and syncs that are killed.
soak-sync: $(READY)
	$(BIN)/python benchmarks/soak_sync.py

# A million entries to a file of each format: rows a second, and memory at each tenth.
bench-export: $(READY)
	$(BIN)/python benchmarks/export.py

# ONLY="uvloop lowest" runs some of the rows; ALL=1 the whole suite, the emulator's own tests too.
matrix: $(READY)
	$(BIN)/python scripts/matrix.py $(if $(ALL),--all) $(ONLY)

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

$(DEMO): pyproject.toml constraints.txt | $(VENV)
	$(INSTALL) --editable '.[cli]'
	@touch $@

$(READY): pyproject.toml constraints.txt | $(VENV)
	$(INSTALL) --upgrade 'pip>=25.1'
	$(INSTALL) --group dev --editable '.[arrow,cli,otel]'
	@touch $(DEMO) $@

clean:
	rm -rf .venv .coverage .matrix .typescript .mypy_cache .pytest_cache .ruff_cache .hypothesis docs/_build
