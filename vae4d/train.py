"""Training of both stages, on Hugging Face Accelerate: the same code on CPU and GPU.

A run lives in one folder (`runlog`). Everything random in step s comes from a generator seeded by (seed, s), so that an
interrupted run, started again by the same call, goes on with the same losses as if it had never stopped.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .checkpoint import build_model, load_model
from .config import PRESETS, choice
from .datasets import ClipWindows, open_dataset
from .errors import ConfigError, MissingInputError
from .files import sha256
from .perceptual import PerceptualLoss
from .runlog import RunLog, restore_optimizer
from .stages import BaseStage, FlowStage, Stage, validate


@dataclass(frozen=True)
class TrainConfig:
    """Options of a training run, with the original's names where it has the option."""

    stage: str = "base"  # base, then flow
    savepath: str = "outputs/train/base"  # folder of this run
    resume: str = ""  # checkpoint to start from; the flow stage needs a base checkpoint
    dataset: str = "samples"  # as notebook 01_data prepared it
    data_root: str = "data"
    preset: str = "small"
    input_size: int = 128  # pixels, the size the data was prepared at
    interval: int = 1  # distance between the frames of a clip, in source frames
    clip_length: int = 0  # frames a clip; 0 takes the stage's own: 6 base, 4 flow
    epochs: int = 2
    max_steps: int = 0  # stop after so many batches; 0 for no limit
    max_minutes: float = 0.0  # stop this call, ready to go on, after so many minutes; 0 for no limit
    bsize: int = 1  # clips a batch
    lr: float = 2e-4
    lambda_l1: float = 10.0  # base stage
    lambda_perc: float = 0.1  # base stage
    lambda_voxel: float = 1.0  # base stage
    perceptual_size: int = 224  # VGG sees images resized to this; 0 takes them as they are
    targets: int = 0  # base stage: frames rebuilt per clip, drawn at random; 0 for all
    pairs: int = 0  # flow stage: reconstruction pairs per clip; 0 for all clip_length squared
    triplets: int = 0  # flow stage: interpolation triplets per clip; 0 for all
    reconstruction_substeps: int = 5  # flow stage: optimiser steps per batch
    interpolation_substeps: int = 3  # flow stage: the same, forward and again reversed
    clip_grad: float = 1.0  # largest gradient norm; 0 for no clipping
    mixed_precision: str = "no"  # no, fp16, bf16
    device: str = "auto"  # auto, cpu
    workers: int = 1  # processes that load data; 0 loads in the training process
    valid_freq: int = 100  # batches between validations (and at the end)
    valid_clips: int = 16  # validation windows, spread over the validation split
    save_freq: int = 50  # batches between checkpoints (and at the end, and on interruption)
    seed: int = 0
    restart: bool = False  # put a run with other options aside and start anew, instead of refusing

    # These change how long a run goes on or where it runs, not what it computes.
    free = ("savepath", "dataset", "data_root", "epochs", "max_steps", "max_minutes", "valid_freq", "valid_clips", "save_freq")
    free += ("device", "workers", "restart")

    def __post_init__(self) -> None:
        choice("stage", self.stage, ("base", "flow"))
        choice("preset", self.preset, PRESETS)
        choice("mixed_precision", self.mixed_precision, ("no", "fp16", "bf16"))
        choice("device", self.device, ("auto", "cpu"))
        lowest = {"interval": 1, "epochs": 1, "bsize": 1, "valid_freq": 1, "valid_clips": 1, "save_freq": 1}
        lowest |= {"reconstruction_substeps": 1, "interpolation_substeps": 1}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not (lowest.get(field.name, 0) <= value < math.inf):
                raise ConfigError(f"{field.name} is {value}: use a finite number of at least {lowest.get(field.name, 0)}.")
        if self.lr <= 0:
            raise ConfigError(f"lr is {self.lr}: use a positive number (2e-4 in the published system).")
        shortest = {"base": 2, "flow": 3}[self.stage]
        if self.clip_length and self.clip_length < shortest:
            raise ConfigError(f"clip_length is {self.clip_length}: the {self.stage} stage needs clips of at least {shortest} frames.")

    @property
    def frames(self) -> int:
        """Frames a clip, the stage's own default resolved."""
        return self.clip_length or {"base": BaseStage, "flow": FlowStage}[self.stage].clip_length


@dataclass(frozen=True)
class TrainResult:
    """What a call of `train` did."""

    folder: Path
    steps: int  # done so far, over all calls
    finished: bool  # False: stopped by max_minutes, call again to go on
    best_psnr: float | None  # dB, validation
    loader_ms: float  # median wait for data per step in this call (NaN when no step ran)
    step_ms: float  # median time of the rest of a step


