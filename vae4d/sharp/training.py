"""Training of the sharp model: one stage, from samples drawn on the training device; in pieces that resume, on one process or many.

A run lives in one folder (`runlog`): newest.safetensors to go on from, best.safetensors with the averaged weights, which are what the run
made. A step depends on its number, the seed and the number of processes alone, so that an interrupted run, started again by the same
call, goes on with the losses it would have had.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import build_model, load_model, locate, read_checkpoint
from ..clips.datasets import open_dataset
from ..config import PRESETS, SharpConfig, choice
from ..errors import ConfigError
from ..files import sha256
from ..metrics import mse, psnr_of_mse
from ..parallel import average, connect, from_first, maximum, processes, rank, reduce_gradients
from ..progress import Say
from ..scenes import WorldOptions, load_textures
from ..scenes.collage import Sample
from ..scenes.textures import Textures
from ..training.result import TrainResult
from ..training.runlog import RunLog, Watch, restore
from ..training.stop import StopRequest
from .camera import twist_matrix
from .losses import WEIGHTS, added_record, losses, same_terms
from .model import Made, SharpAutoencoder4D
from .samples import MOMENTS, SEEDS, Source, Videos, WorldPool, draw_worlds, joined, nearer_first, world_pool

AVERAGE = "average."  # before the names of averaged weights in newest.safetensors
WARM_UP = 100  # steps in which the learning rate rises
LAST = 0.02  # share of the learning rate at the end
NEAR_AT_FIRST = 0.3  # share of the largest motions at the beginning of a run from scratch
GROWING = 0.25  # of its steps, in which motions grow
FLOW_AT_LAST = 0.3  # share of the weight of flow at the end, when pictures decide
ALONE = 0.7  # of the steps, in which matching learns without the correction by gradients, if the weights do not trust it yet
DEEPER = 0.25  # share of batches matched with one level more, as larger frames are
VALIDATED = 32  # held-out samples of each kind
HELD_OUT = 10**9  # seeds of worlds from here on validate


@dataclasses.dataclass(frozen=True)
class SharpTrainConfig:
    """A training run of the sharp model."""

    savepath: str  # folder of the run
    preset: str = "sharp"  # a preset of the sharp model
    steps: int = 7000  # batches in all
    bsize: int = 8  # samples a batch, of all processes together
    size: int = 128  # side of the pictures in pixels
    lr: float = 1e-3  # largest learning rate
    worlds: int = 3000  # ray-cast worlds, drawn once; 0 for collages alone
    world_share: float = 0.375  # of a batch that comes from the worlds
    dataset: str = ""  # real video to mix in: prepared clips as in `prepare`, their train split
    video_share: float = 0.25  # of a batch that comes from the videos, where there are any
    resume: str = ""  # checkpoint whose weights a new run starts from
    textures: str = ""  # folder of photographs; empty takes scikit-image's
    clip_grad: float = 1.0  # largest gradient norm
    decay: float = 0.998  # of the averaged weights, a step
    mixed_precision: str = "bf16"  # no, bf16, fp16 (on a GPU)
    device: str = "auto"  # auto, cpu
    max_minutes: float = 0.0  # stop after so many minutes; the same call goes on; 0 for no limit
    valid_freq: int = 1000  # steps between validations (and at the end)
    save_freq: int = 250  # steps between checkpoints (and at the end, and on interruption)
    data_root: str = "data"  # folder of clips and of drawn worlds
    seed: int = 0
    restart: bool = False  # put a run with other options aside and start anew, instead of refusing

    free = ("savepath", "data_root", "device", "max_minutes", "valid_freq", "save_freq", "restart")

    def __post_init__(self) -> None:
        choice("preset", self.preset, [name for name, config in PRESETS.items() if isinstance(config, SharpConfig)])
        choice("mixed_precision", self.mixed_precision, ("no", "bf16", "fp16"))
        choice("device", self.device, ("auto", "cpu"))
        lowest = {"steps": 1, "bsize": 1, "size": 64, "valid_freq": 1, "save_freq": 1}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not (lowest.get(field.name, 0) <= value < math.inf):
                raise ConfigError(f"{field.name} is {value}: use a finite number of at least {lowest.get(field.name, 0)}.")
        if self.size % 32:
            raise ConfigError(f"size is {self.size}: use a multiple of 32.")
        if self.lr <= 0 or self.clip_grad <= 0:
            raise ConfigError("lr and clip_grad must be above 0.")
        if not self.world_share + self.video_share <= 1 or not self.decay < 1:
            raise ConfigError("world_share and video_share together are at most 1, and decay is below 1.")
        if self.bsize % processes():
            raise ConfigError(f"bsize is {self.bsize}, for {processes()} processes: use a multiple of their number.")
        count = self.bsize // processes()
        if self.dataset and round(count * self.video_share) == count and not self.resume:
            raise ConfigError(f"video_share is {self.video_share:g}: all {count} samples of a process are video, which teach no depth.")
        if self.mixed_precision == "fp16" and (self.device == "cpu" or not torch.cuda.is_available()):
            raise ConfigError("mixed_precision is 'fp16', which needs a GPU: use 'bf16' or 'no' on a CPU.")


def drawn_worlds(
    config: SharpTrainConfig, textures: Textures, device: torch.device, progress: Say
) -> WorldPool | None:
    """The worlds of a training, drawn by the first process where they are not there yet; None where it takes none."""
    if not config.worlds:
        return None
    options = WorldOptions(camera_motion=(0.3, 16.0), object_motion=(0.3, 20.0))
    how = (config.worlds, config.size, config.seed * SEEDS, options, textures, Path(config.data_root) / "cache", device)
    from_first(lambda: world_pool(*how, progress) and None)
    return world_pool(*how, progress)


@dataclasses.dataclass(eq=False)
class Stage:
    """What `runlog` keeps of a run."""

    model: SharpAutoencoder4D
    name: str = "sharp"
    critic: None = None


def train_sharp(
    config: SharpTrainConfig, progress: Say = print, watch: Watch | None = None, kind: type[Run] | None = None
) -> TrainResult:
    """Train, or go on with the run in `config.savepath`; a finished run returns at once.

    Args:
        watch: is told of every row of the run's tables.
        kind: what is run where another model or other weights of the losses are wanted; None takes `Run`.
    Raises:
        ConfigError, MissingInputError, CheckpointError, ClipError: an input is wrong; nothing is written then.
        TrainingError: a loss that is not finite; the batch is saved and the last good checkpoint intact.
        KeyboardInterrupt: interrupted; the finished steps are saved and the same call goes on from there.
    """
    connect()
    torch.set_flush_denormal(True)
    try:
        return (kind or Run)(config, progress if not rank() else lambda line: None, watch).go()
    finally:
        torch.set_flush_denormal(False)


class Run:
    """One call of `train_sharp`."""

    def __init__(self, config: SharpTrainConfig, progress: Say, watch: Watch | None = None):
        self.config, self.progress = config, progress
        on_gpu = config.device == "auto" and torch.cuda.is_available()
        self.device = torch.device("cuda", rank() % torch.cuda.device_count()) if on_gpu else torch.device("cpu")
        self.model = self.start()
        textures = load_textures(config.textures or None, "train")
        videos = open_dataset(config.dataset, config.size, config.data_root).split("train") if config.dataset else []
        identity: dict[str, Any] = {k: v for k, v in dataclasses.asdict(config).items() if k not in config.free}
        before = read_checkpoint(config.resume)[0]["extra"].get("data", []) if config.resume else []
        identity |= {"model": self.model.config.to_dict(), "textures": textures.sha256, "processes": processes()}
        identity["data"] = sorted({clip.sha256 for clip in videos} | set(before))  # all clips that the weights have seen
        identity["resume"] = sha256(locate(config.resume)) if config.resume else ""  # the weights, wherever the file lies
        identity |= added_record()
        if not config.restart:
            same_terms(Path(config.savepath))
        self.log = RunLog(Path(config.savepath), identity, config.restart, config.steps, watch)
        self.adam = torch.optim.AdamW(self.model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=1e-4)
        self.average = copy.deepcopy(self.model)
        restore(Stage(self.model), {"model": self.adam}, self.log.tensors)
        if self.log.tensors:
            self.average.load_state_dict({name: self.log.tensors[AVERAGE + name] for name in self.average.state_dict()})
        self.alone = not bool(self.model.subpixel.trust)
        self.model.to(self.device).train()
        self.average.to(self.device).eval().requires_grad_(False)
        for state in self.adam.state.values():
            state |= {name: value.to(self.device) for name, value in state.items() if name != "step"}
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.mixed_precision == "fp16")
        if "scaler" in self.log.state:
            self.scaler.load_state_dict(self.log.state["scaler"])
        pool = drawn_worlds(config, textures, self.device, self.progress)
        self.source = Source(config.size, textures.to(self.device), pool, config.world_share, self.device, config.seed)
        self.videos = Videos(videos, self.device) if videos else None
        self.times: list[tuple[float, float]] = []

    def start(self) -> SharpAutoencoder4D:
        """The model that a new run starts from."""
        config = self.config
        return load_model(config.resume, config.preset) if config.resume else build_model(config.preset, config.seed)

    def weights(self, progress: float) -> dict[str, float]:
        """Of the losses, when this share of the steps is done: pictures decide at last."""
        return WEIGHTS | {"flow": WEIGHTS["flow"] * (1 - (1 - FLOW_AT_LAST) * progress)}

    def go(self) -> TrainResult:
        """Steps from the log's step to the last."""
        config, began, step = self.config, time.monotonic(), self.log.step
        if step:
            self.progress(f"{config.savepath}: {step} of {config.steps} steps were done before")
        report, first = max(1, config.steps // 50), step
        try:
            with StopRequest() as stop:
                while step < config.steps:
                    row = self.one_step(step)
                    step += 1
                    self.log.write("losses", {"step": step} | row)
                    late = config.max_minutes and time.monotonic() - began > 60 * config.max_minutes
                    last = step == config.steps or bool(maximum(torch.tensor(float(bool(late or stop.received is not None)))))
                    if step % config.valid_freq == 0 or step == config.steps:
                        self.validate(step)
                    if step % config.save_freq == 0 or last:
                        self.save(step)
                    if step % report == 0 or last:
                        left = (time.monotonic() - began) / (step - first) * (config.steps - step)
                        self.progress(f"step {step}/{config.steps}  loss {row['loss']:.4g}  {self.pace()}  about {left / 60:.1f} min left")
                    if last:
                        break
            if stop.received is not None and step < config.steps:
                self.progress(f"Interrupted: {step} steps are saved in {config.savepath}; the same call goes on from there.")
                raise KeyboardInterrupt
        finally:
            self.log.close()
        drawing, work = (1000 * torch.tensor(self.times or [(math.nan, math.nan)]).median(dim=0).values).tolist()
        return TrainResult(Path(config.savepath), step, step >= config.steps, self.log.state.get("best_psnr"), drawing, work)

    def batch(self, step: int) -> tuple[Sample, Tensor]:
        """This process's part of the samples of a step, and which come with their truth."""
        config = self.config
        count, number = config.bsize // processes(), step * processes() + rank()
        videos = round(count * config.video_share) if self.videos else 0
        growing = 0 if config.resume else config.steps * GROWING  # trained weights need no easy start
        reach = min(1.0, NEAR_AT_FIRST + (1 - NEAR_AT_FIRST) * step / growing) if growing else 1.0
        parts = [self.source.batch(count - videos, number, reach)] if count > videos else []
        if videos:
            parts.append(self.videos.batch(videos, config.seed, number))
        known = torch.arange(count, device=self.device) < count - videos
        return joined(parts), known

    def forward(self, batch: Sample, levels: int | None) -> Made:
        """Both frames encoded, paired in the order in which they are given, and the picture at t."""
        count, focal = len(batch.t), batch.focal
        encoded = self.model.encode(torch.cat([batch.first, batch.second]), levels)
        first, second = encoded[:count], encoded[count:]
        return self.model.make(first, second, self.model.one_way(first, second, focal), batch.t.view(-1, 1, 1, 1), focal)

    def one_step(self, step: int) -> dict[str, float]:
        """One batch; returns the mean losses of all processes."""
        config, began = self.config, time.monotonic()
        progress = step / config.steps
        factor = min(1.0, (step + 1) / WARM_UP) * (LAST + (1 - LAST) * (1 + math.cos(math.pi * progress)) / 2)
        for group in self.adam.param_groups:
            group["lr"] = config.lr * factor
        if self.alone and step >= ALONE * config.steps:
            self.join()
        batch, known = self.batch(step)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        drawn = time.monotonic()
        deeper = float(torch.rand(1, generator=torch.Generator().manual_seed(step))) < DEEPER
        levels = int(math.log2(config.size // 32)) + 2 if deeper else None
        half = torch.float16 if config.mixed_precision == "fp16" else torch.bfloat16
        with torch.autocast(self.device.type, half, config.mixed_precision != "no"):
            made = self.forward(batch, levels)
        found = losses(made, batch, known, self.weights(progress))
        self.adam.zero_grad()
        self.scaler.scale(found["loss"]).backward()
        self.scaler.unscale_(self.adam)
        if self.alone:
            self.model.subpixel.trust.grad = None
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        reduce_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_grad)
        values = average(torch.stack([value.detach().double() for value in found.values()] + [norm.double()])).tolist()
        row = dict(zip([*found, "gradient_norm"], values, strict=True))
        if not math.isfinite(row["loss"]) or not (math.isfinite(row["gradient_norm"]) or self.scaler.is_enabled()):
            raise self.log.bad_batch(step + 1, dataclasses.asdict(batch), row["loss"])
        self.scaler.step(self.adam)
        self.scaler.update()
        decay = min(config.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        done = time.monotonic()
        self.times.append((drawn - began, done - drawn))
        return row | {"lr": config.lr * factor, "drawing_seconds": drawn - began, "step_seconds": done - drawn}

    def join(self) -> None:
        """The gradients begin to correct what matching finds. What they mend costs matching nothing, and it would not learn it itself."""
        self.alone = False
        if self.model.subpixel.trust.requires_grad:
            self.log.state["best_psnr"] = None  # what was best is another model now, one without the gradients
            for model in (self.model, self.average):
                torch.nn.init.ones_(model.subpixel.trust)

    def pace(self) -> str:
        """How fast it goes, and what share of it is not learning."""
        drawing, work = (sum(column) for column in zip(*self.times[-50:], strict=True))
        rate = self.config.bsize * len(self.times[-50:]) / (drawing + work)
        busy = ""
        if self.device.type == "cuda":
            try:
                busy = f", GPU {torch.cuda.utilization(self.device)} % busy, {torch.cuda.max_memory_allocated(self.device) / 2**30:.1f} GiB"
            except (ModuleNotFoundError, RuntimeError):  # without NVIDIA's management library nobody can tell
                busy = f", {torch.cuda.max_memory_allocated(self.device) / 2**30:.1f} GiB"
        return f"{rate:.0f} samples/s ({drawing / (drawing + work):.0%} drawing{busy})"

    @torch.no_grad()
    def validate(self, step: int) -> None:
        """Score the averaged weights on held-out collages and worlds of other photographs; they are kept where pictures are best."""
        if rank() == 0:
            row = {"step": step} | validation(self.average, self.held_out(), self.device)
            self.log.write("validation", row)
            figures = "  ".join(f"{name} {value:.3g}" for name, value in row.items() if name != "step")
            self.progress(f"step {step}/{self.config.steps}  validation  {figures}")
            best = self.log.state.get("best_psnr")
            if best is None or row["psnr"] > best:
                self.log.state["best_psnr"] = row["psnr"]
                self.log.save_best(self.average, "sharp", {"step": step, "valid_psnr": row["psnr"]} | self.recipe())

    def held_out(self) -> Sample:
        """The validation samples, drawn once."""
        if not hasattr(self, "_held_out"):
            textures, size = load_textures(self.config.textures or None, "test"), self.config.size
            source = Source(size, textures.to(self.device), None, 0.0, self.device, HELD_OUT)
            parts = [source.batch(VALIDATED, 0)]
            if self.config.worlds:
                seeds = [HELD_OUT + i for i in range(VALIDATED // MOMENTS)]
                parts.append(nearer_first(draw_worlds(seeds, size, WorldOptions(), textures.to(self.device), self.device)))
            self._held_out = joined(parts)
        return self._held_out

    def save(self, step: int) -> None:
        state = {"step": step, "best_psnr": self.log.state.get("best_psnr"), **self.recipe()}
        if self.scaler.is_enabled():
            state["scaler"] = self.scaler.state_dict()
        averaged = {AVERAGE + name: value.detach().cpu().contiguous() for name, value in self.average.state_dict().items()}
        self.log.save(Stage(self.model), {"model": self.adam}, state, averaged)

    def recipe(self) -> dict:
        found = self.log.recipe(self.config)
        return found | {"recipe": found["recipe"] | added_record(), "processes": processes()}


def validation(model: SharpAutoencoder4D, samples: Sample, device: torch.device) -> dict[str, float]:
    """Of held-out samples: PSNR in dB of the pooled error, and means of the end-point error in px where both frames show the point, of the
    rotation error in degrees, and of the error of log depth."""
    error, epe, rotation, depth = [], [], [], []
    for i in range(0, len(samples.t), 8):
        part = Sample(**{f.name: getattr(samples, f.name)[i : i + 8] for f in dataclasses.fields(Sample)})
        made = model.synthesise(part.first, part.second, part.t, focal=part.focal)
        error += mse(made.image, part.target).tolist()
        off = (made.motion[1] - made.motion[0] - (part.flow1 - part.flow0)).square().sum(1).sqrt()
        both = part.visible0 & part.visible1
        epe += ((off * both).flatten(1).sum(1) / both.flatten(1).sum(1).clamp_min(1)).tolist()
        found = model.twist(model.encode(part.first), model.encode(part.second), part.focal)
        turn = twist_matrix(found)[:, :3, :3].transpose(1, 2) @ part.pose[:, :, :3]
        sine = torch.stack([turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]]).norm(dim=0) / 2
        rotation += torch.rad2deg(torch.atan2(sine, (turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2)).tolist()
        ratio = (made.depth / part.depth).log().flatten(1)
        depth += (ratio - ratio.median(dim=1, keepdim=True).values).abs().mean(1).tolist()
    pooled = float(psnr_of_mse(sum(error) / len(error)))
    return {"psnr": pooled} | {n: sum(v) / len(v) for n, v in (("epe", epe), ("rotation", rotation), ("log_depth", depth))}
