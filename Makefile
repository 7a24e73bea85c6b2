# One command each for what a user and a developer do; `make help` lists them. All state lies in .venv, .venv-next,
# .build (here) and in the lab's directory; nothing is written into the caller's home.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The targets share the lab and two cores at best.
.NOTPARALLEL:

ifneq ($(words $(CURDIR)),1)
$(error The folder "$(CURDIR)" has a space in its name, which make, pip and Ansible do not all survive: move the checkout)
endif

PYTHON ?= python3
LAB_INVENTORY ?= inventories/lab
BIN := .venv/bin
# Tools find one another through PATH, and nothing that the caller has installed is taken for ours.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PYTHONDONTWRITEBYTECODE := 1
unexport ANSIBLE_COLLECTIONS_PATH ANSIBLE_ROLES_PATH PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: help
help:  ## Show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: system
system:  ## Install what the machine lacks (Debian, as root)
	@.ci/system-packages

.PHONY: browser
browser:  ## Install the browser that tests look at the report with (Debian, as root)
	@.ci/system-packages browser

# Whether there is something to do is decided by what the files say, not by their times: a checkout sets all times anew.
.PHONY: venv
venv:  ## Set up .venv with the pinned Ansible and the tools
	@.ci/venv .venv "$(PYTHON)" requirements-dev.txt

.PHONY: demo
demo: system venv  ## Three hosts on this machine, overlay networks, every pair proven
	@.ci/need-root demo
	$(BIN)/ansible-playbook -i $(LAB_INVENTORY) playbooks/lab_up.yml
	$(BIN)/ansible-playbook -i $(LAB_INVENTORY) site.yml
	@echo "Look at the report: file://$(CURDIR)/overlay-report/report.html"

.PHONY: test
test: system browser venv  ## All tests, as CI runs them
	@$(BIN)/python -m tests.run_suites

.PHONY: test-long
test-long: system browser venv  ## All tests and those that take longer
	@$(BIN)/python -m tests.run_suites --long

.PHONY: lint
lint: venv  ## ruff, mypy, ansible-lint, yamllint, changelog, documentation
	@.ci/lint

.PHONY: format
format: venv  ## Lay out Python files as lint wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: unit
unit: venv  ## Planners and I/O of the modules, without hosts
	$(BIN)/python -m pytest tests/unit

.PHONY: meta
meta: venv  ## Tests about the project: what is documented, specified, exercised
	$(BIN)/python -m pytest tests/meta

.PHONY: sanity
sanity: venv  ## ansible-test sanity, without ignores
	$(BIN)/python -m tests.sanity.run

.PHONY: cores
cores: venv  ## Unit tests, meta-tests and syntax on the newest supported Ansible too
	@.ci/cores

.PHONY: molecule
molecule: system venv  ## Scenarios on hosts of the lab
	@.ci/need-root molecule
	@$(BIN)/python -m tests.run_molecule

.PHONY: e2e
e2e: system browser venv  ## Bad input, brownfield hosts, failures that verify must see
	@.ci/need-root e2e
	$(BIN)/python -m pytest tests/e2e -m "not long" --durations=25 --durations-min=10

.PHONY: faults
faults: system venv  ## What takes longer: hosts and runs that die in the middle
	@.ci/need-root faults
	$(BIN)/python -m pytest tests/e2e -m long

.PHONY: box
box: system  ## Build a box for Vagrant where none can be downloaded (Debian, as root)
	@.ci/need-root box
	@.ci/system-packages vagrant
	@.ci/box

.PHONY: test-vagrant
test-vagrant: system venv  ## The same cluster on virtual machines, with their own kernels (as root)
	@.ci/need-root test-vagrant
	@.ci/system-packages vagrant
	@$(BIN)/python -m tests.run_vagrant

.PHONY: bench
bench: system venv  ## Measure the budget of docs/performance.md
	@.ci/need-root bench
	$(BIN)/python -m tests.bench.run

.PHONY: clean
clean:  ## Take the hosts, their networks and the build folder off this machine
	@.ci/clean

.PHONY: distclean
distclean:  ## Also the cached images and the virtual environments
	@.ci/clean --all
