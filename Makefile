PYTHON ?= python3
BIN := .venv/bin
READERS := tests/readers

.PHONY: demo test bench lint

# On example photos that the room generator made: infer, then query and render the result.
demo: .venv/installed
	@mkdir -p out
	$(BIN)/ffsplat infer data/examples --model ffsplat-tiny --out out/scene.ply --cameras-out out/cameras.json --overwrite
	$(BIN)/ffsplat query out/scene.ply furniture
	$(BIN)/ffsplat render out/scene.ply --cameras out/cameras.json --view 2 --out out/view.png --overwrite
	$(BIN)/ffsplat render out/scene.ply --cameras out/cameras.json --view 2 --query furniture --out out/furniture.png --overwrite
	$(BIN)/ffsplat render out/scene.ply --cameras out/cameras.json --view 2 --what codes --out out/codes.png --overwrite
	$(BIN)/ffsplat render out/scene.ply --out out/orbit.webp --overwrite
	@echo "The results lie in out/:"
	@ls -1sh out

# Bytecode is kept, whatever the environment says: tests start many processes, and each would
# compile torch from its source anew.
test: .venv/installed-dev $(READERS)/node_modules/installed
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal

bench: .venv/installed-dev
	@set -e; for script in tests/bench/bench_*.py; do \
		name=$$(basename $$script .py); echo "== $$name"; $(BIN)/python -m tests.bench.$$name; \
	done

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/installed-dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev,train]'
	@touch $@

# Other people's splat readers; without npm, or without a network, the tests that need them skip.
$(READERS)/node_modules/installed: $(wildcard $(READERS)/package*.json)
	@if ! command -v npm >/dev/null; then echo "npm is absent: the npm readers are not tested"; \
	elif npm --prefix $(READERS) ci --no-audit --no-fund --loglevel=error; then touch $@; \
	else echo "npm ci failed: the npm readers are not tested"; fi
