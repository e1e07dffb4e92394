# Verbs of one word. Each says what it does and where the output is.
PYTHON ?= python3
PRESET ?= quick
VENV   ?= .venv
# With an NVIDIA driver: torch with its own Triton. Without: the CPU build.
CONSTRAINTS ?= $(if $(shell command -v nvidia-smi 2>/dev/null),constraints-gpu.txt,constraints-cpu.txt)
PIP = $(VENV)/bin/python -m pip --quiet --disable-pip-version-check
RUN = $(VENV)/bin/gdnbench
WORKERS ?= 2
.DEFAULT_GOAL := help
.PHONY: help setup reproduce plan report test check bench-check quality-check wheel clean

help:  ## list targets and presets
	@echo "targets:"
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 14
	@echo "presets (make reproduce PRESET=<name>):"
	@for f in gdnbench/presets/*.yaml; do \
	  printf '  %-20s [%s] %s\n' "$$(sed -n 's/^name: *//p' $$f)" "$$(sed -n 's/^suits: *//p' $$f)" "$$(sed -n 's/^title: *//p' $$f)"; done
	@echo "the environment is made in $(VENV) with $(CONSTRAINTS); pip's own variables and settings (indexes) apply"

# The environment follows the project file and the constraints: when one changes it is brought up to date.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gdnbench needs Python 3.11 or newer, found " + sys.version.split()[0] + "; make PYTHON=python3.12 takes another")'
	@echo "creating the environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/core: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo "installing gdnbench with $(CONSTRAINTS) (a few minutes)"
	@$(PIP) install -c $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/dev: $(VENV)/core
	@echo "installing what the tests need"
	@$(PIP) install -c $(CONSTRAINTS) -e ".[dev]"
	@touch $@

setup: $(VENV)/core  ## make the environment

reproduce: $(VENV)/core  ## run a preset and render its report (PRESET=quick)
	@echo "running preset $(PRESET); results in results/, report in reports/"
	@$(RUN) reproduce $(PRESET) $(ARGS)

plan: $(VENV)/core  ## print what a preset runs and what it costs
	@$(RUN) plan $(PRESET) $(ARGS)

report: $(VENV)/core  ## render the report of stored results again (PRESET=quick)
	@$(RUN) report $(PRESET) $(ARGS)

test: $(VENV)/dev  ## run the tests (under 15 minutes on 2 cores)
	@$(VENV)/bin/python -m pytest -n $(WORKERS) $(ARGS)

check: $(VENV)/dev  ## linter, format check and type checker
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

bench-check: $(VENV)/dev  ## compare kernels with the table and a baseline
	@$(RUN) bench check $(ARGS)

quality-check: $(VENV)/core  ## compare losses and gradients with stored ones (CPU, about a minute)
	@$(RUN) quality check $(ARGS)

wheel: $(VENV)/dev  ## build the wheel into dist/
	@$(VENV)/bin/python -m build --wheel --outdir dist .

clean:  ## remove the environment and caches, keep results and reports
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
