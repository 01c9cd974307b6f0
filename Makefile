# What one does with this project: `make` lists it. Each target makes the virtual environment that it needs.
# PYTHON=python3.12 chooses the Python for environments that do not exist yet, WORKERS=4 the number of test processes.

PYTHON ?= python3
WORKERS ?= 3
VENV := .venv
TOOLKIT_VENV := .venv-toolkit
AUDIT_VENV := .venv-audit
# The versions that the tests ran with; `make ... LOCK=` takes the newest that pyproject.toml allows.
LOCK ?= $(wildcard constraints.txt)
RUN := $(VENV)/bin/python run_sagemaker_job.py

.DEFAULT_GOAL := help
.PHONY: help demo emulator test docker-test toolkit-test faults fuzz lint types audit lock bench docs clean

help:
	@echo 'make demo          trains the example on this machine: no AWS account, no Docker'
	@echo 'make emulator      an AWS on this machine whose SageMaker really trains, until Ctrl-C (OPTIONS=--help)'
	@echo 'make test          runs the tests, except those of the next two lines'
	@echo 'make docker-test   runs the tests that need a Docker engine'
	@echo 'make toolkit-test  compares with the sagemaker-training toolkit, which needs a C compiler to install'
	@echo 'make faults        provokes every fault of docs/faults.md, and says row by row what came out'
	@echo 'make fuzz          throws hostile configs, names, archives and logs at the code, some minutes (OPTIONS=--help)'
	@echo 'make lint          checks style: ruff, shellcheck'
	@echo 'make types         checks types: mypy'
	@echo 'make audit         asks whether a locked package is known to be vulnerable (REQUIRE_AUDIT=1: somebody has to answer)'
	@echo 'make lock          writes constraints.txt anew: the newest versions that pyproject.toml allows, for every Python'
	@echo 'make bench         times the commands against what they replace (OPTIONS=--full for large archives)'
	@echo 'make docs          writes the generated parts of README.md and docs/, the schemas in configs/, and the example that init copies'
	@echo 'make clean         deletes the virtual environments, caches and the demo'

demo: $(VENV)/.demo
	@mkdir -p demo/s3/team
	@$(VENV)/bin/python sagemaker_container/digits.py demo/s3/team/data/digits
	@$(RUN) launch configs/sagemaker_config.yaml --on process --s3-root demo/s3
	@echo 'make demo: done. The last line above is the command that runs the same experiment again.'

emulator: $(VENV)/.test
	@$(VENV)/bin/python -m tests.emulator $(OPTIONS)

test: $(VENV)/.test
	@$(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal --quiet -m 'not docker'
	@echo 'make test: what needs a Docker engine was left out: make docker-test'
	@echo 'make test: passed. The lines that begin with SKIPPED, if any, say what this machine could not run.'

docker-test: $(VENV)/.test
	@REQUIRE_DOCKER=1 $(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal --quiet -m docker
	@echo 'make docker-test: passed.'

toolkit-test: $(VENV)/.test $(TOOLKIT_VENV)/.installed
	@REQUIRE_TOOLKIT=1 $(VENV)/bin/python -m pytest --quiet -m toolkit
	@echo 'make toolkit-test: passed.'

faults: $(VENV)/.test
	@$(VENV)/bin/python -m tests.fault_run --numprocesses $(WORKERS) --dist worksteal

fuzz: $(VENV)/.test
	@$(VENV)/bin/python -m tests.fuzz --workers $(WORKERS) $(OPTIONS)

lint: $(VENV)/.dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/shellcheck build_and_push.sh .ci/run
	@echo 'make lint: passed.'

types: $(VENV)/.dev
	@$(VENV)/bin/mypy
	@echo 'make types: passed.'

audit: $(VENV)/.demo $(AUDIT_VENV)/.installed
	@$(VENV)/bin/python -m tests.audit $(AUDIT_VENV)/bin/pip-audit

lock: $(AUDIT_VENV)/.installed
	@$(AUDIT_VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 --all-extras --upgrade --no-annotate \
		--custom-compile-command 'make lock' --output-file constraints.txt pyproject.toml
	@echo 'make lock: constraints.txt is written; now run .ci/run.'

bench: $(VENV)/.test
	@$(VENV)/bin/python bench/run.py $(OPTIONS)

docs: $(VENV)/.test
	@$(VENV)/bin/python -m tests.readme
	@$(VENV)/bin/python -m tests.fidelity
	@$(VENV)/bin/python -m tests.example
	@$(RUN) init --schemas configs/sagemaker_config.yaml
	@$(VENV)/bin/python -m tests.fault_rows

clean:
	rm -rf $(VENV) $(TOOLKIT_VENV) $(AUDIT_VENV) demo build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A file named after a group of packages says that they are installed, so that the next call starts at once.
# Each larger group holds the smaller ones.
$(VENV)/.demo: pyproject.toml $(LOCK) $(VENV)/.made
	$(call install,$(VENV),$(LOCK:%=--constraint %) --editable '.[demo]')
	@touch $@

$(VENV)/.test: pyproject.toml $(LOCK) $(VENV)/.made
	$(call install,$(VENV),$(LOCK:%=--constraint %) --editable '.[test]')
	@touch $(VENV)/.demo $@

$(VENV)/.dev: pyproject.toml $(LOCK) $(VENV)/.made
	$(call install,$(VENV),$(LOCK:%=--constraint %) --editable '.[dev]')
	@touch $(VENV)/.demo $(VENV)/.test $@

# The toolkit wants other versions of the same packages, so it lives apart.
$(TOOLKIT_VENV)/.installed: $(TOOLKIT_VENV)/.made
	$(call install,$(TOOLKIT_VENV),'sagemaker-training==5.1.4')
	@touch $@

# So do the tools that look at packages.
$(AUDIT_VENV)/.installed: $(AUDIT_VENV)/.made
	$(call install,$(AUDIT_VENV),'pip-audit~=2.10' 'uv~=0.13.0')
	@touch $@

%/.made:
	@command -v $(PYTHON) > /dev/null || \
		{ echo 'make: there is no program $(PYTHON): install Python 3.10 or later, or name yours: make PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "make: Python 3.10 or later is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
		       "name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
		{ echo 'make: $(PYTHON) has no venv module; on Debian and Ubuntu: sudo apt install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $*
	@touch $@

# Installs packages, given by the second argument, into the environment given by the first; a dot for each package.
define install
	@printf 'Installing into $(1), once, some minutes: '
	@{ $(1)/bin/python -m pip install --disable-pip-version-check --progress-bar off $(2) || echo failed; } | \
		while read -r word _; do \
			case $$word in Collecting) printf . ;; failed) exit 1 ;; esac; \
		done
	@echo ' done'
endef
