# bddn: `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
SPECS := $(patsubst cache_specs/%.yaml,%,$(wildcard cache_specs/*.yaml))

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench clean

help:
	@echo "make demo           plant a brain, extract, fit and map it (about 4 minutes on 2 cores)"
	@echo "make test           run the tests"
	@echo "make check          format, lint, types and tests"
	@echo "make bench          measure store and fit at true size (about 20 minutes)"
	@echo "make install        make $(VENV) with bddn and its tools"
	@echo "make clean          remove build/"
	@echo
	@echo "One backbone, with DATA=algonauts:PATH/subj01 or planted:PATH (results go to build/NAME):"
	@for name in $(SPECS); do echo "make extract-$$name, make fit-$$name, make maps-$$name"; done

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/bddn plant $(DEMO)
	$(BIN)/bddn extract demo --data planted:$(DEMO) --out $(DEMO)/demo.zarr
	$(BIN)/bddn fit $(DEMO)/demo.zarr --data planted:$(DEMO) --out $(DEMO)/run --epochs 14
	$(BIN)/bddn maps $(DEMO)/run

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench: install
	$(BIN)/python -m pytest tests/bench --true-size -s

clean:
	rm -rf build

define backbone_targets
.PHONY: extract-$(1) fit-$(1) maps-$(1)
extract-$(1): install need-data
	$(BIN)/bddn extract $(1) --data "$$(DATA)" --out build/$(1)/$(1).zarr
fit-$(1): extract-$(1)
	$(BIN)/bddn fit build/$(1)/$(1).zarr --data "$$(DATA)" --out build/$(1)/run
maps-$(1): fit-$(1)
	$(BIN)/bddn maps build/$(1)/run
endef
$(foreach name,$(SPECS),$(eval $(call backbone_targets,$(name))))

.PHONY: need-data
need-data:
	@test -n "$(DATA)" || { echo "error: expected DATA=algonauts:PATH/subj01 or DATA=planted:PATH; got none." >&2; exit 2; }
