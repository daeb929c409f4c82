"""Training of both stages, on Hugging Face Accelerate: the same code on CPU and GPU, in one process or many.

A run lives in one folder (`runlog`). Everything random in step s comes from a generator seeded by (seed, s), so that an
interrupted run, started again by the same call, goes on with the same losses as if it had never stopped. `bsize` counts the clips of
all processes together (`parallel`), so a run may go on with another number of them.
"""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from ..assets import fetch_resnet50
from ..checkpoint import build_model, load_model, locate, read_checkpoint
from ..clips.cleaning import clean
from ..clips.datasets import Dataset as VideoDataset
from ..clips.windows import Batches, ClipWindows
from ..errors import AssetError, ConfigError, MissingInputError
from ..files import sha256, write_text
from ..parallel import PATIENCE, disconnect_at_exit, from_first, rank, synchronise_batch_norm
from ..perceptual import PerceptualLoss
from ..progress import Say
from ..scenes.clips import MixedWindows, SceneSet, SceneWindows, cached
from ..scenes.generate import WorldOptions
from ..scenes.textures import load_textures
from ..training.result import TrainResult
from ..training.runlog import NEWEST, RunLog, Watch, restore
from .discriminator import Discriminator
from .loop import Loop
from .model import VideoAutoencoder4D
from .repairs import Repairs
from .stages import BaseStage, FlowStage, Stage
from .train_config import TrainConfig

LEAST_MOTION = 0.25  # pixels, the smallest motion of a camera or object that moves


