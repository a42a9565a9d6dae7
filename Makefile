# `make help` lists the targets. A new machine needs only make and Python 3.11 or later: uv comes by itself.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

UV_VERSION := $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' hack/uv.txt)
PYTHON ?= python3
# Compiling everything anew in each process doubles what tests take to start.
unexport PYTHONDONTWRITEBYTECODE
export UV_PYTHON_DOWNLOADS := never
export UV_HTTP_RETRIES ?= 8
export UV_PROJECT_ENVIRONMENT := .venv

UV := .uv/bin/uv
RUN := .venv/bin
# Anything that runs programs of the cluster: needs nothing installed but Python.
CLUSTER_TOOL := PYTHONPATH=hack/cluster $(PYTHON) -m attune_cluster
DEMO := PYTHONPATH=hack/cluster:hack/demo $(PYTHON) -m attune_demo $(DEMO_ARGS)

.PHONY: help
help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- The tools --------------------------------------------------------------------------------------------------------

$(UV): hack/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Attune needs Python 3.11 or later; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.13 …" >&2; exit 1; }
	@echo "Getting uv $(UV_VERSION) …"
	@rm -rf .uv
	@$(PYTHON) -m venv .uv 2>/dev/null || { rm -rf .uv; \
	  echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@.uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r hack/uv.txt || { rm -rf .uv; exit 1; }

PROJECTS := $(wildcard pyproject.toml */pyproject.toml sensor_images/*/pyproject.toml) uv.lock

.venv/.synced: $(UV) $(PROJECTS)
	@echo "Installing what uv.lock names …"
	@$(UV) sync --frozen --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@touch $@

.PHONY: sync
sync: .venv/.synced  ## Install the development environment into .venv

# What `attune up` needs and nothing else: on a new machine nobody waits for linters. What is there already stays.
.venv/.local: $(UV) $(PROJECTS)
	@[ -z "$$(find $(PROJECTS) -newer .venv/.synced 2>&1)" ] || { \
	  echo "Installing what attune up needs …"; \
	  $(UV) sync --frozen --quiet --inexact --compile-bytecode --no-default-groups --package attune-cli --extra local \
	    --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"; }
	@touch $@

.PHONY: demo
demo: .venv/.local  ## attune up on the core timer, without a cluster: the events as they come (DEMO_ARGS="--exit-after 20s")
	@$(RUN)/attune up packs/core/core.timer.yaml packs/core/echo-every-second.yaml $(DEMO_ARGS)

# --- Looking at the code ----------------------------------------------------------------------------------------------

.PHONY: lint
lint: .venv/.synced  ## ruff, mypy, import-linter; checks deploy/crds against the models, and the pages of docs/
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/lint-imports --no-cache
	$(RUN)/python -m attune_contract.crds --check deploy/crds deploy/helm/attune/files/crds
	$(RUN)/python hack/monitoring/dashboards.py --check $(DASHBOARDS)
	$(RUN)/python hack/docs/check_docs.py

.PHONY: format
format: .venv/.synced  ## Let ruff format and mend what it can
	$(RUN)/ruff check --fix
	$(RUN)/ruff format

.PHONY: crds
crds: .venv/.synced  ## Write the CustomResourceDefinitions from contract/
	$(RUN)/python -m attune_contract.crds deploy/crds deploy/helm/attune/files/crds

DASHBOARDS := deploy/helm/attune/files/monitoring/dashboards

.PHONY: dashboards
dashboards: .venv/.synced  ## Write the chart's Grafana dashboards
	$(RUN)/python hack/monitoring/dashboards.py $(DASHBOARDS)

.PHONY: console-assets
console-assets:  ## Take what the console serves from npm, pinned by version and checksum (hack/console/assets.py)
	@$(PYTHON) hack/console/assets.py

# --- Tests ------------------------------------------------------------------------------------------------------------

# Unit tests compute; integration tests wait half of their time, so there are more workers than processors.
WORKERS ?= $(shell nproc)
WAITING_WORKERS ?= $(shell expr $(WORKERS) + $(WORKERS) / 2)

.PHONY: unit
unit: .venv/.synced  ## Unit tests
	$(RUN)/pytest tests/unit -n $(WORKERS) --dist worksteal

.PHONY: integration integration-together integration-alone
integration: .venv/.synced  ## Tests with a real NATS server, PostgreSQL, etcd and kube-apiserver
	@$(MAKE) integration-together
	@$(MAKE) integration-alone

integration-together: .venv/.synced
	@$(CLUSTER_TOOL) test-packages
	@$(CLUSTER_TOOL) tools >/dev/null
	$(RUN)/pytest tests/integration -m "not alone" -n $(WAITING_WORKERS) --dist worksteal

integration-alone: .venv/.synced
	$(RUN)/pytest tests/integration -m alone

.PHONY: browser
browser: .venv/.synced  ## The console in a real Chromium (Debian: apt-get install chromium); pictures in .cache/console/
	$(RUN)/pytest tests/browser

.PHONY: e2e
e2e: .venv/.synced cluster  ## Tests on the whole system in the cluster
	@mkdir -p .cache; failed=0; \
	$(RUN)/pytest tests/e2e -m local >.cache/e2e-local.log 2>&1 & local=$$!; \
	$(RUN)/pytest tests/e2e -m "not local" || failed=$$?; \
	wait $$local || failed=$$?; cat .cache/e2e-local.log; exit $$failed

.PHONY: e2e-local
e2e-local: .venv/.synced  ## The end-to-end tests that need no cluster, under attune up
	$(RUN)/pytest tests/e2e -m local

# Most end-to-end tests wait for the cluster, so integration tests run beside them, with what is left of the processors.
.PHONY: test
test: .venv/.synced  ## Everything: lint, unit, integration, e2e on a cluster (brought up, and taken down if it was not there)
	@if $(CLUSTER_TOOL) status >/dev/null 2>&1; then kept=yes; else kept=no; fi; \
	mkdir -p .cache; $(MAKE) cluster >.cache/cluster.log 2>&1 & cluster=$$!; \
	failed=0; $(MAKE) lint unit || failed=$$?; \
	wait $$cluster || { failed=$$?; cat .cache/cluster.log; }; \
	[ $$failed != 0 ] || { \
	  $(MAKE) e2e >.cache/e2e.log 2>&1 & e2e=$$!; \
	  nice -n 5 $(MAKE) integration-together || failed=$$?; wait $$e2e || failed=$$?; cat .cache/e2e.log; \
	  $(MAKE) integration-alone || failed=$$?; }; \
	[ $$kept = yes ] || $(MAKE) cluster-down; exit $$failed

.PHONY: soak
soak: .venv/.synced cluster  ## Tests that take long (12 minutes of renewals, …); their figures are in docs/soak.md
	$(RUN)/pytest tests/soak -s

.PHONY: ways
ways: .venv/.synced cluster  ## Ways in which a Rule does not fire, and how soon each is told: make ways [WAY=name,…] [OUT=file] [TABLE=yes]
	PYTHONPATH=tests:hack/cluster:hack/demo $(RUN)/python -m ways $(if $(WAY),--only '$(WAY)') $(if $(OUT),--out $(OUT)) \
	  $(if $(TABLE),--table)

.PHONY: bench
bench: .venv/.synced  ## Benchmarks as ratios to a reference: make bench [BENCH=name] [OUT=file]
	$(RUN)/python tests/bench/run.py $(if $(BENCH),--only $(BENCH)) $(if $(OUT),--out $(OUT))

.PHONY: first-minutes
first-minutes:  ## The README's commands on new Debian 12 and 13, without root: make first-minutes [ARGS="--all trixie"]
	hack/first-minutes/run $(ARGS)

.PHONY: newer-tzdata
newer-tzdata: $(UV)  ## Fail when a newer tzdata is out than uv.lock pins: timers fire by it (docs/timers.md)
	@found=$$($(UV) lock --upgrade-package tzdata --dry-run 2>&1); echo "$$found"; \
	! grep -q "Update tzdata" <<< "$$found"

.PHONY: gitops-table
gitops-table: .venv/.synced  ## What Flux, Helm and Argo CD make of each state, by their own code: the table in docs/gitops.md
	@mkdir -p .cache
	cd hack/gitops/health && GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 go build -o ../../../.cache/gitops-health .
	$(RUN)/python hack/gitops/gitops_table.py .cache/gitops-health

.PHONY: stdio-zipapp
stdio-zipapp: .venv/.synced  ## The supervisor of runner: Stdio as one file for any python3: dist/attune-stdio.pyz
	$(RUN)/python -m attune_zipapp dist/attune-stdio.pyz
	@ls -l dist/attune-stdio.pyz

.PHONY: uv-pin
uv-pin: $(UV)  ## Pin another version of uv by its hashes, in hack/uv.txt: make uv-pin VERSION=0.13.9
	@echo "uv==$(or $(VERSION),$(UV_VERSION))" | $(UV) pip compile --quiet --generate-hashes --no-annotate --no-header - \
	  --output-file hack/uv.txt

SBOM := dist/sbom

.PHONY: sbom
sbom: .venv/.synced  ## What each image and the command line consist of, as CycloneDX files in dist/sbom/
	@mkdir -p $(SBOM); \
	for package in operator=kubernetes api= actions= timer= webhook= kubernetes= nats= patterns= redis= amqp= mqtt= kafka= http= files= postgres= aws= stdio= cli=; do \
	  name=attune-$${package%=*} extra=$${package#*=}; \
	  $(UV) export --quiet --frozen --no-default-groups $${extra:+--extra $$extra} --format cyclonedx1.5 --package $$name \
	    --output-file $(SBOM)/$$name.cdx.json; \
	done
	@PYTHONPATH=hack/cluster $(RUN)/python hack/sbom/nats_sbom.py $(SBOM)/nats-server.cdx.json
	@ls -1 $(SBOM)

.PHONY: nats-wheel
nats-wheel: .venv/.synced  ## Whether the NATS server from PyPI is what its Go module gives (a minute; fetches the Go it was built with)
	@PYTHONPATH=hack/cluster $(RUN)/python hack/sbom/nats_wheel.py $(RUN)/nats-server

PROVENANCE := dist/provenance

.PHONY: provenance
provenance:  ## What the images of CLUSTER=local are built from, by their digests: in-toto statements in dist/provenance/
	@$(CLUSTER_TOOL) provenance $(PROVENANCE)

# --- A cluster, and the system in it ----------------------------------------------------------------------------------

.PHONY: cluster
cluster:  ## A Kubernetes cluster with our images; CLUSTER=kind|local|current, writes .cluster/kubeconfig
	@$(CLUSTER_TOOL) up
	@$(CLUSTER_TOOL) images

.PHONY: cluster-down
cluster-down:  ## End the cluster and leave nothing of it behind
	@$(CLUSTER_TOOL) down

.PHONY: images
images:  ## Build the images and load them into the cluster
	@$(CLUSTER_TOOL) images

.PHONY: demo-kubernetes
demo-kubernetes: cluster  ## Cluster, images, helm install, sample sensor and rule; then the events as they come
	@$(DEMO)

.PHONY: up
up: cluster  ## Install the chart (or upgrade it) in the cluster
	@$(DEMO) --only install

.PHONY: down
down:  ## Uninstall the chart; the cluster stays
	@$(DEMO) --only uninstall

.PHONY: status
status:  ## What runs: the cluster, the chart's pods, sensors and rules
	@$(CLUSTER_TOOL) status
	@$(DEMO) --only status
