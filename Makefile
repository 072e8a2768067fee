# bddn: `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
TUNED := build/finetuning
SPECS := $(sort $(patsubst cache_specs/%.yaml,%,$(wildcard cache_specs/*.yaml)))
# Tests of one file share fixtures, so a file stays in one process. One process more than cores, because some tests mostly
# wait for jobs; each process loads torch, so at most four run. They share the cores, so OpenMP does not divide the work
# of one of them further: its threads would wait for each other.
PROCESSES = $(shell expr $$(nproc) + 1)
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(PROCESSES) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
STEPS := fetch extract fit maps all
# Groups are listed in the specs, on one line each: groups: [table1, figure6]
SPEC_GROUPS := $(sort $(shell sed -n 's/^groups: *\[\([^]]*\)\].*/\1/p' cache_specs/*.yaml | tr ',' ' '))
members = $(patsubst cache_specs/%.yaml,%,$(sort $(shell grep -lE '^groups: *\[([^]]*, *)?$(1) *[],]' cache_specs/*.yaml)))

.DEFAULT_GOAL := help
.PHONY: help install demo finetuning figures gallery docs test check bench bench-extract lowest wheel-test clean

help:
	@echo "make demo           plant a brain, extract, fit, map it, write its page (about 5 minutes)"
	@echo "make finetuning     fine-tune two networks; what they forget of planted brains (6 minutes)"
	@echo "make figures        draw the paper's figures, a film and pages from toy data, without a download"
	@echo "make docs           build the documentation into build/site, without a network"
	@echo "make gallery        draw the pictures of its gallery from the demo (about 8 minutes)"
	@echo "make test           run the tests"
	@echo "make check          format, lint, types and tests, also of the page's scripts"
	@echo "make bench          measure store, fits and recipes at full size (about 4 hours, 30 GB of disk)"
	@echo "make bench-extract  measure extraction against the bare forward pass (about 15 minutes)"
	@echo "make lowest         test with the lowest allowed versions (about 5 minutes, needs a package index)"
	@echo "make wheel-test     build the wheel and run a small demo from it elsewhere (about 4 minutes)"
	@echo "make install        create $(VENV) with bddn and its tools"
	@echo "make clean          remove build/"
	@echo
	@echo "One backbone NAME, or all of a GROUP, with DATA=algonauts:PATH/subj01 or planted:PATH:"
	@echo "make fetch-NAME     download its weights; ARGS=--lock records their hashes in weights.lock"
	@echo "make extract-NAME   cache its tokens in build/NAME/NAME.zarr; ARGS='--workers 2' adds options"
	@echo "make fit-NAME       extract, then fit into build/NAME/run; FIT_ARGS='--seed 1' adds options"
	@echo "make maps-NAME      extract, fit, then draw maps and page of build/NAME/run; also all-NAME"
	@echo "Existing caches and runs are kept. GROUP: $(SPEC_GROUPS). NAME:"
	@echo $(SPECS) | fmt -w 96

$(VENV)/.installed: pyproject.toml constraints.txt
	# one that does not work is made anew: of an older Python, after an update of the system, or stopped halfway
	{ $(BIN)/python -m pip --version && $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; } \
		> /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --upgrade pip # an older one takes twice the time for what follows
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	# without torchvision, which must be of torch's build; tests bring what timm imports of it
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --no-deps timm
	# on all cores, where pip would use one; what few commands import is compiled when they do
	-@$(BIN)/python -m compileall -qq -j 0 -x '/(tests?|transformers/models|diffusers/pipelines|sympy)/' $(VENV)/lib
	touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/bddn plant $(DEMO)
	$(BIN)/bddn extract demo --data planted:$(DEMO) --out $(DEMO)/demo.zarr
	$(BIN)/bddn fit $(DEMO)/demo.zarr --data planted:$(DEMO) --out $(DEMO)/run
	$(BIN)/bddn maps $(DEMO)/run
	$(BIN)/bddn film $(DEMO)/run
	$(BIN)/bddn score $(DEMO)/run --cache $(DEMO)/demo.zarr --data planted:$(DEMO)
	$(BIN)/bddn report $(DEMO)/run --data planted:$(DEMO)

# Each network has a planted brain of its own, which sees through it as it is before fine-tuning.
finetuning: install
	$(BIN)/python pipelines/small_tasks.py $(TUNED)/tasks
	$(BIN)/python pipelines/small_networks.py $(TUNED)/networks
	$(BIN)/bddn plant $(TUNED)/brain_efficientnet --spec pipelines/finetuning_demo/brain.yaml \
		--network $(TUNED)/networks/efficientnet.yaml
	$(BIN)/bddn plant $(TUNED)/brain_small_clip --spec pipelines/finetuning_demo/brain.yaml
	$(BIN)/python pipelines/finetuning.py $(TUNED)/out --fit pipelines/finetuning_demo/fit.yaml \
		--images folder:$(TUNED)/tasks/digits --images folder:$(TUNED)/tasks/textures \
		--old folder:$(TUNED)/tasks/photographs \
		--network $(TUNED)/networks/efficientnet.yaml --data planted:$(TUNED)/brain_efficientnet \
		--settings pipelines/finetuning_demo/tune_efficientnet_digits.yaml \
		--settings pipelines/finetuning_demo/tune_efficientnet_textures.yaml \
		--network pipelines/finetuning_demo/small_clip.yaml --data planted:$(TUNED)/brain_small_clip \
		--settings pipelines/finetuning_demo/tune_small_clip_digits.yaml \
		--settings pipelines/finetuning_demo/tune_small_clip_textures.yaml
	$(BIN)/bddn diagnose $(TUNED)/out/*/before/seed* --out $(TUNED)/out/diagnosis \
		$$(for found in $(TUNED)/out/*/*/step_*/forgetting.json; do echo --evidence $$found; done)

figures: install
	$(BIN)/python tests/draw_figures.py build/figures

$(DEMO)/run/report.html:
	$(MAKE) demo

gallery: install $(DEMO)/run/report.html
	$(BIN)/python docs/making/gallery.py

# With the demo's page and the gallery's pictures, if they were made before.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "documentation: build/site/index.html"

test: install
	$(PYTEST)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tests/report/js/check.py
	$(PYTEST)

bench: install
	$(BIN)/python -m pytest tests/bench --true-size -s
	$(BIN)/python tests/bench/page.py

bench-extract: install
	$(BIN)/python -m pytest tests/bench/test_extract_rate.py --true-size -s

# Versions of direct dependencies are the lowest that pyproject.toml allows; old ones warn of newer ones. Options:
# KEEP='torch==2.13.0+cpu' UV_FIND_LINKS=FOLDER keeps some of them.
LOWEST := build/lowest
UV = $(LOWEST)/tools/bin/uv
LOWEST_EXTRAS := controls film hdf5 lora s3 slurm xarray
LOWEST_TESTS := tests/test_api.py tests/test_run.py tests/test_predict.py tests/test_yaml.py tests/exports \
	tests/store/test_golden.py tests/store/test_writer.py tests/store/test_xarray.py tests/data/test_decoding.py \
	tests/data/test_own_data.py tests/cortex tests/figures/test_single.py tests/report/test_report.py \
	tests/backbones/test_vit.py tests/backbones/test_diffusion.py tests/encoder/test_fit.py tests/film/test_film.py
lowest:
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)/tools
	$(LOWEST)/tools/bin/python -m pip install --quiet uv
	printf '%s\n' $(KEEP) > $(LOWEST)/keep.txt
	$(UV) venv --quiet --python $$($(PYTHON) -c 'import sys; print(sys.executable)') $(LOWEST)/venv
	$(UV) pip compile --quiet --resolution lowest-direct --python $(LOWEST)/venv/bin/python \
		$(LOWEST_EXTRAS:%=--extra %) --constraint $(LOWEST)/keep.txt pyproject.toml --output-file $(LOWEST)/lowest.txt
	$(UV) pip install --quiet --python $(LOWEST)/venv/bin/python --requirement $(LOWEST)/lowest.txt mypy pytest hypothesis playwright
	$(UV) pip install --quiet --python $(LOWEST)/venv/bin/python --no-deps --editable .
	$(LOWEST)/venv/bin/python -m pytest -q --override-ini filterwarnings=ignore $(LOWEST_TESTS)

# The wheel is built from the sdist, and sees nothing of this checkout. DEMO_ARGS= runs the whole demo.
WHEEL := build/wheel
DEMO_ARGS ?= --images 320 --layers 4 --radius 0.3
wheel-test:
	rm -rf $(WHEEL)
	$(PYTHON) -m venv $(WHEEL)/tools
	$(WHEEL)/tools/bin/python -m pip install --quiet build
	$(WHEEL)/tools/bin/python -m build --outdir $(WHEEL)/dist . > $(WHEEL)/build.log
	$(PYTHON) tests/check_wheel.py $(WHEEL)/dist
	$(PYTHON) -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/python -m pip install --quiet --no-compile --constraint constraints.txt $(WHEEL)/dist/*.whl
	elsewhere=$$(mktemp -d) && PATH=$(CURDIR)/$(WHEEL)/venv/bin:$$PATH && cd $$elsewhere && set -x && \
		bddn plant build/demo $(DEMO_ARGS) && \
		bddn extract demo --data planted:build/demo --out build/demo/demo.zarr && \
		bddn fit build/demo/demo.zarr --data planted:build/demo --out build/demo/run && \
		bddn maps build/demo/run && \
		bddn report build/demo/run && \
		bddn export build/demo/run --out encoder && \
		bddn predict build/demo/run build/demo/subj01/training_split/training_images --out here && \
		mv encoder moved && mv build gone && \
		bddn predict moved gone/demo/subj01/training_split/training_images --out there && \
		cmp here/responses.npy there/responses.npy && rm -r $$elsewhere

clean:
	rm -rf build

define backbone_targets
.PHONY: $(STEPS:%=%-$(1))
fetch-$(1): install
	$(BIN)/bddn fetch $(1) $$(ARGS)
extract-$(1): install need-data
	$(BIN)/bddn extract $(1) --data "$$(DATA)" --out build/$(1)/$(1).zarr $$(ARGS)
fit-$(1): extract-$(1)
	$(BIN)/bddn fit build/$(1)/$(1).zarr --data "$$(DATA)" --out build/$(1)/run $$(FIT_ARGS)
maps-$(1): fit-$(1)
	$(BIN)/bddn maps build/$(1)/run
	$(BIN)/bddn report build/$(1)/run
all-$(1): maps-$(1)
endef
$(foreach name,$(SPECS),$(eval $(call backbone_targets,$(name))))

define group_targets
.PHONY: $(STEPS:%=%-$(1))
$(foreach step,$(STEPS),$(eval $(step)-$(1): $(addprefix $(step)-,$(call members,$(1)))))
endef
$(foreach group,$(SPEC_GROUPS),$(eval $(call group_targets,$(group))))

.PHONY: need-data
need-data:
	@test -n "$(DATA)" || { echo "error: expected DATA=algonauts:PATH/subj01 or DATA=planted:PATH; got none." >&2; exit 2; }
