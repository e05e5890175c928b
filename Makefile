# make demo: from nothing to a trained model and its report. make test: the quick suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Other libraries, for comparison alone: never in the environment of the product.
PEERS := .venv-peers
# Handwritten words, from http://ai.stanford.edu/~btaskar/ocr/; the benchmark of them is skipped where the file is not.
LETTERS ?= letter.data.gz
# On small networks a second OpenMP thread gains nothing, and on a busy machine it makes a run slower.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow bench bench-peers lint format clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Energeia needs Python 3.11 or newer; give one with: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch -c constraints.txt
	$(BIN)/python -m pip install --quiet -e . -c constraints.txt
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e '.[test]' -c constraints.txt
	touch $@

$(VENV)/installed-lint: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet -e '.[test,lint]' -c constraints.txt
	touch $@

demo: $(VENV)/installed
	$(BIN)/energeia train digits

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -m 'not slow' -n auto --dist loadfile

test-slow: $(VENV)/installed-test
	$(BIN)/python -m pytest -m slow -n auto --dist loadfile

$(PEERS)/installed: pyproject.toml constraints.txt benchmarks/peers-requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet torch -c constraints.txt
	$(PEERS)/bin/python -m pip install --quiet -e . -r benchmarks/peers-requirements.txt -c constraints.txt
	$(PEERS)/bin/python -m pip install --quiet --ignore-requires-python hamon==0.12.0 -c constraints.txt
	touch $@

bench: $(VENV)/installed-test bench-peers
	$(BIN)/python -m benchmarks.digits --json benchmarks/results/digits.json
	$(BIN)/python -m benchmarks.sampling --json benchmarks/results/sampling.json
	$(BIN)/python -m benchmarks.samplers --json benchmarks/results/samplers.json
	$(BIN)/python -m benchmarks.rbm --json benchmarks/results/rbm.json
	$(BIN)/python -m benchmarks.dbm --json benchmarks/results/dbm.json
	$(BIN)/python -m benchmarks.classification_rbm --json benchmarks/results/classification_rbm.json
	$(BIN)/python -m benchmarks.conditional_rbm --json benchmarks/results/conditional_rbm.json
	$(BIN)/python -m benchmarks.hidden --json benchmarks/results/hidden.json
	$(BIN)/python -m benchmarks.inverse_ising --json benchmarks/results/inverse_ising.json
	$(BIN)/python -m benchmarks.inverse_lattice --json benchmarks/results/inverse_lattice.json
	$(BIN)/python -m benchmarks.coverage --json benchmarks/results/coverage.json
	$(BIN)/python -m benchmarks.restoration --json benchmarks/results/restoration.json --picture docs/restoration.png
	$(BIN)/python -m benchmarks.log_z --json benchmarks/results/log_z.json --picture docs/log-z-growth.png
	$(BIN)/python -m benchmarks.paths --json benchmarks/results/paths.json
	$(BIN)/python -m benchmarks.ocr --data $(LETTERS) --json benchmarks/results/ocr.json --picture docs/ocr.png
	$(BIN)/python -m benchmarks.regression --json benchmarks/results/regression.json --picture docs/regression.png
	$(BIN)/python -m benchmarks.spen --json benchmarks/results/spen.json
	$(BIN)/python -m benchmarks.density --json benchmarks/results/density.json
	$(BIN)/python -m benchmarks.objectives --rung planar --json benchmarks/results/objectives.json --picture docs/objectives.png
	$(BIN)/python -m benchmarks.objectives --rung tabular --seeds 0 1 2 --json benchmarks/results/objectives_tabular.json
	$(BIN)/python -m benchmarks.objectives --rung discrete --json benchmarks/results/objectives_discrete.json
	$(BIN)/python -m benchmarks.objectives --rung binarised --json benchmarks/results/objectives_binarised.json
	$(BIN)/python -m benchmarks.objectives --rung digits --json benchmarks/results/objectives_digits.json --picture docs/objectives-digits.png
	$(BIN)/python -m benchmarks.objectives.second_order --json benchmarks/results/second_order.json
	$(BIN)/python -m benchmarks.losses --json benchmarks/results/losses.json --picture docs/losses.png
	$(PEERS)/bin/python -m benchmarks.objectives.alike --json benchmarks/results/objectives_alike.json
	$(PEERS)/bin/python -m benchmarks.objectives --rung peers --densities mixture rings two_moons checkerboard --seeds 0 1 2 --json benchmarks/results/objectives_peers.json
	$(PEERS)/bin/python -m benchmarks.log_z_rivals --json benchmarks/results/log_z_rivals.json
	$(PEERS)/bin/python -m benchmarks.score_rivals --json benchmarks/results/score_rivals.json
	$(PEERS)/bin/python -m benchmarks.rivals --json benchmarks/results/rivals.json
	$(PEERS)/bin/python -m benchmarks.sklearn_rbm --json benchmarks/results/sklearn_rbm.json
	$(PEERS)/bin/python -m benchmarks.chains --json benchmarks/results/chains.json
	$(BIN)/python -m benchmarks.tables

bench-peers: $(PEERS)/installed
	$(PEERS)/bin/python -m benchmarks.peers --json benchmarks/results/peers.json

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(PEERS) runs build dist
