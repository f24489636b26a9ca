PYTHON ?= python3.11
BIN := .venv/bin
CORES ?= all
STAMP := .venv/.installed

# One thread a process: two processes side by side beat one with two threads on these small networks.
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1
export NUMBA_NUM_THREADS = 1

.PHONY: setup run test test-slow check format bench comparison paper study results clean

setup: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv || python3 -m venv .venv
	$(BIN)/python -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or newer is needed'"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --only-binary pybullet -e ".[sawyer]" \
		|| echo "There is no wheel of PyBullet for this Python: all but Sawyer Manipulation works."
	touch $(STAMP)

run: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES)

test: setup
	$(BIN)/python -m pytest -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -m slow

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile pipeline/*.smk
	$(BIN)/codespell
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile pipeline/*.smk

bench: setup
	$(BIN)/python -m benchmarks

comparison: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) --configfile config/comparison.yaml

study: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) study

# From the committed tables alone; copy results/study/study*.csv there first after a run of the study.
results: setup
	for folder in docs/results docs/results/study-8-rows docs/results/study-8-seeds docs/results/study-ant; do \
		$(BIN)/python -m pipeline.study_page --csv $$folder/study.csv --out $$folder || exit; \
	done
	$(BIN)/python -m pipeline.gmps_results --out docs/results
	$(BIN)/python -m pipeline.gmps_results --out docs/results/gmps-pixels

paper: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) --configfile config/paper.yaml

clean:
	rm -rf .venv results .snakemake
