# From a fresh clone, `make demo` and `make test` need no preparation.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test test-journeys test-slow kill kill-workers test-search soak mutants tables layers bench lint pages docs notebooks build lock clean browser-pages
.DEFAULT_GOAL = help

help:
	@echo "make demo           sinusoids, then images: train, compare, plot, export (3 minutes)"
	@echo "make test           run the fast tests (4 minutes)"
	@echo "make test-journeys  test command line, runs, pages, examples and exports (6 minutes)"
	@echo "make test-slow      run training proofs and large parameter grids (1 hour)"
	@echo "make test-search    compare random compositions, by default 300 (30 minutes)"
	@echo "make kill           kill runs at random moments, resume them, compare them bit for bit (30 minutes)"
	@echo "make kill-workers   kill one of two workers at random moments, resume, compare (30 minutes)"
	@echo "make soak           train, export, load and adapt; memory must stay flat (30 minutes)"
	@echo "make mutants        change 60 places of the code; do the tests notice? (2 hours)"
	@echo "make tables         repeat the comparisons of docs/comparisons.md and docs/howto/adapters.md (6 hours)"
	@echo "make layers         measure every Keras layer for docs/exactness.md (30 minutes)"
	@echo "make bench          time meta-training beside JAX, PyTorch and their MAML libraries (2 hours)"
	@echo "make lint           run ruff and mypy"
	@echo "make pages          write the pages that come from the code: names, files, commands"
	@echo "make docs           build the documentation site into site/"
	@echo "make browser-pages  write the pages that learn in the browser into site/demo/ (1 minute)"
	@echo "make notebooks      execute the example notebooks and write their pages (3 minutes)"
	@echo "make build          build and check wheel and sdist in dist/"
	@echo "make lock           update requirements.lock"
	@echo "make clean          remove the virtual environment, runs and built files"

# pip compiles modules on one core, `compileall` on all of them. A few files of packages
# are in no language of this Python: they are templates.
$(VENV)/.installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	-$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py
	$(BIN)/python examples/demo_images.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-journeys: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "journey and not slow"

test-slow: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m pytest -m slow

# `make test-search COMPOSITIONS=1000` tries more of them.
COMPOSITIONS ?= 300
test-search: $(VENV)/.installed
	$(BIN)/python -m pytest tests/journeys/test_search.py -m slow --compositions $(COMPOSITIONS)

kill: $(VENV)/.installed
	$(BIN)/python scripts/kill_runs.py --kills 50

kill-workers: $(VENV)/.installed
	$(BIN)/python scripts/kill_workers.py --kills 20

# `make soak MINUTES=3` is a short form.
MINUTES ?= 30
soak: $(VENV)/.installed
	$(BIN)/python scripts/soak.py --minutes $(MINUTES)

mutants: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group mutants
	$(BIN)/python scripts/mutants.py

# TFDS_DATA_DIR is the folder of the Omniglot data set.
tables: $(VENV)/.installed
	$(BIN)/maml-keras compare sinusoid --algorithms maml,random,pretrained,oracle --iterations 20000 --seeds 3 --out runs/tables/sinusoid_baselines
	$(BIN)/maml-keras compare sinusoid --algorithms maml,fomaml,anil,boil,meta_sgd,maml_plus_plus,reptile,imaml,cavia,meta_curvature --iterations 20000 --seeds 3 --out runs/tables/sinusoid
	$(BIN)/maml-keras compare sinusoid --algorithms maml,fomaml,anil,boil,meta_sgd,maml_plus_plus,cavia,meta_curvature --iterations 20000 --steps 1 --seeds 3 --out runs/tables/sinusoid_one_step
	$(BIN)/maml-keras compare sinusoid --algorithms maml,ridge,pretrained,linear_probe --iterations 10000 --steps 10 --seeds 3 --out runs/tables/sinusoid_closed_form
	$(BIN)/maml-keras compare omniglot_small --algorithms maml,fomaml,anil,proto_maml,prototypical,reptile,maml_plus_plus,random,pretrained,prototypes --iterations 1000 --steps 5 --seeds 3 --out runs/tables/omniglot
	$(BIN)/maml-keras compare omniglot_small_20w --algorithms maml,fomaml,prototypical --iterations 300 --steps 5 --seeds 3 --out runs/tables/omniglot_20w
	$(BIN)/python -m benchmarks.adapters

# The table of docs/exactness.md.
layers: $(VENV)/.installed
	$(BIN)/python scripts/layer_table.py

bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.whole_run

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages that are written from the code.
pages: $(VENV)/.installed
	$(BIN)/python -m typer maml_keras_cli.app utils docs --name maml-keras --output docs/api/command_line.md
	$(BIN)/python scripts/api_index.py
	$(BIN)/python scripts/draw_architecture.py

docs: pages
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/zensical build --strict --clean
	@echo "open site/index.html, or python -m http.server --directory site for its search"

# Needs the network, for onnxruntime-web.
browser-pages: $(VENV)/.installed
	$(BIN)/python scripts/browser_pages.py site/demo

notebooks: $(VENV)/.installed
	$(BIN)/python scripts/notebooks.py

build: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group release
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

lock:
	uv pip compile --universal --python-version 3.10 --extra dev --no-annotate --no-header --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) runs build dist site *.egg-info
