# Each target makes its own .venv; remove it to start anew.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

BENCHMARKS := resampling training_step metrics preparation reading scanning dicom_objects contours export_speed engines memory

# nnU-Net has an environment of its own: nothing of delineate's needs it.
PEER := .venv-nnunet
export NNUNET_PYTHON ?= $(PEER)/bin/python

# Tools of the page, run by Node from PyPI.
SCRIPT := $(BIN)/python build_page.py

.PHONY: demo test lint page bench bench-nnunet clean

demo: $(STAMP)
	$(BIN)/delineate demo demo

test: lint page
	$(SCRIPT) node_modules/vitest/vitest.mjs run
	$(BIN)/pytest -n auto -q

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(SCRIPT) node_modules/typescript/bin/tsc --noEmit

# The page of review, into the package; nothing happens where it is current.
page: $(STAMP)
	$(SCRIPT)

bench: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt -e ".[dev,bench]"
	for script in $(BENCHMARKS); do $(BIN)/python benchmarks/$$script.py || exit 1; done

# About two hours on two cores, most of it nnU-Net's. The tables are printed even where a model does not agree.
bench-nnunet: $(STAMP) $(PEER)/.installed
	$(NNUNET_PYTHON) benchmarks/nnunet/peer.py train
	$(NNUNET_PYTHON) benchmarks/nnunet/peer.py predict
	$(NNUNET_PYTHON) benchmarks/nnunet/peer.py predict --mirror
	$(NNUNET_PYTHON) benchmarks/nnunet/peer.py predict --float32
	status=0; for mirror in "" --mirror; do $(BIN)/python benchmarks/nnunet/compare.py $$mirror || status=1; done; \
	for what in network batch case phantom export; do $(BIN)/python benchmarks/nnunet/measure.py $$what || status=1; done; \
	exit $$status

# torchvision has no build for this torch; nnU-Net imports every trainer it finds, and primus needs torchvision.
$(PEER)/.installed:
	$(PYTHON) -m venv $(PEER)
	$(PEER)/bin/pip install -q torch==2.13.0
	$(PEER)/bin/pip install -q torch==2.13.0 nnunetv2==2.8.1
	$(PEER)/bin/pip uninstall -q -y torchvision
	rm -r $(PEER)/lib/python3*/site-packages/nnunetv2/training/nnUNetTrainer/primus
	touch $@

# torch comes first and pinned: a looser requirement would fetch gigabytes of CUDA libraries.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) $(PEER) .nnunet demo page/node_modules src/delineate/review/static
