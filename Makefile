# Everything a developer or a CI job does. `make run` and `make test` prepare a fresh machine by themselves:
# they need make and Python 3.11 or newer, nothing else. PYTHON=/path/to/python chooses the interpreter.
#
# Set-up is repeated only when a lock or pyproject.toml changed (stamp files in .venv). uv installs the locks: measured on
# a cold two-core machine it takes 7 s where pip takes 27 s. Whoever can reach packages only through pip's own
# configuration still gets them: pip takes over when uv fails. Both check every hash.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# Never download an interpreter (a pyenv shim may stand in front of the right one); trust the machine's own certificates.
export UV_PYTHON_DOWNLOADS := never
export UV_SYSTEM_CERTS := 1
export UV_COMPILE_BYTECODE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport VIRTUAL_ENV PYTHONHOME

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate pyproject.toml $(ARGS)

.PHONY: help run test mutants simulate fuzz chaos-bus peers lint fmt types imports diagram schemas lock wheel clean clean-all setup files stack image-replay manifests golden panels plots measure transcript upgrade-test chaos chaos-report soak second-opinion docs

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## ---- set-up ----------------------------------------------------------------------------------------------------

define FIND_PYTHON
found=; \
for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14); do \
  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then found=$$candidate; break; fi; \
done; \
if [ -z "$$found" ]; then \
  echo "Python 3.11 or newer is needed and was not found. Install it, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
  exit 1; \
fi
endef

# The interpreter's own pip installs uv into the new environment (saves the 5 s of bootstrapping a second pip); where it
# has none, the environment gets one. uv itself comes from the lock, hashes included.
$(BIN)/uv:
	@$(FIND_PYTHON); \
	echo "Preparing $(VENV) ($$("$$found" --version))" >&2; \
	[ -x $(BIN)/python ] || "$$found" -m venv --without-pip $(VENV); \
	awk '/^[^ #]/ { wanted = /^uv==/ } wanted' requirements-dev.lock > $(VENV)/uv.lock; \
	install="install -qq --require-hashes --requirement $(VENV)/uv.lock"; \
	"$$found" -m pip --python $(BIN)/python $$install 2> /dev/null \
	  || { $(BIN)/python -m ensurepip > /dev/null && $(BIN)/python -m pip $$install; } \
	  || { echo "pip is missing or failed; install it (Debian: apt-get install python3-venv) and try again" >&2; exit 1; }

# $(1) is the lock. `uv pip install` rather than `sync`: run and test share one environment, and theirs nest. No
# dependencies: a lock is complete, and [tool.uv] overrides what one package asks for.
define INSTALL
@echo "Installing the packages of $(1); this takes up to a minute" >&2
@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --requirement $(1) \
  || { echo "uv could not install $(1); trying pip" >&2; \
       $(BIN)/python -m ensurepip > /dev/null \
       && $(BIN)/python -m pip install -q --no-deps --require-hashes --requirement $(1); } \
  || { echo "set-up failed, see above; make clean-all removes $(VENV) for a fresh start" >&2; exit 1; }
@$(BIN)/uv pip install --quiet --python $(BIN)/python --offline --no-deps --no-build-isolation --editable .
@touch $@
endef

$(VENV)/.run: requirements.lock pyproject.toml | $(BIN)/uv
	$(call INSTALL,requirements.lock)

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(BIN)/uv
	$(call INSTALL,requirements-dev.lock)

# An environment made for the tests runs the product too.
READY := $(if $(wildcard $(VENV)/.dev),$(VENV)/.dev,$(VENV)/.run)

setup: $(VENV)/.dev ## prepare the environment, all tools included

## ---- the product -----------------------------------------------------------------------------------------------

run: $(READY) ## set up, then run the demo; options: make run ARGS="--scenario outage"
	@$(BIN)/mlfs demo $(ARGS)

## ---- checks ----------------------------------------------------------------------------------------------------

test: $(VENV)/.dev ## set up, then run the whole suite; a part: make test ARGS="tests/unit -k deadline"
	@$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

mutants: $(VENV)/.dev ## break the product on purpose, see that a test notices; one: make mutants ARGS="--only NAME"
	@$(BIN)/python -m tests.mutants.run $(ARGS)

SEEDS ?= 2000

simulate: $(VENV)/.dev ## play seeds against simulated faults: make simulate SEEDS=20000, one again: SEEDS=7..7
	@$(BIN)/python -m tests.simulation.run --seeds $(SEEDS) $(ARGS)

chaos: $(VENV)/.dev ## real processes and a nemesis: make chaos ARGS="--minutes 5 --seed 7"; --store sentinel
	@$(BIN)/python -m tests.chaos.run $(ARGS)

chaos-report: $(VENV)/.dev ## play the runs of docs/reliability.md (40 min; a fifth of it: ARGS="--share 0.2 --no-soak"), write their table
	@$(BIN)/python -m tests.chaos.record $(ARGS)

EVENTS ?= 100000

chaos-bus: $(VENV)/.dev ## reports through a bus on which everything goes wrong: make chaos-bus EVENTS=5000
	@$(BIN)/python -m tests.chaos.bus --events $(EVENTS) $(ARGS)

NIGHTS ?= 100
FROM ?=

upgrade-test: $(VENV)/.dev ## nights under this version and an older one at once: make upgrade-test NIGHTS=100 FROM=REVISION
	@$(BIN)/python -m tests.upgrade.run --nights $(NIGHTS) $(if $(FROM),--from $(FROM)) $(ARGS)
