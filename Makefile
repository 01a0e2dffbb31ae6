# Every target is a thin line over commands that the README shows.
PYTHON ?= python3
CORES ?= $(shell nproc)
# of the tests: one more than cores, since there is always one that waits
WORKERS = $(shell expr $(CORES) + 1)
FUZZ_TRIES ?= 10000
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test fuzz lint benchmarks figures skies plan sky clean clean-run

demo: $(INSTALLED)  ## simulate the demo survey and process it
	$(BIN)/snakemake --cores $(CORES)
	@cat results/demo/validation.txt
	@echo "tables: results/demo/tables/   page: results/demo/report/index.html"

test: $(INSTALLED)  ## all tests; the reasons of those skipped come last
	$(BIN)/pytest -rs -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests

fuzz: $(INSTALLED)  ## random headers, pixels, catalogues and configurations that are not what they should be
	FUZZ_TRIES=$(FUZZ_TRIES) $(BIN)/pytest -n $(CORES) tests/unit/test_fuzz.py

lint: $(INSTALLED)  ## style of Python and workflow files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

benchmarks: $(INSTALLED)  ## timings beside peer tools, as ratios; writes benchmarks/results.json
	$(BIN)/python benchmarks/run.py

figures: $(INSTALLED)  ## the pictures in the docs, from the demo run
	$(BIN)/python docs/figures.py

skies: $(INSTALLED)  ## simulate, process and score every sky of config/skies; make skies SKIES="crowded wide" for some
	CORES=$(CORES) $(BIN)/python docs/skies.py $(SKIES)

plan: $(INSTALLED)  ## what would run and why, for how long and on how much disk; e.g. make plan ARGS="--configfile my.yaml"
	$(BIN)/python -m planner $(ARGS)

sky: $(INSTALLED)  ## tracts and patches that have images; e.g. make sky ARGS="--configfile my.yaml --picture sky.png"
	$(BIN)/python -m planner sky $(ARGS)

clean:  ## products and logs of all runs; the environment stays
	rm -rf results demo simulated logs .snakemake

clean-run:  ## products and logs of one run: make clean-run RUN=demo
	@test -n "$(RUN)" || { echo "which run? make clean-run RUN=demo"; exit 1; }
	rm -rf "results/$(RUN)" "logs/$(RUN)"

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@
