# Everything runs in .venv, which `make setup` builds; no target needs anything else to be installed or activated.
PYTHON3 ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
STAMP := $(VENV)/.installed
# The native module is built where cargo is found, and left out where it is not.
RUST := src/rust
FUZZ := $(RUST)/fuzz
# How long `make fuzz` runs each target.
SECONDS ?= 60
RUST_SOURCES := $(wildcard $(RUST)/Cargo.* $(RUST)/src/*.rs $(RUST)/src/*/*.rs)
CARGO_FOUND := $(shell command -v cargo)

.DEFAULT_GOAL := help
.PHONY: help setup demo test unit integration check rust format chaos fuzz bench clean

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install tokenweir and its tools into .venv (again only after a change of pyproject.toml or of the Rust sources)

$(STAMP): pyproject.toml $(RUST_SOURCES)
	@$(PYTHON3) -c 'import sys; sys.exit("tokenweir needs Python 3.11 or later" if sys.version_info < (3, 11) else 0)'
	@test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV)
	@echo 'Installing into $(VENV)$(if $(CARGO_FOUND), and building the native module): this takes a minute or two.'
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/tokenweir version
	@touch $@

demo: setup ## Show the whole loop on built-in data: no broker, no account
	$(BIN)/tokenweir demo

test: unit integration ## Run every test but the long ones with kills

unit: setup ## Run the tests that need nothing but Python
	$(PYTHON) -m pytest -q -n auto -m 'not integration and not chaos' tests

integration: setup ## Run the tests on a real Kafka broker and schema registry (Java 17 and Maven, or Docker)
	$(PYTHON) -m pytest -q -n 2 --dist loadfile -m 'integration and not chaos' tests/integration

check: setup ## Check format, lint, types, layers and generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if [ -f tools/generate.py ]; then $(PYTHON) tools/generate.py --check; fi
ifneq ($(CARGO_FOUND),)
check: rust
endif

rust: setup ## Check and test the Rust sources, and hold the built module to its stub (done by `make check` where cargo is found)
	cargo fmt --manifest-path $(RUST)/Cargo.toml --check
	PYO3_PYTHON=$(abspath $(PYTHON)) cargo clippy --manifest-path $(RUST)/Cargo.toml --locked --quiet --all-targets --all-features -- -D warnings
	cargo test --manifest-path $(RUST)/Cargo.toml --locked --quiet
	cargo fmt --manifest-path $(FUZZ)/Cargo.toml --check
	cargo clippy --manifest-path $(FUZZ)/Cargo.toml --target-dir $(RUST)/target --locked --quiet --tests -- -D warnings
	cargo test --manifest-path $(FUZZ)/Cargo.toml --target-dir $(RUST)/target --locked --quiet
	$(PYTHON) -m mypy.stubtest tokenweir._native

format: setup ## Format the code and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
ifneq ($(CARGO_FOUND),)
	cargo fmt --manifest-path $(RUST)/Cargo.toml
	cargo fmt --manifest-path $(FUZZ)/Cargo.toml
endif

chaos: setup ## Run the long tests: kills of workers and brokers, installations, many examples of each property
	$(PYTHON) -m pytest -q -m chaos tests

fuzz: ## Give the native engine any bytes whatever, SECONDS for each target (nightly toolchain, cargo-fuzz)
	@cargo +nightly fuzz --version >/dev/null 2>&1 || { echo 'Nothing is fuzzed: this needs a nightly toolchain of Rust and cargo-fuzz ("rustup toolchain install nightly", "cargo install cargo-fuzz").' >&2; exit 1; }
	@cd $(RUST) && set -e; for target in $$(cargo +nightly fuzz list); do \
		mkdir -p fuzz/corpus/$$target; \
		cargo +nightly fuzz run --features libfuzzer $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(SECONDS) -max_len=65536 -timeout=20 -rss_limit_mb=4096 -verbosity=0 -print_final_stats=1 \
			$$(ls fuzz/dictionaries/$$target.dict 2>/dev/null | sed 's/^/-dict=/'); \
	done

bench: setup ## Measure and keep the results; ARGS names the benchmarks, none means all, --quick is a try
	$(PYTHON) -m benchmarks $(ARGS)

clean: ## Remove what was built, measured or downloaded, but not .venv
	rm -rf build dist $(RUST)/target $(FUZZ)/target $(FUZZ)/corpus .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
