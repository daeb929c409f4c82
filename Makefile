# make run            set up, then run the notebooks on real video          (results in outputs/quick/)
# make run VIDEO=my.mp4 SET="seed=1 03_train_flow.max_steps=200"    the same on a video of your own, with other parameters
#                     (settings are separated by spaces, so none inside a value: gaps=[2,4])
# make full           the long profile                                      (results in outputs/full/)
# make test           set up, lint and test
# make test-slow      the tests that take minutes each: golden numbers in other forms and sizes
# make browser        open and run every notebook in JupyterLab, driven in Chromium (screenshots in outputs/browser/), and interrupt a training;
#                     then run all of them headlessly, where every view leaves a picture. It needs: apt-get install chromium
# make evaluate       measure baselines and the models that come along on the samples, 128 and 256 px, gaps 2 4 8, and on worlds (results in
#                     outputs/benchmark/); with VIDEO=my.mp4 on a data set of your own
# make lab            set up, then open JupyterLab on the notebooks
# make bench          print speed and memory figures
# make weights        train the weights that come along anew, by the recipe of vae4d/weights/small.md (results in outputs/weights/)
# make sharp          train the sharp model anew on all cores, and score it beside the one that comes along (results in outputs/sharp/);
#                     two hours on two cores; interrupted, the same command goes on. On one GPU: make sharp-gpu
# make clean          remove results, prepared clips and caches; videos, weights and .venv stay

SHELL := /bin/bash
# A python3.11 that runs (a version manager's shim may not), else whatever python3 is.
PYTHON ?= $(shell python3.11 -c "" 2>/dev/null && echo python3.11 || echo python3)
VENV := .venv
RUN := $(VENV)/bin/python -m vae4d
STAMP := $(VENV)/.installed
ASSETS := data/weights/vgg16.safetensors data/weights/alexnet.safetensors \
          data/samples/bigbuckbunny.mp4 data/samples/carphone_pristine.mp4 data/samples/bikes.mp4
OPTIONS = $(if $(VIDEO),--video "$(VIDEO)") $(foreach setting,$(SET),--set '$(setting)')

.PHONY: setup run full test test-slow browser evaluate lab bench weights sharp sharp-gpu clean

setup: $(STAMP)
	@for file in $(ASSETS); do test -s $$file || exec $(RUN) assets; done

# Repeated only when a requirement changed: the stamp is newer than both files.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"vae4d needs Python 3.11 or newer, this is {sys.version.split()[0]}: install it, or name one with make PYTHON=/path/to/python")'
	@# without Debian's python3-venv this fails and leaves a folder that has no pip: made anew the next time
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[notebooks,space,dev]'
	@touch $@

run: setup
	$(RUN) run --profile quick $(OPTIONS)

full: setup
	$(RUN) run --profile full $(OPTIONS)

test: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/python -m pytest

test-slow: setup
	$(VENV)/bin/python -m pytest -m slow

browser: setup
	$(VENV)/bin/python -m pytest -m "slow or not slow" tests/test_browser.py tests/test_end_to_end.py

evaluate: setup
	$(RUN) evaluate --worlds 18 $(if $(VIDEO),--dataset "$(VIDEO)")

lab: setup
	$(VENV)/bin/jupyter lab notebooks

bench: setup
	$(RUN) bench

# Stage by stage from the one before; the same command goes on with a stage that was interrupted.
WORLDS := --clip-grad 1 --scene-cache --clip-length 3 --beta1 0.9 --epochs 1000 --augment
PICTURES := $(WORLDS) --dataset samples --scenes 4000 --scene-share 0.85 --bsize 4 --targets 2 --lambda-gan 0 --lambda-pose 1000 --mixed-precision bf16
weights: setup
	$(RUN) prepare --size 128
	$(RUN) train base --savepath outputs/weights/1-camera $(WORLDS) --dataset "" --scenes 4000 --bsize 8 --targets 1 --lambda-l1 0 \
		--lambda-perc 0 --lambda-voxel 0 --lambda-gan 0 --lambda-pose 1000 --lr 1e-3 --max-steps 3003
	$(RUN) train base --savepath outputs/weights/2-pictures --resume outputs/weights/1-camera/newest.safetensors $(PICTURES) \
		--lambda-perc 0 --lr 1e-3 --max-steps 2566 --valid-freq 300 --valid-clips 12
	$(RUN) train base --savepath outputs/weights/3-perceptual --resume outputs/weights/2-pictures/best.safetensors $(PICTURES) \
		--perceptual-size 0 --lr 3e-4 --max-steps 502 --valid-freq 100 --valid-clips 12
	$(RUN) train flow --savepath outputs/weights/4-flow --resume outputs/weights/3-perceptual/best.safetensors $(WORLDS) \
		--scenes 1000 --scene-share 0.8 --object-motion 8 --bsize 1 --pairs 2 --triplets 1 --perceptual-size 0 --lr 1e-4 \
		--reconstruction-substeps 1 --interpolation-substeps 1 --mixed-precision bf16 --max-steps 185 --valid-freq 60 --valid-clips 10

# A process a core with one thread each: threads that share the many small steps of this model mostly wait for each other.
PROCESSES ?= 2
TRAIN_SHARP := -m vae4d train-sharp --savepath
ON_CORES := -m torch.distributed.run --standalone --nproc-per-node $(PROCESSES) $(TRAIN_SHARP)
sharp: setup
	$(VENV)/bin/python $(ON_CORES) outputs/sharp/1-scratch
	$(VENV)/bin/python $(ON_CORES) outputs/sharp/2-further --resume outputs/sharp/1-scratch/best.safetensors --steps 4500 --lr 5e-4
	$(RUN) evaluate --checkpoint sharp outputs/sharp/2-further/best.safetensors --output outputs/sharp/benchmark --worlds 18

# Pieces of nine minutes; the same command goes on.
sharp-gpu: setup
	$(VENV)/bin/python $(TRAIN_SHARP) outputs/sharp-gpu/run --bsize 64 --steps 8000 --worlds 8000 --max-minutes 9
	$(RUN) evaluate --device cuda --checkpoint sharp outputs/sharp-gpu/run/best.safetensors --output outputs/sharp-gpu/benchmark

clean:
	rm -rf outputs/* data/cache build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
