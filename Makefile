# One set of commands for people, hooks and CI. `lint` never writes; `format` does.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
# Where each comes from is said in CONTRIBUTING.md.
SYSTEM_PACKAGES := dataset-fashion-mnist munge slurm-wlm

RUST_SOURCES := Cargo.toml Cargo.lock search_rs/Cargo.toml \
	$(shell find search_rs/src -name '*.rs' 2>/dev/null)
OLDEST_RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Where rustup puts cargo, for shells that have not been told.
export PATH := $(PATH):$(HOME)/.cargo/bin
export VIRTUAL_ENV := $(abspath $(VENV))
export PYO3_PYTHON := $(abspath $(BIN))/python

.PHONY: help install build build-release format lint lint-python lint-rust lint-shell typecheck \
	floors test-rust test-python test-journeys test soak demo bench docs-check ci clean system-packages

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(STAMPS)/dev $(STAMPS)/extension ## Make the virtual environment with everything for development

# The checks come first, so that a missing tool is one sentence and not a traceback of pip.
$(STAMPS)/venv:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "$(PYTHON) is not on PATH; install Python 3.10 or newer, or run make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is $$($(PYTHON) -V), the oldest that works is 3.10; run make PYTHON=python3.x" >&2; exit 1; }
	@command -v cargo >/dev/null || \
		{ echo "cargo is not on PATH; install a Rust toolchain (for example with rustup)" >&2; exit 1; }
	@printf '%s\n' "$(OLDEST_RUST)" "$$(rustc --version | cut -d' ' -f2)" | sort -V -C || \
		{ echo "$$(rustc --version) is too old, the oldest that works is $(OLDEST_RUST); run rustup update" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
		{ echo "the virtual environment cannot be made; Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PIP) install --quiet --upgrade pip
	@mkdir -p $(STAMPS) && touch $@

# What it takes to run; `make demo` needs no more.
$(STAMPS)/runtime: $(STAMPS)/venv pyproject.toml
	$(PIP) install --quiet --editable .
	@touch $@ $(STAMPS)/extension

$(STAMPS)/dev: $(STAMPS)/runtime
	$(PIP) install --quiet --editable '.[dev]'
	@touch $@ $(STAMPS)/extension

$(STAMPS)/extension: $(STAMPS)/runtime $(RUST_SOURCES)
	$(BIN)/maturin develop --release --skip-install --quiet
	@touch $@

build: $(STAMPS)/runtime ## Build the Rust extension in place, without optimisation
	$(BIN)/maturin develop --skip-install
	@rm -f $(STAMPS)/extension

build-release: $(STAMPS)/runtime ## Build an optimised wheel into dist/
	$(BIN)/maturin build --release --out dist

format: install ## Rewrite Python and Rust sources in house style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	cargo fmt --all

lint: lint-python typecheck floors lint-rust lint-shell ## Run every check that needs no test

lint-python: install ## Check Python style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: install ## Check Python types and the stub of the extension
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest harness._search_rs

floors: install ## Check that each floor imports only from those below it
	$(BIN)/lint-imports

lint-rust: install ## Check Rust style, with and without the Python layer
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --all-targets --features python -- -D warnings

lint-shell: install ## Check the shell scripts
	$(BIN)/shellcheck slurm/*.sh .ci/run

test-rust: ## Run the Rust tests; needs no Python
	cargo test --workspace

test-python: install ## Run the Python tests
	$(BIN)/python -m pytest

test-journeys: install ## Run the tests that use the program as a user does
	$(BIN)/python -m pytest tests/journeys

test: install ## Run the whole test suite
	$(MAKE) --no-print-directory test-rust
	$(MAKE) --no-print-directory test-python

# What `make test` tries a part of: power cuts, flipped bits, kills and made-up files.
soak: install ## Try to break the journal and the readers, for half an hour
	HARNESS_SOAK=1 $(BIN)/python -m pytest tests/unit/search/test_journal_power_loss.py \
		tests/unit/search/test_journal_flips.py tests/unit/search/test_journal_kill.py \
		tests/unit/search/test_reader_fuzz.py --timeout 7200 --durations 0

demo: $(STAMPS)/runtime $(STAMPS)/extension ## Train, search and evaluate on the embedded digits
	$(BIN)/harness demo

bench: install ## Measure the Rust engine
	cargo bench --workspace

docs-check: install ## Check links and commands in the documentation
	$(BIN)/python -m pytest tests/repo/test_docs.py

ci: ## Run what CI runs
	.ci/run

system-packages: ## Install what only apt can bring, where there is apt and the user is root
	@if [ "$$(dpkg-query -W -f='$${db:Status-Status}\n' $(SYSTEM_PACKAGES) 2>/dev/null | grep -cx installed)" \
			= "$(words $(SYSTEM_PACKAGES))" ]; then \
		echo "installed already: $(SYSTEM_PACKAGES)"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install --yes --no-install-recommends $(SYSTEM_PACKAGES); \
	else \
		echo "not installed, tests that need it are skipped: $(SYSTEM_PACKAGES) (Debian packages; run as root)"; \
	fi

clean: ## Remove the environment and all that is built; runs/ stays
	rm -rf $(VENV) target dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f harness/_search_rs*.so
	find harness tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
