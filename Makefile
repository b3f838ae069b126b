# `make run` starts a server from a fresh checkout, `make test` is the whole check. `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help run develop debug test check sanitize sabotage fuzz simulate coverage kills crashes failures bench wire clean

DATA ?= ./data
MINUTES ?= 1
KILLS ?= 500
SEEDS ?= 20000
JOBS ?= $(shell nproc)
CUTS ?= 2000
STORE ?= sqlite
CAMPAIGN = PYTHONPATH=.:tests $(PYTHON_VENV) -m campaigns
SCENARIO ?= relay
PYTHON_VENV := .venv/bin/python
BIN := .venv/bin
NATIVE_SOURCES := $(shell find native -name '*.pyx' -o -name '*.pxi' -o -name '*.pxd' -o -name '*.h')

help:            ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):[^#]*## */  make \1\t/' | expand -t 20

# A stamp records that a step has been done for the files it depends on.
.venv/.lock-stamp: requirements.lock
	@tools/setup.sh venv
	@touch $@
.venv/.link-stamp: .venv/.lock-stamp pyproject.toml setup.py
	@tools/setup.sh link
	@touch $@
.venv/.native-stamp: .venv/.link-stamp $(NATIVE_SOURCES)
	@tools/setup.sh native
	@touch $@
.venv/.services-stamp: .venv/.lock-stamp
	@tools/setup.sh services
	@touch $@

run: develop     ## start a server; its data lies in ./data (DATA=dir)
	exec $(BIN)/chatd serve --data $(DATA)

develop: .venv/.native-stamp     ## .venv with all dependencies and chatd, editable

debug: .venv/.link-stamp         ## the same with CHATD_DEBUG=1: expensive invariants are checked
	@CHATD_DEBUG=1 tools/setup.sh native
	@rm -f .venv/.native-stamp

check: develop   ## linters and types only
	@tools/check.sh

test: develop .venv/.services-stamp check     ## everything: linters, types, stubs, all tests
	@$(PYTHON_VENV) -m pytest $(PYTEST_ARGS)

sanitize: develop     ## the native tests with AddressSanitizer and UndefinedBehaviorSanitizer
	@tools/setup.sh sanitize
	@tools/sanitized.sh -P -m pytest -p no:cacheprovider -m "not slow and not services" $(or $(PYTEST_ARGS),tests/unit tests/vectors tests/differential)

fuzz: develop    ## mutate inputs of every parser for MINUTES=n, sanitized; JSON=file for the result
	@tools/setup.sh sanitize
	@tools/sanitized.sh -P tests/fuzz/run.py --minutes $(MINUTES) $(if $(JSON),--json $(JSON))

simulate: develop    ## simulate SEEDS=n seeds on both sides in JOBS=n processes; JSON=file for the result
	@$(CAMPAIGN).simulate --seeds $(SEEDS) --jobs $(JOBS) $(if $(JSON),--json $(JSON)) $(SIMULATE_ARGS)

kills: develop .venv/.services-stamp   ## kill -9 the processes of live servers under load KILLS=500 times and judge every history; STORE=postgresql: its processes, too
	@$(CAMPAIGN).kills --kills $(KILLS) --store $(STORE) $(if $(JSON),--json $(JSON))

crashes: develop .venv/.services-stamp     ## cut the power of a recorded live run at CUTS=2000 places and recover from each
	@$(CAMPAIGN).crash_images --cuts $(CUTS) $(if $(JSON),--json $(JSON))

failures: develop    ## fail the n-th malloc, accept4, epoll_ctl, read, write, mmap, ftruncate of each worker, n=1..500
	@$(CAMPAIGN).failures $(if $(JSON),--json $(JSON)) $(FAILURES_ARGS)

sabotage: develop .venv/.services-stamp    ## build with deliberate faults and show that each one is caught
	@tools/setup.sh sabotage
	@$(CAMPAIGN).sabotages $(if $(JSON),--json $(JSON)) $(SABOTAGE_ARGS)

coverage: develop    ## lines and branches of the parsing code that the tests reach, judged; JSON=file for the result
	@tools/setup.sh coverage
	@find build/coverage -name '*.gcda' -delete
	@PYTHONPATH=build/coverage/lib COVERAGE_FILE=build/coverage/python $(PYTHON_VENV) -P -m coverage run --branch \
		--include="$$($(PYTHON_VENV) tools/covered.py --python-files)" \
		-m pytest -q -p no:cacheprovider tests/unit tests/vectors tests/differential
	@$(PYTHON_VENV) tools/covered.py $(if $(JSON),--json $(JSON))

bench: develop .venv/.services-stamp     ## chatd beside its peers: SCENARIO=relay|durable|…|all, BENCH_ARGS="--json FILE …"
	$(PYTHON_VENV) -m bench $(SCENARIO) $(BENCH_ARGS)

wire: .venv/.link-stamp    ## write the files generated from protocol/schema.toml anew
	$(PYTHON_VENV) protocol/generate.py

clean:           ## remove everything that was built, but not ./data
	rm -rf .venv build dist *.egg-info chatd/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
