# The one list of commands. `make` alone prints it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
export ARGS GROUP INSTANCE Q

# uv from PATH, or fetched into ~/.cache/metis-rag/uv; it sets up everything else that is Python.
UV = uv=$$(hack/uv) && "$$uv"
RUN = $(UV) run --frozen
# Those that neither wait for anything nor measure anything use every processor.
UNIT = pytest --numprocesses auto tests/unit
# One process each: what a session has started for its tests runs until its end.
COMPONENT = pytest --durations 25 tests/component
E2E = pytest --durations 25 tests/e2e

help:  ## Print this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up:  ## Everything: tools, images, kind cluster, helm install, a Ready MetisRAG; prints its URL
	@$(RUN) python -m hack up $(if $(PORT),--port $(PORT))

dev:  ## The system on this machine, without containers, until Ctrl-C: make dev [ARGS=--help]
	@$(UV) sync --frozen --quiet && export UV="$$uv" && \
	  exec "$${UV_PROJECT_ENVIRONMENT:-.venv}/bin/python" -m app.dev $(ARGS)

ask:  ## Ask the running system: make ask Q="…" [INSTANCE=namespace/name]
	@$(RUN) python -m hack ask -- "$$Q"

down:  ## Delete the cluster of `make up` with its data; images and caches stay
	@$(RUN) python -m hack down

images:  ## Build or pull all images, without a cluster
	@$(RUN) python -m hack images

lint:  ## ruff, mypy, import contracts, generated files
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) lint-imports
	@$(RUN) python -m hack.schema --check

generate:  ## Schemas, CRD and references from charts/stack/values.yaml
	@$(RUN) python -m hack.schema

test-unit:  ## The unit tests, without any I/O
	@$(RUN) $(UNIT) -m 'not full'

test-tools:  ## What the tests need: a browser, etcd, kube-apiserver, versions of Helm
	@$(RUN) python -m hack test-tools

test-cluster:  ## The kind cluster of the end-to-end tests, with the images of this checkout
	@$(RUN) python -m hack cluster up

test: lint test-tools test-cluster  ## Lint, unit, component, and end-to-end on a kind cluster of its own
	@$(RUN) $(UNIT) -m 'not full'
	@$(RUN) $(COMPONENT) -m 'not full'
	@$(RUN) $(E2E) -m 'not full'

bench:  ## Measure ourselves beside a peer into docs/benchmarks.md: make bench [GROUP=mem0]
	@$(RUN) python -m tests.bench $(if $(GROUP),--group "$$GROUP")

test-full: lint test-tools test-cluster  ## The long tests too
	@$(RUN) $(UNIT)
	@$(RUN) $(COMPONENT)
	@$(RUN) $(E2E)

.PHONY: help up dev ask down images lint generate test-unit test-tools test-cluster test bench test-full