def leave_interrupts_to_the_loop(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal: a loader that died of it would break the step that is being finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def new_model(config: TrainConfig, progress: Say) -> VideoAutoencoder4D:
    """A fresh model; a ResNet-50 trunk starts from its ImageNet weights where they can be had, and it is said where not."""
    model = build_model(config.preset, config.seed, **config.changes)
    begins = not (Path(config.savepath) / NEWEST).is_file()  # a run that goes on has its own weights
    if begins and (model.config.resnet_layers, model.config.resnet_width) == ((3, 4, 6, 3), 64):
        try:
            model.encoder_3d.load_imagenet(fetch_resnet50(progress))
        except AssetError as error:
            progress(f"encoder_3d starts from random weights. {error}")
    return model


def new_critic(config: TrainConfig) -> Discriminator:
    """The discriminator of a run; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Discriminator(config.input_size, config.preset)


def build_stage(config: TrainConfig, progress: Say) -> Stage:
    """The model (new, or from `resume`), its losses and the stage around them, all on the CPU.

    Raises:
        MissingInputError: the flow stage without a base checkpoint, or no such checkpoint.
        CheckpointError: a checkpoint of another preset.
        AssetError: no VGG-16 weights.
    """
    if config.resume:
        model = load_model(config.resume, config.preset, **config.changes)
    elif config.stage == "flow":
        raise MissingInputError("The flow stage starts from a trained base model: run 02_train_autoencoder, or set resume to a checkpoint.")
    else:
        model = new_model(config, progress)
    perceptual = PerceptualLoss(Path(config.data_root) / "weights", config.perceptual_size or None)
    if config.stage == "base":
        # Without pictures there is nothing that a critic could judge.
        pictures = config.lambda_gan and (config.lambda_l1 or config.lambda_perc or config.lambda_voxel)
        critic = new_critic(config) if pictures else None
        weights = config.weights if pictures else config.weights | {"gan": 0.0}
        stage: Stage = BaseStage(model, perceptual, critic, weights, config.targets or None, config.reinit_k)
    else:
        substeps = (config.reconstruction_substeps, config.interpolation_substeps)
        limits = (config.pairs or None, config.triplets or None)
        stage = FlowStage(model, perceptual, *limits, Repairs.parse(config.semantics), *substeps, chunk=config.chunk or None)
    model.requires_grad_(False)
    for name in stage.modules_trained:
        model.get_submodule(name).requires_grad_(True)
    return stage


def scene_set(config: TrainConfig, count: int, split: str, seed: int) -> SceneSet:
    """Procedural worlds with the photographs of a split; what they show depends on `seed`."""
    options: dict = {}
    for name, still in (("camera_motion", "still_cameras"), ("object_motion", "still_worlds")):
        most = getattr(config, name)
        options |= {name: (min(LEAST_MOTION, most), most)} if most else {still: 1.0}
    return SceneSet(count, config.frames, config.input_size, WorldOptions(**options), load_textures(config.textures or None, split), seed)


def cleaned(config: TrainConfig, dataset: VideoDataset, progress: Say) -> tuple[VideoDataset, str]:
    """The data set without the videos that the model of `resume` rebuilds badly, and the errors of all as CSV."""
    model = load_model(config.resume, config.preset, **config.changes)
    model.to("cuda" if config.device == "auto" and torch.cuda.is_available() else "cpu")
    # Measured by one process: near the limit, two GPUs may differ.
    found = from_first(lambda: clean(model, dataset.clips, config.clean_limit, Repairs.parse(config.semantics).own_splits))
    names = ", ".join(sorted({clip.name for clip in found.removed})[:5])
    seen = found.table["error"].count()  # without test clips
    progress(f"cleaning: {len(found.removed)} of {seen} clips left out{': ' if names else ''}{names}")
    return dataclasses.replace(dataset, clips=found.kept), found.table.to_csv(index=False, lineterminator="\n")


def training_windows(config: TrainConfig, dataset: VideoDataset | None, progress: Say) -> Dataset:
    """Windows of the videos to train on, of procedural worlds, or both mixed."""
    published = not Repairs.parse(config.semantics).own_splits
    from_video = ClipWindows(dataset.split("train"), config.frames, config.interval, published) if dataset else None
    if not config.scenes:
        return from_video
    scenes = scene_set(config, config.scenes, "train", 2 * config.seed)
    folder = Path(config.data_root) / "cache"
    cache = from_first(lambda: cached(scenes, folder, progress=progress)) if config.scene_cache else None
    worlds = SceneWindows(scenes, cache)
    return worlds if from_video is None else MixedWindows(worlds, from_video, config.scene_share)


def validation_windows(config: TrainConfig, dataset: VideoDataset | None) -> list[dict]:
    """`valid_clips` windows of the videos to validate with, and as many worlds of other photographs and seeds than those trained on.

    In the base stage a window of video has `frame_limit` frames, or as many as the longest shot of the clips.
    """
    found: list[dict] = []
    if videos := dataset.split("validate") if dataset else []:
        published = not Repairs.parse(config.semantics).own_splits
        shots = [shot for clip in videos for shot in ([range(len(clip))] if published else clip.shots())]
        longest = max((len(shot) - 1) // config.interval + 1 for shot in shots)
        length = max(config.frames, min(config.frame_limit, longest)) if config.stage == "base" else config.frames
        found += list(ClipWindows(videos, length, config.interval, published, limit=config.valid_clips))
    if config.scenes:
        found += list(SceneWindows(scene_set(config, config.valid_clips, "test", 2 * config.seed + 1)))
    return found


def train(config: TrainConfig, progress: Say = print, watch: Watch | None = None) -> TrainResult:
    """Train one stage, or go on with the run in `config.savepath`; a finished run returns at once.

    Args:
        watch: is told of every row of the run's tables.
    Raises:
        ConfigError, MissingInputError, CheckpointError, ClipError: an input is wrong; nothing is written then.
        TrainingError: a loss or gradient that is not finite; the batch is saved and the last good checkpoint intact.
        KeyboardInterrupt: interrupted; the finished steps are saved and the same call goes on from there.
    """
    # Importance masks make denormal gradients, which a CPU computes six times slower. First of all, as threads take the setting from the
    # one that starts them.
    torch.set_flush_denormal(True)
    try:
        return run(config, progress, watch)
    finally:
        torch.set_flush_denormal(False)


def run(config: TrainConfig, progress: Say, watch: Watch | None) -> TrainResult:
    """What `train` does."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import InitProcessGroupKwargs

    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    if config.mixed_precision == "fp16" and on_cpu:
        raise ConfigError("mixed_precision is 'fp16', which needs a GPU: use 'bf16' or 'no' on a CPU.")
    AcceleratorState._reset_state(reset_partial_state=True)  # a notebook may train twice with different precision
    patient = InitProcessGroupKwargs(timeout=PATIENCE)  # one process cleans or draws worlds while the others wait
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=config.mixed_precision, kwargs_handlers=[patient])
    disconnect_at_exit()
    dataset, table = config.open_data(), ""
    if config.clean_limit and dataset:
        dataset, table = cleaned(config, dataset, progress)
    windows, held_out = training_windows(config, dataset, progress), validation_windows(config, dataset)
    stage = build_stage(config, progress)
    identity = {name: value for name, value in dataclasses.asdict(config).items() if name not in config.free}
    identity["bsize"] = config.batch
    before = read_checkpoint(config.resume)[0]["extra"].get("data", []) if config.resume else []
    seen = {clip.sha256 for split in ("train", "validate") for clip in (dataset.split(split) if dataset else [])}
    identity["data"] = sorted(seen | set(before))  # all that the weights have seen
    identity["textures"] = load_textures(config.textures or None).sha256 if config.scenes else ""
    identity["resume"] = sha256(locate(config.resume)) if config.resume else ""  # the weights, wherever the file lies
    each = Batches.per_epoch(len(windows), config.batch)
    total = min(config.epochs * each, config.max_steps or config.epochs * each)
    log = RunLog(Path(config.savepath), identity, config.restart, total, watch)
    if table and not rank():
        write_text(log.folder / "cleaning.csv", table)
    adams = {"model": torch.optim.Adam(trained(stage.model), lr=config.lr, betas=(config.adam_beta1, 0.999))}
    if stage.critic is not None:
        adams["critic"] = torch.optim.Adam(stage.critic.parameters(), lr=config.d_lr, betas=(0.0, 0.999))
    restore(stage, adams, log.tensors)
    synchronise_batch_norm(stage)
    stage.to(accelerator.device)
    adams["model"] = accelerator.prepare(adams["model"])  # which knows the scaler of fp16
    if accelerator.scaler is not None and "scaler" in log.state:
        accelerator.scaler.load_state_dict(log.state["scaler"])
    loader = DataLoader(
        windows,
        batch_sampler=Batches(len(windows), config.batch, config.seed, log.step, max(total, log.step)),
        num_workers=config.workers,
        pin_memory=accelerator.device.type == "cuda",
        worker_init_fn=leave_interrupts_to_the_loop,
    )
    try:
        return Loop(config, stage, adams, accelerator, log, progress).run(loader, held_out)
    finally:
        log.close()


def trained(model: VideoAutoencoder4D) -> list[torch.nn.Parameter]:
    """The parameters that the stage changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
