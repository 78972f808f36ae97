# make run    open napari with the Segment dock and a sample scan (SCAN=path for your own)
# make test   run every check and the whole test suite (ARGS="-k dicom" is handed to pytest)
# Both build .venv from constraints.txt when it is missing or stale. QT=pyqt6 works in .venv-pyqt6.

QT ?= pyqt5
SCAN ?=
ARGS ?=
ifeq ($(filter $(QT),pyqt5 pyqt6),)
$(error QT=$(QT) is not known; use QT=pyqt5 or QT=pyqt6)
endif

VENV := .venv$(if $(filter pyqt5,$(QT)),,-$(QT))
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
LINUX := $(filter Linux,$(shell uname -s))
SCREEN := $(DISPLAY)$(WAYLAND_DISPLAY)$(if $(LINUX),,yes)
# The colour depth and GLX are what the canvas needs; Qt's own offscreen platform has no OpenGL.
XVFB := $(if $(SCREEN),,xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX")

export QT_API := $(QT)
export PYTEST_QT_API := $(QT)

.PHONY: run test lint setup screen clean
.DEFAULT_GOAL := test

run: $(READY) $(if $(SCREEN),screen)
	$(PY) -m napari_llm4seg.demo $(if $(SCAN),"$(SCAN)")

test: lint screen
	$(XVFB) $(PY) -m pytest $(ARGS)

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

setup: $(READY)

$(READY): pyproject.toml constraints.txt hatch_build.py tools/setup.sh
	bash tools/setup.sh venv $(VENV) $(QT)
	touch $@

screen:
	@bash tools/setup.sh screen

clean:
	rm -rf .venv .venv-pyqt6 build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf napari_llm4seg/napari.yaml napari_llm4seg/resources
