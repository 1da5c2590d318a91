# Needs Python 3.11 or later with venv, and make. The first target that runs makes the virtual environment, once.
#   make demo | test | test-browser | test-stories | test-slow | lint | format | typecheck | bench | docs | site | wheel | clean
#   make VENV=/elsewhere test     use or make another environment
#   make PYTHON=/path/to/python3  make it with that interpreter

.DEFAULT_GOAL := help

VENV ?= .venv
OUT ?= out
PYTHON ?= python3.11 python3 python

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-amodal-diffusion
BROWSER_STAMP := $(VENV)/.installed-browser

.PHONY: help
help:  ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	@if ! test -x $(BIN)/python; then \
		for name in $(PYTHON); do \
			if $$name -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
				echo "$$name -m venv $(VENV)"; exec $$name -m venv $(VENV); \
			fi; \
		done; \
		echo "none of: $(PYTHON) is a Python 3.11 or later with venv; set PYTHON=/path/to/python3" >&2; exit 1; \
	fi
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[demo,train,features,rooms,onnx,openvino,docs,dev]'
	@touch $@

.PHONY: venv
venv: $(STAMP)  ## Make the virtual environment and install the package with what demo and tests need.

.PHONY: demo
demo: $(STAMP)  ## Complete the objects of one photo and edit the scene; the pictures land in out/.
	$(BIN)/python demos/make_demo.py --output $(OUT)

.PHONY: docs
docs: $(STAMP)  ## Redraw docs/*.jpg, the pictures of the README.
	$(BIN)/python demos/make_demo.py --output $(OUT) --docs docs

.PHONY: site
site: $(STAMP)  ## Build the documentation as a site into out/site.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --site-dir $(OUT)/site

.PHONY: lint
lint: $(STAMP)  ## Check the style with ruff.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: $(STAMP)  ## Repair what ruff can repair.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: typecheck
typecheck: $(STAMP)  ## Check the types of the package with mypy.
	$(BIN)/mypy

.PHONY: test
test: lint typecheck  ## Style, types, and every test that is not slow.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile

# Chromium comes from the system; where there is none, and apt can, it is installed.
$(BROWSER_STAMP): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[demo,train,features,rooms,onnx,openvino,docs,dev,browser]'
	@touch $@

.PHONY: chromium
chromium:  ## Have a Chromium for test-browser: the system's, or Debian's package.
	@for name in "$$CHROMIUM" chromium chromium-browser google-chrome chrome; do \
		if command -v "$$name" >/dev/null 2>&1; then exit 0; fi; \
	done; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; \
	else \
		echo "there is no Chromium: install one, or set CHROMIUM=/path/to/it" >&2; exit 1; \
	fi

.PHONY: test-browser
test-browser: $(BROWSER_STAMP) chromium  ## The demo's page in a headless Chromium; screenshots land in out/browser.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser -m browser

.PHONY: test-stories
test-stories: $(BROWSER_STAMP) chromium  ## Of these, the main stories of both pages, which continuous integration runs.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser/test_demo_browser.py tests/browser/test_review_browser.py -m browser

.PHONY: test-slow
test-slow: $(STAMP)  ## The slow tests.
	$(BIN)/python -m pytest -m slow

.PHONY: bench
bench: $(STAMP)  ## Run every benchmark.
	for script in benchmarks/*_speed.py; do $(BIN)/python "$$script" || exit 1; done

.PHONY: wheel
wheel:  ## Build wheel and sdist into dist/, and check them; needs no other package of the project.
	@for name in $(PYTHON); do \
		if $$name -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			test -x out/build-venv/bin/python || $$name -m venv out/build-venv || exit 1; break; \
		fi; \
	done
	out/build-venv/bin/python -m pip install --disable-pip-version-check -q build twine
	out/build-venv/bin/python -m build --outdir dist .
	out/build-venv/bin/python -m twine check --strict dist/*

.PHONY: clean
clean:  ## Remove caches and build outputs; the environment, out/ and runs/ stay.
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