soak: $(VENV)/.dev ## 100,000 events and 2,000 nights, and what grows meanwhile: make soak ARGS="--nights 1000 --events 50000"
	@$(BIN)/python -m tests.chaos.soak $(ARGS)

INPUTS ?= 1000000

fuzz: $(VENV)/.dev ## feed the parsers hostile bytes until INPUTS are read, or one breaks them: make fuzz INPUTS=10000000
	@$(BIN)/python -c 'import atheris' 2> /dev/null \
	  || $(BIN)/uv pip install --quiet --python $(BIN)/python --group fuzz \
	  || { echo "atheris has no wheel for this machine or Python; the suite still fuzzes with Hypothesis" >&2; exit 1; }
	@$(BIN)/python -m tests.fuzz.run --inputs $(INPUTS) $(ARGS)

PEERS := .venv-peers

$(PEERS)/.ready: bench/peers/requirements.txt | $(BIN)/uv
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)
	@$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --requirement bench/peers/requirements.txt
	@touch $@

peers: $(VENV)/.dev $(PEERS)/.ready ## the same join on other tools and on mlfs, side by side: make peers ARGS="--json docs/measured/peers.json"
	@PEERS_PYTHON=$(abspath $(BIN)/python) $(PEERS)/bin/python -m bench.peers.run $(ARGS)

EMULATOR ?= local-bigquery

second-opinion: $(VENV)/.dev ## the warehouse contract and a night on a BigQuery emulator of others: make second-opinion EMULATOR=bqemulator
	@$(BIN)/python -m tests.second_opinion.run --emulator $(EMULATOR) -- $(ARGS)

stack: $(VENV)/.dev ## docker-compose.yml as plain processes, three nights through it; stay up: make stack ARGS=--keep
	@$(BIN)/python -m tests.support.compose_runner $(ARGS)

image-replay: $(VENV)/.dev ## every step of the Dockerfile without Docker, then the image's worker; Linux, as root
	@IMAGE_REPLAY=full $(BIN)/pytest --timeout 600 tests/image $(ARGS)

lint: $(VENV)/.dev ## style, format, types, import rules, Dockerfile, shell and YAML; changes nothing
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "not formatted; run: make fmt" >&2; $(BIN)/ruff format --check . >&2; }
	@$(MAKE) types imports files

fmt: $(VENV)/.dev ## format, and repair what ruff can repair
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format .

types: $(VENV)/.dev ## mypy, strict
	@$(BIN)/mypy

imports: $(VENV)/.dev ## the import contracts of pyproject.toml
	@$(BIN)/lint-imports --no-logo

files: $(VENV)/.dev ## hadolint, shellcheck, yamllint, and the schema of compose files
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/shellcheck .ci/run $$(find ops tests -name '*.sh')
	@$(BIN)/yamllint --strict .
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
panels: $(VENV)/.dev ## draw docs/img/dashboard-*.png from a played night; needs prometheus and its alertmanager
	@$(BIN)/python -c 'import matplotlib' 2> /dev/null \
	  || $(BIN)/uv pip install --quiet --python $(BIN)/python --group pictures
	@$(BIN)/python -m tests.panels.draw

plots: $(VENV)/.dev ## draw docs/img/performance-*.png and write the measured tables, both from docs/measured
	@$(BIN)/python -c 'import matplotlib' 2> /dev/null \
	  || $(BIN)/uv pip install --quiet --python $(BIN)/python --group pictures
	@$(BIN)/python -m bench.report

measure: $(VENV)/.dev ## every benchmark at full size on a quiet machine, 10 min; parts: make measure ARGS="--only build,intake"
	@$(BIN)/python -m bench.measure $(ARGS)
	@$(MAKE) plots

transcript: $(VENV)/.dev ## write docs/a_degraded_night.md from a played night; needs the same
	@$(BIN)/python -m tests.transcript.write

docs: $(VENV)/.dev ## write the generated parts of docs/: options, settings, fields of events, tables
	@env -i PATH="$$PATH" $(BIN)/python -m ops.generate.reference
	@$(BIN)/python -m bench.report --tables

diagram: $(VENV)/.dev ## draw docs/state_machine.md from the transition table
	@$(BIN)/python -c 'import sys; from statemachine.diagram import render; sys.stdout.write(render())' > docs/state_machine.md

schemas: $(VENV)/.dev ## write schemas/export from the models of the messages
	@env -i PATH="$$PATH" $(BIN)/mlfs schemas --out schemas/export

manifests: $(VENV)/.dev ## write what ops takes over from the alert rules, the DDL and docs_url of pyproject.toml
	@$(BIN)/python -m ops.generate.manifests

golden: $(VENV)/.dev ## write tests/golden: the SQL rendered from the shipped pipeline's definition
	@$(BIN)/python -m tests.golden.write

## ---- packaging -------------------------------------------------------------------------------------------------

# Existing pins stay unless told otherwise: make lock ARGS=--upgrade
lock: | $(BIN)/uv ## write both lock files from pyproject.toml; newest versions: make lock ARGS=--upgrade
	@$(COMPILE) --group build --output-file requirements.lock > /dev/null
	@$(COMPILE) --group dev --constraint requirements.lock --output-file requirements-dev.lock > /dev/null

wheel: $(VENV)/.dev ## build the wheel into dist/
	@$(BIN)/python -m hatchling build --target wheel

clean: ## remove builds and caches
	@rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*
	@find statemachine schemas worker ops tests -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean ## remove the environment and what demos left too
	@rm -rf $(VENV) $(PEERS) .mlfs/demo-*
