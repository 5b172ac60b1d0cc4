# `make serve` and `make test` set everything up; a second run sets up nothing again.

.DEFAULT_GOAL := help
.PHONY: help setup serve test fuzz soak lint types bench bench-peers bench-train lock audit sbom docker-test clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := service,openvino,cuda,telemetry,trainer,export,tensorboard,pretrained,dev
PEERS := build/bench-peers
PEERS_STAMP := $(PEERS)/.installed
PEER_PACKAGES := fastapi uvicorn python-multipart pillow numpy litserve bentoml 'ray[serve]'
MODEL ?= $(or $(SERVICE_MODEL),voc)
# any of these that is Python 3.11 or newer
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))

help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(STAMP) ## create .venv with the pinned dependencies

$(STAMP): pyproject.toml requirements.lock $(wildcard models/*.[ch])
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint requirements.lock --editable '.[$(EXTRAS)]'
	@touch $@

serve: $(STAMP) ## serve the carried checkpoint on http://127.0.0.1:8000
	$(BIN)/python -m service --model $(MODEL)

# two processes of one thread each: two threads in one process mostly wait for each other
test: lint types ## lint, type check and test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

fuzz: $(STAMP) ## damaged photographs through the whole service, 24,000; DATA=folder, ARGS="--seed 1"
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz $(if $(DATA),--data $(DATA)) $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

bench-train: $(STAMP) ## images/s in training beside a plain loop; DATA=folder, ARGS="--arch unet"
	$(BIN)/python -m benchmarks.training $(if $(DATA),--data $(DATA)) $(ARGS)

bench: $(STAMP) ## measure the service beside other servers; DATA=folder, ARGS=--quick
	-@$(MAKE) --no-print-directory bench-peers
	$(BIN)/python -m benchmarks.serving $(if $(DATA),--data $(DATA)) $(or $(ARGS),--docs docs/serving-speed)

soak: $(STAMP) ## use and misuse the service for half an hour; ARGS="--minutes 5"
	$(BIN)/python -m benchmarks.soak $(or $(ARGS),--docs docs/robustness)

# the servers that the service is measured beside; where they cannot be had their rows say so
bench-peers: $(PEERS_STAMP)

# torch is gigabytes: the peers see that of .venv, behind everything they bring themselves
$(PEERS_STAMP): $(STAMP)
	rm -rf $(PEERS) && $(BIN)/python -m venv $(PEERS)
	grep -E '^(fastapi|numpy|pillow|uvicorn)==' requirements.lock > $(PEERS)/constraints.txt
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(PEERS)/constraints.txt $(PEER_PACKAGES)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		"$$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/product.pth"
	@touch $@

lock: ## pin what a fresh install gives today
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet '.[$(EXTRAS)]'
	build/lock/bin/python -m pip freeze --exclude maskwright | \
		grep -v ' @ ' > requirements.lock

AUDIT := build/audit
AUDIT_STAMP := $(AUDIT)/.installed

# tools of their own: what they bring must not end up among the dependencies they list
$(AUDIT_STAMP):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	rm -rf $(AUDIT) && $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check \
		'pip-audit>=2.7,<3' 'cyclonedx-bom>=5,<8'
	@touch $@

# pip-audit's own exit status tells neither a vulnerability from a database out of reach nor what
# it skipped: tools/audit.py reads its report
audit: $(AUDIT_STAMP) ## look the pinned dependencies up among the known vulnerabilities
	@rm -f build/audit.json
	-@$(AUDIT)/bin/pip-audit --requirement $(or $(REQUIREMENTS),requirements.lock) --no-deps --disable-pip \
		--progress-spinner off --format json --output build/audit.json
	@$(AUDIT)/bin/python tools/audit.py build/audit.json

sbom: $(STAMP) $(AUDIT_STAMP) ## list what .venv holds as CycloneDX JSON, offline: build/sbom.json
	$(AUDIT)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file build/sbom.json $(BIN)/python
	@echo "build/sbom.json"

docker-test: ## build both images with the running Docker engine and try them
	docker/test.sh

clean: ## remove what was built, keep data and runs
	rm -rf $(VENV) build dist *.egg-info models/_compiled* .mypy_cache .pytest_cache .ruff_cache .hypothesis
