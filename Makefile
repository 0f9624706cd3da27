# make train [ARGS="--max-steps 50"]     train a model
# make test  [ARGS="-k attention"]       prove every gradient; ARGS="-m slow" for the tests that take long
# make bench [ARGS="--case small"]       time a training step, every kernel and the data, with PyTorch beside where it is installed
# make docs                              write the reference of minigrad's functions and classes, build/docs/index.html
# make gpu-report [ARGS="--device cuda-sim"]  prove and measure the CUDA kernels on this machine's GPU
# The first time each installs what it needs into .venv; `. .venv/bin/activate` makes `python` the one that has it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DOCUMENTED := minigrad minigrad.tensor_dtypes minigrad.tensor_protocols minigrad.tensor_words minigrad.in_place minigrad.debug minigrad.gradient_checking

.PHONY: train test lint bench docs gpu-report clean

train: $(VENV)/.installed
	$(BIN)/python train.py $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/train_step.py --out-dir benchmarks/results $(ARGS)
	$(BIN)/python benchmarks/plot.py benchmarks/results/train_step.json
	$(BIN)/python benchmarks/kernels.py --out-dir benchmarks/results
	$(BIN)/python benchmarks/profile.py --case baby --out-dir benchmarks/results
	$(BIN)/python benchmarks/growth_with_size.py --out-dir benchmarks/results
	$(BIN)/python benchmarks/data.py --out-dir benchmarks/results

docs: $(VENV)/.installed-docs
	$(BIN)/python -m pdoc --no-show-source -o build/docs $(DOCUMENTED)
	@echo "wrote build/docs/index.html"

gpu-report: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/gpu_report.py $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

SAID = @echo "installing what is needed into $(VENV); for commands without make: . $(BIN)/activate"

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(SAID)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(SAID)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(SAID)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	@touch $@ $(VENV)/.installed
