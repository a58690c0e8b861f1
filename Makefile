# Two commands do all the set-up on a fresh machine with Python 3.11 to 3.13: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
export OMP_NUM_THREADS ?= 1

.PHONY: demo demo-deep test test-thorough check docs format clean

.venv/demo: pyproject.toml constraints.txt
	@echo "Installing mtbench into .venv, which takes some minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

.venv/dev: pyproject.toml constraints.txt
	@echo "Installing mtbench and the development tools into .venv, which takes some minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[dev]"
	-$(BIN)/python -m compileall -q -j $(JOBS) .venv/lib >/dev/null  # pip would compile with one process
	touch $@ .venv/demo

.venv/docs: pyproject.toml constraints.txt
	@echo "Installing mtbench and the tools of its site into .venv, which takes some minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@ .venv/demo

demo: .venv/demo  ## a real grid on the embedded data sets, and its leaderboard
	$(BIN)/mtbench run examples/demo.toml
	$(BIN)/mtbench report results/demo

demo-deep: .venv/demo  ## soft sharing on ten alphabets of Omniglot, five to ten minutes; needs `mtbench data prepare omniglot`
	$(BIN)/mtbench run examples/demo_deep.toml
	$(BIN)/mtbench report results/demo_deep

test: .venv/dev  ## all tests; those on real data run where MTBENCH_DATA holds it
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-thorough: .venv/dev  ## with all combinations of methods, data sets and backbones: some minutes more
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --thorough

check: .venv/dev  ## format, lint, types, and which floor imports which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/docs  ## the site of docs/, with the reference of all that plugins use; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist site results/default results/demo results/demo_deep