class Batches:
    """Batch sampler whose order depends on the seed and the epoch alone, and which can start at any step."""

    def __init__(self, count: int, size: int, seed: int, start: int, stop: int):
        self.count, self.batch_size, self.seed, self.start, self.stop = count, size, seed, start, stop
        self.drop_last = False

    @staticmethod
    def per_epoch(count: int, size: int) -> int:
        """Batches in an epoch; the last may be smaller."""
        return math.ceil(count / size)

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        each = self.per_epoch(self.count, self.batch_size)
        for step in range(self.start, self.stop):
            order = torch.randperm(self.count, generator=step_generator(self.seed, step // each, "epoch"))
            first = step % each * self.batch_size
            yield order[first : first + self.batch_size].tolist()


def step_generator(seed: int, index: int, purpose: str) -> torch.Generator:
    """A generator for one step or epoch; purposes do not share their numbers."""
    return torch.Generator().manual_seed(seed * 1_000_003 + index * 2 + (purpose == "epoch"))


class StopRequest:
    """Turns the first interrupt (Ctrl-C, SIGTERM, the notebook's stop button) into a stop between two steps; a second one acts at once."""

    def __enter__(self) -> StopRequest:
        self.received: int | None = None
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # only there can signals be handled
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _handle(self, number: int, frame) -> None:
        self.received = number
        self.__exit__()

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def leave_interrupts_to_the_loop(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal: a loader that died of it would break the step that is being finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def build_stage(config: TrainConfig) -> Stage:
    """The model (new, or from `resume`), its losses and the stage around them, all on the CPU.

    Raises:
        MissingInputError: the flow stage without a base checkpoint, or no such checkpoint.
        CheckpointError: a checkpoint of another preset.
        AssetError: no VGG-16 weights.
    """
    if config.resume:
        model = load_model(config.resume, config.preset)
    elif config.stage == "flow":
        raise MissingInputError("The flow stage starts from a trained base model: run 02_train_autoencoder, or set resume to a checkpoint.")
    else:
        model = build_model(config.preset, config.seed)
    perceptual = PerceptualLoss(Path(config.data_root) / "weights", config.perceptual_size or None)
    if config.stage == "base":
        stage: Stage = BaseStage(model, perceptual, config.lambda_l1, config.lambda_perc, config.lambda_voxel, config.targets or None)
    else:
        substeps = (config.reconstruction_substeps, config.interpolation_substeps)
        stage = FlowStage(model, perceptual, config.pairs or None, config.triplets or None, *substeps)
    model.requires_grad_(False)
    for name in stage.modules_trained:
        model.get_submodule(name).requires_grad_(True)
    return stage


def train(config: TrainConfig, progress: Callable[[str], None] = print) -> TrainResult:
    """Train one stage, or go on with the run in `config.savepath`; a finished run returns at once.

    Raises:
        ConfigError, MissingInputError, CheckpointError, ClipError: an input is wrong; nothing is written then.
        TrainingError: a loss or gradient that is not finite; the batch is saved and the last good checkpoint intact.
        KeyboardInterrupt: interrupted; the finished steps are saved and the same call goes on from there.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if config.mixed_precision == "fp16" and (config.device == "cpu" or not torch.cuda.is_available()):
        raise ConfigError("mixed_precision is 'fp16', which needs a GPU: use 'bf16' or 'no' on a CPU.")
    data = open_dataset(config.dataset, config.input_size, config.data_root)
    windows = ClipWindows(data.split("train"), config.frames, config.interval)
    held_out = ClipWindows(data.split("validate"), config.frames, config.interval, limit=config.valid_clips)
    stage = build_stage(config)
    AcceleratorState._reset_state(reset_partial_state=True)  # a notebook may train twice with different precision
    accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision=config.mixed_precision)

    identity = {name: value for name, value in dataclasses.asdict(config).items() if name not in config.free}
    identity["data"] = sorted(clip.sha256 for clip in data.clips if clip.split != "test")
    identity["resume"] = sha256(config.resume) if config.resume else ""  # the weights, wherever the file lies
    log = RunLog(Path(config.savepath), identity, config.restart)
    if log.tensors:
        state = stage.model.state_dict()
        stage.model.load_state_dict({name: log.tensors[name] for name in state})
    trained = [p for p in stage.model.parameters() if p.requires_grad]
    adam = torch.optim.Adam(trained, lr=config.lr, betas=(0.0, 0.999) if config.stage == "base" else (0.9, 0.999))
    restore_optimizer(adam, log.tensors)
    each = Batches.per_epoch(len(windows), config.bsize)
    total = min(config.epochs * each, config.max_steps or config.epochs * each)
    loader = DataLoader(
        windows,
        batch_sampler=Batches(len(windows), config.bsize, config.seed, log.step, max(total, log.step)),
        num_workers=config.workers,
        worker_init_fn=leave_interrupts_to_the_loop,
    )
    stage, adam, loader = accelerator.prepare(stage, adam, loader)
    if accelerator.scaler is not None and "scaler" in log.state:
        accelerator.scaler.load_state_dict(log.state["scaler"])
    batches = [(item["frames"][None].to(accelerator.device), item["times"][None].to(accelerator.device)) for item in held_out]
    torch.set_flush_denormal(True)  # importance masks make denormal gradients, which a CPU computes six times slower
    try:
        return Loop(config, stage, adam, accelerator, log, total, progress).run(loader, batches)
    finally:
        torch.set_flush_denormal(False)
        log.close()


class Loop:
    """The training loop: steps, validation, checkpoints, interruption."""

    def __init__(self, config: TrainConfig, stage, adam, accelerator, log: RunLog, total: int, progress: Callable[[str], None]):
        self.config, self.stage, self.adam, self.accelerator = config, stage, adam, accelerator
        self.log, self.total, self.progress = log, total, progress
        self.bare: Stage = accelerator.unwrap_model(stage)
        self.best: float | None = log.state.get("best_psnr")
        self.waits: list[float] = []
        self.works: list[float] = []

    def run(self, loader, held_out) -> TrainResult:
        """Steps from the log's step to the total."""
        config, began = self.config, time.monotonic()
        step = self.log.step
        if step:
            self.progress(f"{config.savepath}: {step} of {self.total} steps were done before")
        self.stage.train()
        report = max(1, self.total // 20)
        with StopRequest() as stop:
            waiting = time.monotonic()
            for batch in loader:
                working = time.monotonic()
                losses = self.one_step(step, batch)
                step += 1
                done = time.monotonic()
                self.waits.append(working - waiting)
                self.works.append(done - working)
                self.log.write("losses", {"step": step} | losses | {"loader_seconds": self.waits[-1], "step_seconds": self.works[-1]})
                late = config.max_minutes and done - began > 60 * config.max_minutes
                last = step == self.total or late or stop.received is not None
                if step % config.valid_freq == 0 or step == self.total:
                    self.validate(step, held_out)
                if step % config.save_freq == 0 or last:
                    self.save(step)
                if step % report == 0 or last:
                    left = (done - began) / len(self.works) * (self.total - step)
                    pace = f"{self.works[-1]:.2f} s a step  about {left / 60:.1f} min left"
                    self.progress(f"step {step}/{self.total}  loss {losses['loss']:.4g}  {pace}")
                if last:
                    break
                waiting = time.monotonic()
        if stop.received is not None and step < self.total:
            self.progress(f"Interrupted: {step} steps are saved in {config.savepath}; the same call goes on from there.")
            raise KeyboardInterrupt
        return self.result(step)

    def one_step(self, step: int, batch: dict) -> dict[str, float]:
        """All substeps on one batch; returns mean losses (of the last substep of each kind) and the gradient norm."""
        config, accelerator = self.config, self.accelerator
        rng = step_generator(config.seed, step, "step")
        row: dict[str, float] = {}
        with accelerator.autocast():
            context = self.bare.begin(batch["frames"], batch["times"], rng)
        for substep in self.bare.substeps:
            with accelerator.autocast():
                losses = self.stage(context, substep)
            loss = losses["loss"].mean()
            self.require_finite(step, batch, loss)
            self.adam.zero_grad()
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_([p for p in self.bare.model.parameters() if p.requires_grad], config.clip_grad or math.inf)
            if accelerator.scaler is None:  # the fp16 scaler skips a step with an overflow by itself
                self.require_finite(step, batch, norm)
            self.adam.step()
            kind = substep.split()[0]
            prefix = "" if len(self.bare.substeps) == 1 else f"{kind} "
            row |= {f"{prefix}{name}": value.mean().item() for name, value in losses.items()}
            row["gradient_norm"] = float(norm)
        row.setdefault("loss", sum(value for name, value in row.items() if name.endswith(" loss")))
        return row

    def require_finite(self, step: int, batch: dict, value: Tensor) -> None:
        if not torch.isfinite(value):
            raise self.log.bad_batch(step, batch, value.item())

    def validate(self, step: int, held_out) -> None:
        """Score the validation windows; the best weights so far are kept."""
        psnr = validate(self.bare, held_out)
        self.log.write("validation", {"step": step, "psnr": psnr})
        self.progress(f"step {step}/{self.total}  validation {psnr:.2f} dB")
        if self.best is None or psnr > self.best:
            self.best = psnr
            self.log.save_best(self.bare.model, self.bare.name, {"step": step, "valid_psnr": psnr} | self.recipe())

    def save(self, step: int) -> None:
        scaler = self.accelerator.scaler
        state = {"step": step, "best_psnr": self.best} | ({"scaler": scaler.state_dict()} if scaler is not None else {})
        self.log.save(self.bare.model, self.bare.name, self.adam.optimizer, state | self.recipe())

    def recipe(self) -> dict:
        return {"recipe": dataclasses.asdict(self.config)}

    def result(self, step: int) -> TrainResult:
        wait, work = (1000 * float(torch.tensor(times or [math.nan]).median()) for times in (self.waits, self.works))
        if self.works:
            self.progress(f"a step waits {wait:.1f} ms for data and computes for {work:.0f} ms (medians)")
        return TrainResult(Path(self.config.savepath), step, step >= self.total, self.best, wait, work)
